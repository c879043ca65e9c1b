"""What a venue did not give: how often it was asked, when it is asked again. Pure: the time is an argument.

Something missing from an answer is asked for again after a few seconds, then after some more. When it did not come
ATTEMPTS times it is recorded, with what was asked and what came back, and asked for only rarely from then on. Until
it is asked again it is set aside: not covered, and not in the way of what can be fetched.

A gap is known by its place: one that overlaps another is the same one, found again. Two that share a moment are told as
one, with the ids of both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.repair.walk import Lost, Reason

ATTEMPTS = 3
_SOON_S = (2.0, 8.0)
_RARELY_S = 6 * 3600.0
_MOST_RARELY_S = 7 * 86_400.0
_LONGEST_ANSWER = 1_000  # characters of evidence


class Unfillable(NamedTuple):
    """A gap with its evidence, as it is recorded.

    `attempts` in all, `new_attempts` since the last record of it. It is not asked for before `next_in_s` seconds.
    """

    gap: Range
    ids: str
    asked: str
    answered: str
    reason: Reason
    attempts: int
    new_attempts: int
    next_in_s: float


@dataclass(slots=True)
class _Gap:
    lost: Lost
    attempts: int
    until_s: float
    recorded: int  # attempts that are recorded

    @property
    def gap(self) -> Range:
        return self.lost.gap


class LostGaps:
    """Those of one market and kind."""

    def __init__(self) -> None:
        self._gaps: list[_Gap] = []

    def load(self, recorded: Iterable[Unfillable], now_s: float) -> None:
        """What an earlier process recorded."""
        self._gaps = [
            _Gap(
                Lost(one.gap, one.ids, one.asked, one.answered, one.reason),
                one.attempts, now_s + one.next_in_s, one.attempts,
            )
            for one in recorded
        ]  # fmt: skip

    def found(self, lost: Iterable[Lost], hole: Range, now_s: float) -> list[Unfillable]:
        """A walk through `hole` lacks these. Returns those that are to be recorded now."""
        records = []
        for one in _joined(lost):
            known = [before for before in self._gaps if _meet(before.gap, one.gap)]
            self._gaps = [before for before in self._gaps if before not in known]
            # what lies beyond the hole was not asked for this time
            beside = [before.lost for before in known if before.gap[0] < hole[0] or hole[1] < before.gap[1]]
            (one,) = _joined([*beside, one])
            count = 1 + max((before.attempts for before in known), default=0)
            recorded = max((before.recorded for before in known), default=0)
            pause_s = pause_after_s(count)
            if count >= ATTEMPTS:
                new, recorded = count - recorded, count
                records.append(Unfillable(one.gap, one.ids, one.asked, one.answered, one.reason, count, new, pause_s))
            self._gaps.append(_Gap(one, count, now_s + pause_s, recorded))
        return records

    def settle(self, covered: Sequence[Range]) -> None:
        """Forget what has been filled meanwhile."""
        self._gaps = [known for known in self._gaps if not coverage.contains(covered, *known.gap)]

    def all(self) -> list[Range]:
        """Everything that was not given, whenever it is asked for again."""
        return coverage.normalise(known.gap for known in self._gaps)

    def set_aside(self, now_s: float) -> list[Range]:
        """What is not to be asked for now."""
        return coverage.normalise(known.gap for known in self._gaps if now_s < known.until_s)


def pause_after_s(attempts: int) -> float:
    """How long a gap is left alone after so many attempts: seconds, then six hours and twice as long each time."""
    if attempts < ATTEMPTS:
        return _SOON_S[attempts - 1]
    return float(min(_MOST_RARELY_S, _RARELY_S * 2.0 ** min(attempts - ATTEMPTS, 10)))


def _joined(lost: Iterable[Lost]) -> list[Lost]:
    """Those that overlap made one."""
    joined: list[Lost] = []
    for one in sorted(lost):
        if joined and _meet(joined[-1].gap, one.gap):
            before = joined.pop()
            ids = dict.fromkeys(part for part in (*before.ids.split(", "), *one.ids.split(", ")) if part)
            gap = min(before.gap[0], one.gap[0]), max(before.gap[1], one.gap[1])
            answered = f"{before.answered}; {one.answered}" if one.answered not in before.answered else before.answered
            one = one._replace(gap=gap, ids=", ".join(ids), answered=answered[-_LONGEST_ANSWER:])
        joined.append(one)
    return joined


def _meet(one: Range, other: Range) -> bool:
    return one[0] < other[1] and other[0] < one[1]
