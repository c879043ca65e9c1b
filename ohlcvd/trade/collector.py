"""The live trades of one market: each one once to the writer, candles built from them, coverage claimed for them.

The collector is driven from outside: the manager hands over what the stream brings, and calls `tick` with the venue's
time about twice a second. It does no I/O itself, so every decision in it can be tested by calling it.

Coverage is claimed only for time that the stream was unbroken, up to COVERAGE_LAG_US before the venue's present: by
then whatever happened has arrived, or the watchdog has found the connection dead. It goes through the writer behind
the rows that it speaks of, never before them, every CLAIM_US and when the stream ends. Where the venue numbers its
trades one after the other, a jump in the live numbers takes the claim of that moment back, and repair fetches what is
missing.
"""

from collections.abc import Sequence

from ohlcvd.alone import Alone, NoStore
from ohlcvd.log import get_component_logger
from ohlcvd.market import MINUTE_US, SECOND_US, Candle, Instrument, Trade, minute_of
from ohlcvd.ohlcv.candles import CandleBuilder
from ohlcvd.ohlcv.minutes import DEFAULT_GRACE_US
from ohlcvd.store import Store
from ohlcvd.trade.seen import SeenIds, SeenNumbers

# Longer than the time after which a silent connection is declared dead (6 s), shorter than the 20 s promised.
COVERAGE_LAG_US = 10 * SECOND_US
# How far a claim of a quiet market goes: each costs a write. With the lag and a second between two looks, it trails by
# 17 s at the most. The first of a minute comes together with those of its candles, which are decided then, too.
CLAIM_US = 6 * SECOND_US
# A built candle waits this long for its last trades; a trade that comes even later corrects it.
CLOSE_GRACE_US = 2 * SECOND_US


class TradeCollector(Alone):
    """One market's trades. With `stores_candles` (no candle service runs) the candles built are stored too.

    `TradeCollector("BTC/USD", "kraken")` is one by itself: see `ohlcvd.alone`.
    """

    KIND = "trades"
    SERVICE = "trade"

    def __init__(
        self,
        symbol: str,
        exchange: str,
        *,
        instrument: Instrument | None = None,
        store: Store | None = None,
        stores_candles: bool = False,
        sequential_ids: bool = False,
    ) -> None:
        super().__init__(symbol, exchange, driven=store is not None)
        self.instrument = instrument or Instrument(0, exchange, symbol)
        self.log = get_component_logger(f"ohlcvd.trade.collector.{exchange}.{symbol}")
        self.received = 0
        self.last_trade: Trade | None = None
        self.refused: str | None = None
        self._store: Store = store or NoStore()
        self._stores_candles = stores_candles
        self._sequential_ids = sequential_ids
        self._last_live: Trade | None = None
        self._last_number = 0  # its id
        self._builder = CandleBuilder()
        self._seen = SeenNumbers() if sequential_ids else SeenIds()
        self.live_from_us: int | None = None  # since when the stream is unbroken; None while it is not
        self.left_out = 0  # trades that came while there was no room for them
        self._suspended = False
        self._streams = False  # while suspended: whether the stream is unbroken
        self._left_out_to_us = 0
        self._claimed_to_us = 0
        self._claim_at_us = 0  # in the venue's time
        self._claimable_to_us = 0  # by the last tick
        self._candles_from_us = 0
        self._reached_us: int | None = None  # where the venue is asked again and again: nothing is known beyond

    def on_trades(self, trades: Sequence[Trade], snapshot: bool) -> None:
        """Trades of a frame in the venue's order; those seen before are dropped here."""
        if self._suspended:
            self.left_out += len(trades)
            self._left_out_to_us = max([self._left_out_to_us, *(trade.ts_us for trade in trades)])
            return
        follow = isinstance(self._seen, SeenNumbers) and self._seen.follow(trades)
        fresh = trades if follow else self._seen.fresh(trades)
        if not fresh:
            return
        self._store.add_trades(self.instrument, fresh)
        if self._sequential_ids and not snapshot:
            self._follow_ids(fresh, all_follow=follow)
        self._note(fresh)

    def take(self, trades: Sequence[Trade]) -> Sequence[Trade] | None:
        """As `on_trades` of live ones, but where that says nothing of claims, which is nearly always; then the caller
        stores what is returned. None: it is for `on_trades`."""
        if self._suspended:
            return None
        if not isinstance(self._seen, SeenNumbers):
            fresh: Sequence[Trade] = self._seen.fresh(trades)
        elif self._last_live is None or not self._seen.follow(trades, after=self._last_number):
            return None
        else:
            fresh, self._last_live = trades, trades[-1]
            self._last_number += len(trades)
        if fresh:
            self._note(fresh)
        return fresh

    def _note(self, fresh: Sequence[Trade]) -> None:
        self.received += len(fresh)
        self._builder.add(*fresh)
        last = fresh[-1]
        if self.last_trade is None or last.ts_us >= self.last_trade.ts_us:
            self.last_trade = last

    def subscribed(self, venue_us: int) -> None:
        """From `venue_us` on the stream brings every trade."""
        self.refused = None
        if self._suspended:
            self._streams = True
            return
        self.live_from_us = venue_us
        self._last_live = None
        self._begin_at(venue_us)
        self.log.debug("trade stream is live", venue_time_us=venue_us)

    def interrupted(self, reason: str) -> None:
        """Trades may be missed from here on; what could be claimed before is, and no more."""
        if self.live_from_us is not None:
            self._claim()
        self._streams = False
        self.live_from_us = None
        self._last_live = None
        self.log.debug("trade stream interrupted", reason=reason)

    def reached(self, venue_us: int) -> None:
        """The venue was asked at this time; what has happened since then is not known."""
        self._reached_us = venue_us

    def suspend(self, reason: str) -> None:
        """There is no room: trades are left out and not claimed until `resume`."""
        if not self._suspended:
            streams = self.is_live
            self.interrupted(reason)
            self._suspended, self._streams = True, streams

    def resume(self, venue_us: int) -> None:
        """There is room again: claims begin after the last trade that was left out, and what is between is fetched."""
        if self._suspended:
            self._suspended = False
            if self._streams:
                self.subscribed(max(venue_us, self._left_out_to_us + 1))

    def doubted(self, reason: str) -> None:
        """As `interrupted`, but trades may have been missed since the last one: what was claimed is taken back."""
        if self.live_from_us is not None:
            self._claim()
            last_us = self.live_from_us if self.last_trade is None else self.last_trade.ts_us
            lower_us = max(self.live_from_us, last_us)
            if lower_us < self._claimed_to_us:
                self._store.uncover(self.instrument, "trades", lower_us, self._claimed_to_us)
            if self._stores_candles and minute_of(lower_us) < self._candles_from_us:
                self._store.uncover(self.instrument, "candles", minute_of(lower_us), self._candles_from_us)
        self.interrupted(reason)

    def refuse(self, reason: str) -> None:
        """The venue does not accept the subscription."""
        self.refused = reason
        self.log.error("trade stream refused by the venue, asking again later", reason=reason)

    def live_now(self) -> bool:
        return self.is_live

    def last_us(self) -> int | None:
        return None if self.last_trade is None else self.last_trade.ts_us

    @property
    def is_live(self) -> bool:
        """Whether the stream is subscribed and unbroken."""
        return self.live_from_us is not None

    @property
    def candles_from_us(self) -> int | None:
        """The first minute that the live stream brings whole; None while there is no live stream."""
        return None if self.live_from_us is None else _next_minute(self.live_from_us)

    def tick(self, venue_now_us: int) -> list[Candle]:
        """Close minutes and extend coverage; returns the candles built from complete minutes."""
        if self.live_from_us is None:
            return []
        if self._reached_us is not None:
            venue_now_us = min(venue_now_us, self._reached_us)
        candles = self._builder.close(venue_now_us - CLOSE_GRACE_US)
        if self._stores_candles:
            self._store_candles(candles, venue_now_us)
        self._claimable_to_us = venue_now_us - COVERAGE_LAG_US
        # For all markets at the same moments: what is claimed together is written together.
        if venue_now_us >= self._claim_at_us:
            self._claim()
        return candles

    def _claim(self) -> None:
        if self._claimable_to_us > self._claimed_to_us:
            self._store.cover(self.instrument, "trades", self._claimed_to_us, self._claimable_to_us)
            self._claimed(self._claimable_to_us)

    def _claimed(self, to_us: int) -> None:
        self._claimed_to_us = to_us
        moments = (to_us + COVERAGE_LAG_US - DEFAULT_GRACE_US) // CLAIM_US
        self._claim_at_us = (moments + 1) * CLAIM_US + DEFAULT_GRACE_US

    def forming(self) -> Candle | None:
        """The candle of the running minute as the trades seen so far make it."""
        return self._builder.forming()

    def _store_candles(self, candles: list[Candle], venue_now_us: int) -> None:
        if candles:
            self._store.add_candles(self.instrument, candles)
        upper_us = minute_of(venue_now_us - COVERAGE_LAG_US)
        if upper_us > self._candles_from_us:
            self._store.cover(self.instrument, "candles", self._candles_from_us, upper_us)
            self._candles_from_us = upper_us

    def _begin_at(self, venue_us: int) -> None:
        """From here on every trade is at hand: claims and complete minutes begin anew."""
        self._claimable_to_us = venue_us
        self._claimed(venue_us)
        self._candles_from_us = _next_minute(venue_us)
        self._builder.restart_from(venue_us)

    def _follow_ids(self, trades: Sequence[Trade], *, all_follow: bool) -> None:
        """Hold the live numbers against each other: one that was left out is a hole, whatever the connection says.
        `all_follow`: each number is the one after that of the trade before it."""
        if all_follow and self._last_live is not None and int(trades[0].id) == self._last_number + 1:
            self._last_live, self._last_number = trades[-1], int(trades[-1].id)
            return
        for trade in trades:
            last, last_number, number = self._last_live, self._last_number, int(trade.id)
            if last is not None and number <= last_number:
                continue  # an old one, sent late
            self._last_live, self._last_number = trade, number
            if last is None or number == last_number + 1:
                continue
            if last.ts_us > self._claimed_to_us and self.is_live:
                self._store.cover(self.instrument, "trades", self._claimed_to_us, last.ts_us)
            # what is missing may bear either of the two times
            lower_us, upper_us = min(last.ts_us, trade.ts_us), max(last.ts_us, trade.ts_us) + 1
            self._store.uncover(self.instrument, "trades", lower_us, upper_us)
            if self._stores_candles:
                self._store.uncover(self.instrument, "candles", minute_of(lower_us), _next_minute(upper_us))
            if self.is_live:
                self._begin_at(upper_us)
            self.log.warning("trades left out by the live stream, fetching them", after=last.id, before=trade.id)


def _next_minute(ts_us: int) -> int:
    return -(-ts_us // MINUTE_US) * MINUTE_US
