"""What somebody probably meant. Pure."""

from collections.abc import Iterable
from difflib import SequenceMatcher

_LIKE = 0.6
_AS_GOOD = 0.1  # one that is less like it than the best by more than this is no help


def nearest(found: str, valid: Iterable[str], *, count: int = 3) -> list[str]:
    """The valid names most like `found`, best first, regardless of case; none when nothing is like it."""
    folded = found.casefold()
    likeness = {name: SequenceMatcher(None, folded, name.casefold()).ratio() for name in sorted(valid)}
    best = max(likeness.values(), default=0.0)
    likely = [name for name, ratio in likeness.items() if ratio >= max(_LIKE, best - _AS_GOOD)]
    likely.sort(key=lambda name: -likeness[name])
    longer = [name for name in likeness if len(folded) > 2 and name.casefold().startswith(folded)]
    return list(dict.fromkeys(likely + longer))[:count]


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """ "; did you mean symbols?" or nothing, to be put at the end of a sentence."""
    names = nearest(found, valid)
    return f"; did you mean {' or '.join(names)}?" if names else ""
