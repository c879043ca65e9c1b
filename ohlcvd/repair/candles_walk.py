"""Through one stretch of missing venue candles, page by page, upwards in time. Pure: pages and times are arguments.

A page begins one minute before the stretch. A minute that the answer leaves out is empty only when a later row proves
that the answer reaches past it, and the venue does not send rows for empty minutes anyway. Where it does, a minute
without a row is lost, at the beginning of the stretch because the venue has nothing that old. An answer without rows
proves nothing.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import repeat
from operator import itemgetter
from typing import NamedTuple

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.market import MINUTE_US, Candle, Candles
from ohlcvd.repair.walk import DOUBTS_ALLOWED, PROOF_LAG_US, Lost

_ts_us = itemgetter(0)  # of a candle


class CandleAsk(NamedTuple):
    """One page, as `ExchangeHandler.get_candles` wants it."""

    since_us: int
    limit: int | None

    def __str__(self) -> str:
        return f"candles since {self.since_us} us, limit {self.limit}"


class CandleStep(NamedTuple):
    """What follows from one answer, as `walk.Step`."""

    candles: Sequence[Candle]
    claims: list[Range]
    lost: list[Lost]
    is_done: bool
    doubt: str | None = None


class CandleWalk:
    """One walk through the whole minutes of `hole`, all of them over for at least PROOF_LAG_US when asked."""

    def __init__(self, hole: Range, rules: VenueRules) -> None:
        assert hole[0] % MINUTE_US == hole[1] % MINUTE_US == 0, hole
        self.hole = hole
        self.rows = 0
        self._rules = rules
        self._position = hole[0]
        self._doubts = 0
        self._asked = CandleAsk(0, None)

    def ask(self) -> CandleAsk:
        """The next page. The same again as long as no answer was taken."""
        page = self._rules.candles_page
        # the minute before, those missing, and the one after
        limit = None if page is None else min(page, (self.hole[1] - self._position) // MINUTE_US + 2)
        self._asked = CandleAsk(self._position - MINUTE_US, limit)
        return self._asked

    def take(self, rows: Sequence[Candle], asked_us: int) -> CandleStep:
        """The answer to `ask`, asked at the venue's time `asked_us`: oldest first, each minute once."""
        self.rows += len(rows)
        if not rows or rows[-1].ts_us < self._position:
            return self._doubtful("no rows at all" if not rows else f"rows up to {rows[-1].ts_us} us only")
        upper = min(self.hole[1], rows[-1].ts_us + MINUTE_US, _last_over(asked_us))
        if upper <= self._position:
            return self._doubtful("minutes that are not over yet")
        lower = self._position
        first_us = rows[0].ts_us
        rows = rows[bisect_left(rows, lower, key=_ts_us) : bisect_left(rows, upper, key=_ts_us)]
        lost = self._absent(lower, upper, rows, first_us) if self._rules.sends_empty_minutes else []
        self._position, self._doubts = upper, 0
        claims = coverage.subtract([(lower, upper)], [one.gap for one in lost])
        return CandleStep(_traded(rows), claims, lost, is_done=upper >= self.hole[1])

    def _absent(self, lower: int, upper: int, rows: Sequence[Candle], first_us: int) -> list[Lost]:
        if len(rows) == (upper - lower) // MINUTE_US:
            return []
        present = {*map(_ts_us, rows)}
        absent = [(ts_us, ts_us + MINUTE_US) for ts_us in range(lower, upper, MINUTE_US) if ts_us not in present]
        lost = []
        for gap in coverage.normalise(absent):
            is_too_old = first_us >= gap[1]
            answered = f"rows from {first_us} us on only" if is_too_old else f"no row for {_minutes(gap)}"
            reason = "venue has no history" if is_too_old else "unfillable"
            lost.append(Lost(gap, "", str(self._asked), answered, reason))  # type: ignore[arg-type]
        return lost

    def _doubtful(self, answered: str) -> CandleStep:
        self._doubts += 1
        if self._doubts < DOUBTS_ALLOWED:
            return CandleStep([], [], [], is_done=False, doubt=answered)
        lost = Lost((self._position, self.hole[1]), "", str(self._asked), answered)
        return CandleStep([], [], [lost], is_done=True, doubt=answered)


def _traded(candles: Sequence[Candle]) -> Sequence[Candle]:
    """Those of minutes that had a trade."""
    *_, volumes, trades, _ = Candles.of(candles).columns
    if 0 in trades or "" in map(str.lstrip, volumes, repeat("0.")):
        return [one for one in candles if one.trades != 0 and one.volume.strip("0.")]
    return candles


def _last_over(now_us: int) -> int:
    """Minutes that open before this are over and final."""
    final_us = now_us - PROOF_LAG_US
    return final_us - final_us % MINUTE_US


def _minutes(gap: Range) -> str:
    count = (gap[1] - gap[0]) // MINUTE_US
    return f"the minute of {gap[0]} us" if count == 1 else f"the {count} minutes from {gap[0]} us on"
