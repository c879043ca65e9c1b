"""`ohlcvd gaps`: what is missing and why, and up to where each market is complete.

A gap lies between the first moment that is wanted and the last one that is covered; what has happened since is not
missing yet but on its way, so that moment is told, too.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ohlcvd.config import Config
from ohlcvd.database import Database
from ohlcvd.database.inventory import Extent, Gap, extents_of, gaps_of, markets_of
from ohlcvd.database.repairs import Unfillable
from ohlcvd.report.access import ask_database, check_market
from ohlcvd.report.times import iso, length, moment
from ohlcvd.terminal import safe, table

_HEADER = ("EXCHANGE", "SYMBOL", "KIND", "FROM", "TO", ">LENGTH", "REASON")


class Missing(NamedTuple):
    """Everything that is missing, and how far each market reaches."""

    gaps: Sequence[Gap]
    extents: Sequence[Extent]
    not_kept: Sequence[str] = ()  # sentences: what is dropped when it is old is not missing


def read(config: Config, exchange: str | None = None, symbol: str | None = None) -> Missing:
    """Of everything, of one exchange, or of one market."""
    found = ask_database(config, lambda database: missing(database, exchange, symbol))
    return found._replace(not_kept=config.not_kept(time.time_ns() // 1000))


async def missing(database: Database, exchange: str | None = None, symbol: str | None = None) -> Missing:
    """The same, from a database."""
    check_market(await markets_of(database), exchange, symbol)
    return Missing(await gaps_of(database, exchange, symbol), await extents_of(database, exchange, symbol))


def render(found: Missing) -> str:
    """A table of gaps, each with its evidence below it, and one sentence that sums up. Times are UTC."""
    if not found.gaps:
        return "\n".join([_complete(found.extents), *found.not_kept])
    lines = table(_HEADER, [_row(gap) for gap in found.gaps])
    shown = lines[:1]
    for line, gap in zip(lines[1:], found.gaps, strict=True):
        shown.append(line)
        if gap.evidence is not None:
            shown += [f"    {safe(text)}" for text in _evidence(gap.evidence)]
    counts = Counter(gap.reason for gap in found.gaps)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return "\n".join([*shown, "", f"{_number(len(found.gaps), 'gap')}: {reasons} (times are UTC)", *found.not_kept])


def as_dict(found: Missing) -> dict[str, object]:
    """For JSON. Times are ISO, in UTC; `length_s` are seconds; `notes` are sentences: what is no longer kept."""
    return {
        "gaps": [
            {
                "exchange": gap.exchange,
                "symbol": gap.symbol,
                "kind": gap.kind,
                "from": iso(gap.lower_us),
                "to": iso(gap.upper_us),
                "length_s": (gap.upper_us - gap.lower_us) / 1_000_000,
                "reason": gap.reason,
                "evidence": None if gap.evidence is None else _evidence_dict(gap.evidence),
            }
            for gap in found.gaps
        ],
        "markets": [
            {
                "exchange": extent.exchange,
                "symbol": extent.symbol,
                "kind": extent.kind,
                "since": iso(extent.since_us),
                "until": None if extent.until_us is None else iso(extent.until_us),
            }
            for extent in found.extents
        ],
        "notes": list(found.not_kept),
    }


def _row(gap: Gap) -> list[str]:
    return [
        gap.exchange,
        gap.symbol,
        gap.kind,
        moment(gap.lower_us),
        moment(gap.upper_us),
        length(gap.upper_us - gap.lower_us),
        gap.reason,
    ]


def _evidence(found: Unfillable) -> list[str]:
    times = "once" if found.attempts == 1 else f"{found.attempts} times since {moment(found.first_us)}"
    return [
        *([f"ids {found.ids}"] if found.ids else []),
        f"asked {times}, last {moment(found.last_us)}, next {moment(found.next_us)}",
        f"asked: {found.asked}",
        f"answered: {found.answered}",
    ]


def _evidence_dict(found: Unfillable) -> dict[str, object]:
    return {
        "ids": found.ids or None,
        "attempts": found.attempts,
        "asked": found.asked,
        "answered": found.answered,
        "first": iso(found.first_us),
        "last": iso(found.last_us),
        "next": iso(found.next_us),
    }


def _complete(extents: Sequence[Extent]) -> str:
    """Nothing is missing: of how much, and up to when, which is for each kind that of the market least far."""
    if not extents:
        return "nothing is missing, for nothing was collected yet"
    markets = {(extent.exchange, extent.symbol) for extent in extents}
    ends: dict[str, list[int]] = {}
    for extent in extents:
        if extent.until_us is not None:
            ends.setdefault(extent.kind, []).append(extent.until_us)
    until = " and ".join(f"{kind} up to {moment(min(times))}" for kind, times in ends.items())
    return f"nothing is missing: {_number(len(markets), 'market')}, {until} (UTC)"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
