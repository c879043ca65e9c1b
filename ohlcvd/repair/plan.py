"""Which stretch is fetched next. Pure: coverage, edges and times are arguments.

missing = wanted - covered, less what is set aside for now. What is missing above something covered is a live hole (a
cut connection, a crash, days off) and comes before history, which is what is missing from `wanted_from` up to the
first thing covered. Live holes are taken newest first; history is taken from its upper end, in blocks, so that what is
nearest to the present is there first. Within a block or hole the walk goes upwards.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.market import MINUTE_US, SECOND_US, Instrument
from ohlcvd.repair.book import Key
from ohlcvd.repair.walk import PROOF_LAG_US

# The present is not fetched in pieces shorter than this while its end is not settled yet.
SHORT_HOLE_US = 60 * SECOND_US
LONG_HOLE_US = 3_600 * SECOND_US
MAX_PAUSE_S = 300.0

PAGES_PER_BLOCK = 20
FIRST_BLOCK_US = 3_600 * SECOND_US
_SHORTEST_BLOCK_US = 60 * SECOND_US
_LONGEST_BLOCK_US = 60 * 86_400 * SECOND_US
_UNKNOWN_PAGE_ROWS = 500
_UNKNOWN_PAGE_MINUTES = 200


class Job(NamedTuple):
    """A stretch to walk through. `trusts_lower`: there is nothing below it that its first row could join."""

    hole: Range
    is_live: bool
    trusts_lower: bool


# How the hole that reaches to the present ends: where the live stream began; where it is about to begin, or has only
# just begun; or nowhere, for there is no live stream.
End = Literal["known", "awaited", "open"]


class Market(NamedTuple):
    """What is known of one market and kind when a job is looked for."""

    wanted: Sequence[Range]
    taken: Sequence[Range]
    set_aside: Sequence[Range]
    end: End = "open"


def wanted(from_us: int | None, live_from_us: int | None, taken: Sequence[Range], venue_now_us: int) -> list[Range]:
    """What repair is to see to, by the minute: from `from_us` (None: nothing) to where the live stream begins.

    `live_from_us` None: there is no live stream, everything up to the present is wanted. What is missing inside of what
    is covered is nobody else's either.
    """
    if from_us is None:
        return []
    edge_us = venue_now_us if live_from_us is None else live_from_us
    if taken:
        edge_us = max(edge_us, taken[-1][1])
    lower = _minute(from_us)
    return [(lower, edge_us)] if lower < edge_us else []


def missing(market: Market, venue_now_us: int, *, begins_long: bool = False) -> list[Range]:
    """What repair has to fetch by now, oldest first.

    What happens at this moment may not be in the venue's history yet. So a short hole that ends at the present is left
    alone until its end is settled, and any that the live stream is about to end; a long one is begun. `begins_long`:
    one that takes many pages does not wait for the live stream either.
    """
    holes = coverage.missing(market.wanted, market.taken)
    if market.set_aside:
        holes = coverage.subtract(holes, coverage.normalise(market.set_aside))
    settled_us = venue_now_us - PROOF_LAG_US
    if holes and holes[-1][1] > settled_us:
        lower, upper = holes.pop()
        is_begun = market.end != "awaited" or (begins_long and settled_us - lower >= LONG_HOLE_US)
        if settled_us - lower >= SHORT_HOLE_US and is_begun:
            holes.append((lower, upper if market.end == "known" else settled_us))
    return holes


def trades_job(market: Market, venue_now_us: int, block_us: int) -> Job | None:
    """The next stretch of trades; at most `block_us` of history."""
    holes = missing(market, venue_now_us, begins_long=True)
    if not holes:
        return None
    lower, upper = holes[-1]
    is_live = _is_live(market, lower)
    if not is_live and upper - lower > block_us + block_us // 2:
        lower = upper - block_us
    return Job((lower, upper), is_live, _is_lowest(market, lower))


def candles_job(market: Market, venue_now_us: int, rules: VenueRules) -> Job | None:
    """The next whole minutes that the venue still has; one answer's worth."""
    reach_us = reach(rules, venue_now_us)
    final_us = _minute(venue_now_us - PROOF_LAG_US)
    minutes = (rules.candles_page or _UNKNOWN_PAGE_MINUTES) - 2  # the seam, and the row behind
    for lower, upper in reversed(missing(market, venue_now_us)):
        first, end = max(_minute(lower), reach_us), min(-(-upper // MINUTE_US) * MINUTE_US, final_us)
        if first < end:
            hole = max(first, end - minutes * MINUTE_US), end
            return Job(hole, _is_live(market, lower), trusts_lower=True)
    return None


def from_trades(market: Market, trades: Sequence[Range], venue_now_us: int, reach_us: int) -> list[Range]:
    """Missing minutes that open before `reach_us`, all of whose trades are in `trades`."""
    holes = [(_minute(lower), min(_up(upper), reach_us)) for lower, upper in missing(market, venue_now_us)]
    holes = coverage.normalise(hole for hole in holes if hole[0] < hole[1])
    ready = [(_up(lower), _minute(upper)) for lower, upper in coverage.intersect(holes, trades)]
    return [(lower, upper) for lower, upper in ready if lower < upper]


def reach(rules: VenueRules, venue_now_us: int) -> int:
    """The open time of the oldest minute that the venue surely has as a candle."""
    if rules.candle_depth_minutes is None:
        return 0
    return _minute(venue_now_us) - (rules.candle_depth_minutes - 3) * MINUTE_US


def next_block_us(rules: VenueRules, block_us: int, rows: int) -> int:
    """How long the next block of history should be, after one of `block_us` that had `rows` rows."""
    target = PAGES_PER_BLOCK * (rules.trades_page or _UNKNOWN_PAGE_ROWS)
    longest = min(_LONGEST_BLOCK_US, 8 * block_us)
    return max(_SHORTEST_BLOCK_US, min(longest, block_us * target // max(rows, 1)))


def _is_live(market: Market, lower: int) -> bool:
    return bool(market.taken) and market.taken[0][0] <= lower


def _is_lowest(market: Market, lower: int) -> bool:
    return any(lower == begin for begin, _ in market.wanted) or coverage.contains(market.taken, lower - 1, lower)


def _minute(ts_us: int) -> int:
    return ts_us - ts_us % MINUTE_US


def _up(ts_us: int) -> int:
    return -(-ts_us // MINUTE_US) * MINUTE_US


class Turns:
    """Who is next: markets with a live hole before all others, and among equals whoever waited longest."""

    def __init__(self) -> None:
        self._served: dict[Key, int] = {}
        self._count = 0
        self._failures: dict[Key, int] = {}
        self._until_s: dict[Key, float] = {}

    def order(self, ready: Iterable[tuple[Key, bool]], now_s: float) -> list[Key]:
        """`ready`: keys and whether it is a live hole. Those that pause are left out."""
        waiting = [(not is_live, self._served.get(key, 0), key) for key, is_live in ready]
        return [key for *_, key in sorted(waiting, key=lambda one: one[:2]) if not self.is_paused(key, now_s)]

    def is_paused(self, key: Key, now_s: float) -> bool:
        return now_s < self._until_s.get(key, 0.0)

    @property
    def has_failed(self) -> bool:
        """Whether anyone's last turn was in vain."""
        return bool(self._until_s)

    def served(self, key: Key) -> None:
        """It had its turn."""
        self._count += 1
        self._served[key] = self._count

    def failed(self, key: Key, now_s: float) -> float:
        """It waits, twice as long each time. Returns how long."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause_s = min(MAX_PAUSE_S, 2.0 ** min(failures, 10))
        self._until_s[key] = now_s + pause_s
        return pause_s

    def forgive(self) -> None:
        """Nobody waits any more: it was the venue's fault."""
        self._failures.clear()
        self._until_s.clear()

    def forget(self, instrument: Instrument) -> None:
        """This market has no turn any more."""
        for known in (self._served, self._failures, self._until_s):
            for key in [key for key in known if key[0] == instrument]:
                known.pop(key)

    def succeeded(self, key: Key) -> None:
        """It does not wait any more."""
        self._failures.pop(key, None)
        self._until_s.pop(key, None)
