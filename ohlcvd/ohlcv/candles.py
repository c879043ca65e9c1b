"""Trades -> 1-minute candles, exactly. Pure: no clock, no I/O; the venue's time is an argument.

A trade belongs to the minute of its own time, whenever it arrives. Open and close follow the venue's order: by time,
then by id where ids are numbers (many trades share one time stamp), else in the order of arrival. Volume is summed
without rounding. A minute that had no trade has no candle.

Invariant: `close()` gives each minute once when it ends; a trade that comes later for one of the last
KEPT_MINUTES minutes gives that minute again, corrected. The caller must hand over each trade once.
"""

from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from functools import reduce
from itertools import count
from operator import itemgetter

from ohlcvd.market import MINUTE_US, Candle, Trade, extremes, minute_of

KEPT_MINUTES = 15

# Decimal's default context would round a sum to 28 digits.
_EXACT = Context(prec=400)
# So many trades of a minute wait: to compare and to sum many takes less time for each.
_WAITING = 64

_TS_US, _ID = itemgetter(0), itemgetter(1)  # of a trade


class _Minute:
    """The running state of one minute."""

    __slots__ = (
        "arrivals", "changed", "first", "high", "high_text", "last", "low", "low_text", "trades", "volume", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.waiting: list[Trade] = []
        self.arrivals = count()
        self.trades = 0
        self.volume = Decimal(0)
        self.changed = False

    def add(self, trades: Sequence[Trade]) -> None:
        self.waiting += trades
        self.changed = True
        if len(self.waiting) >= _WAITING:
            self._settle()

    def _settle(self) -> None:
        times_us, _, prices, amounts, _ = zip(*self.waiting, strict=True)
        first, last = self._at(min, times_us), self._at(max, times_us)
        low_text, high_text = extremes(prices)
        low, high = Decimal(low_text), Decimal(high_text)
        if not self.trades:
            self.first, self.last = first, last
            self.low, self.low_text, self.high, self.high_text = low, low_text, high, high_text
        self.first = min(self.first, first)
        self.last = max(self.last, last)
        if low < self.low:
            self.low, self.low_text = low, low_text
        if high > self.high:
            self.high, self.high_text = high, high_text
        self.volume = reduce(_EXACT.add, map(Decimal, amounts), self.volume)
        self.trades += len(self.waiting)
        self.waiting.clear()

    def _at(self, end: Callable[[Sequence[int]], int], times_us: Sequence[int]) -> tuple[int, int, str]:
        """The first (`min`) or last (`max`) of those that wait, in the venue's order: its time, its place among those
        of that time, its price."""
        ts_us, arrivals = end(times_us), self.arrivals
        if times_us.count(ts_us) == 1:
            own = [self.waiting[times_us.index(ts_us)]]
        else:
            own = [one for one in self.waiting if one[0] == ts_us]
        ids = [*map(_ID, own)]
        if all(map(str.isdecimal, ids)):
            places = [*map(int, ids)]
        else:
            places = [int(id) if id.isdecimal() else next(arrivals) for id in ids]
        place = end(places)
        return ts_us, place, own[places.index(place)].price

    def candle(self, ts_us: int) -> Candle:
        if self.waiting:
            self._settle()
        open_, close, volume = self.first[2], self.last[2], format(self.volume, "f")
        return Candle(ts_us, open_, self.high_text, self.low_text, close, volume, self.trades, source="trades")


class CandleBuilder:
    """Builds the candles of one market. Minutes that began before `complete_from_us` are never given out."""

    def __init__(self) -> None:
        self._minutes: dict[int, _Minute] = {}
        self._waiting: list[Trade] = []  # nobody has looked at their times yet
        self._closed_until_us = 0
        self._late = False  # there was a trade of a minute that is closed, and it is sorted in
        self._complete_from_us: int | None = None

    def restart_from(self, venue_us: int) -> None:
        """Every trade from `venue_us` on will be handed over: minutes that open then or later are complete.

        Called again after an interruption: minutes that were still open at that moment are not complete any more.
        """
        self._sort_in()
        self._complete_from_us = -(-venue_us // MINUTE_US) * MINUTE_US
        for ts_us in [ts_us for ts_us in self._minutes if self._closed_until_us <= ts_us < self._complete_from_us]:
            del self._minutes[ts_us]

    def add(self, *trades: Trade) -> None:
        """Count these, in the order of arrival."""
        self._waiting += trades
        if len(self._waiting) >= _WAITING:
            self._sort_in()

    def _sort_in(self) -> None:
        trades, self._waiting = self._waiting, []
        if not trades:
            return
        times_us = [*map(_TS_US, trades)]
        ts_us = minute_of(min(times_us))
        if max(times_us) < ts_us + MINUTE_US:  # nearly always
            self._add(ts_us, trades)
            return
        minutes: dict[int, list[Trade]] = {}
        for trade in trades:
            minutes.setdefault(minute_of(trade.ts_us), []).append(trade)
        for ts_us, own in minutes.items():
            self._add(ts_us, own)

    def _add(self, ts_us: int, trades: Sequence[Trade]) -> None:
        """These are all of one minute."""
        minute = self._minutes.get(ts_us)
        if minute is None:
            if ts_us < self._closed_until_us - KEPT_MINUTES * MINUTE_US:
                return
            minute = self._minutes[ts_us] = _Minute()
        minute.add(trades)
        if ts_us < self._closed_until_us:
            self._late = True

    def _has_late(self) -> bool:
        """Whether there was a trade of a minute that is closed."""
        return self._late or (bool(self._waiting) and min(map(_TS_US, self._waiting)) < self._closed_until_us)

    def forming(self) -> Candle | None:
        """The newest minute as it stands, or None while no minute is known from its beginning.

        Old trades (a snapshot after subscribing) never make a forming candle.
        """
        self._sort_in()
        ts_us = max(self._minutes, default=0)
        if not ts_us or self._complete_from_us is None or ts_us < self._complete_from_us:
            return None
        return self._minutes[ts_us].candle(ts_us)

    def close(self, until_us: int) -> list[Candle]:
        """The complete minutes that ended at or before `until_us` and are new or changed, oldest first."""
        closed: list[Candle] = []
        if self._complete_from_us is None:
            return closed
        if until_us < self._closed_until_us + MINUTE_US and not self._has_late():  # nearly always
            return closed
        self._sort_in()
        self._late = False
        for ts_us in sorted(self._minutes):
            if ts_us + MINUTE_US > until_us:
                break
            minute = self._minutes[ts_us]
            if minute.changed and ts_us >= self._complete_from_us:
                minute.changed = False
                closed.append(minute.candle(ts_us))
        self._closed_until_us = max(self._closed_until_us, minute_of(until_us))
        for ts_us in [ts_us for ts_us in self._minutes if ts_us < self._closed_until_us - KEPT_MINUTES * MINUTE_US]:
            del self._minutes[ts_us]
        return closed
