"""The live trades of one market: each one once to the writer, candles built from them, coverage claimed for them.

The collector is driven from outside: the manager hands over what the stream brings, and calls `tick` with the venue's
time about twice a second. It does no I/O itself, so every decision in it can be tested by calling it.

Coverage is claimed only for time that the stream was unbroken, up to COVERAGE_LAG_US before the venue's present: by
then whatever happened has arrived, or the watchdog has found the connection dead. It goes through the writer behind
the rows that it speaks of, never before them. Where the venue numbers its trades one after the other, a jump in the
live numbers takes the claim of that moment back, and repair fetches what is missing.
"""

from collections.abc import Sequence

from ohlcvd.log import get_component_logger
from ohlcvd.market import MINUTE_US, SECOND_US, Candle, Instrument, Trade, minute_of
from ohlcvd.ohlcv.candles import CandleBuilder
from ohlcvd.store import Store

# Longer than the time after which a silent connection is declared dead (6 s), shorter than the 20 s promised.
COVERAGE_LAG_US = 10 * SECOND_US
# A built candle waits this long for its last trades; a trade that comes even later corrects it.
CLOSE_GRACE_US = 2 * SECOND_US
# Venues send again at most their last 1,000 trades after a subscription.
REMEMBERED_IDS = 4096


class TradeCollector:
    """One market's trades. With `stores_candles` (no candle service runs) the candles built are stored too."""

    def __init__(
        self,
        symbol: str,
        exchange: str,
        *,
        instrument: Instrument,
        store: Store,
        stores_candles: bool,
        sequential_ids: bool,
    ) -> None:
        self.symbol = symbol
        self.instrument = instrument
        self.log = get_component_logger(f"ohlcvd.trade.collector.{exchange}.{symbol}")
        self.received = 0
        self.last_trade: Trade | None = None
        self.refused: str | None = None
        self._store = store
        self._stores_candles = stores_candles
        self._sequential_ids = sequential_ids
        self._last_live: Trade | None = None
        self._builder = CandleBuilder()
        self._seen_ids: dict[str, None] = {}
        self.live_from_us: int | None = None  # since when the stream is unbroken; None while it is not
        self._claimed_to_us = 0
        self._candles_from_us = 0

    def on_trades(self, trades: Sequence[Trade], snapshot: bool) -> None:
        """Trades of a frame in the venue's order; those seen before are dropped here."""
        fresh = [trade for trade in trades if self._is_new(trade)]
        if not fresh:
            return
        self.received += len(fresh)
        self._store.add_trades(self.instrument, fresh)
        if self._sequential_ids and not snapshot:
            self._follow_ids(fresh)
        for trade in fresh:
            self._builder.add(trade)
        if self.last_trade is None or fresh[-1].ts_us >= self.last_trade.ts_us:
            self.last_trade = fresh[-1]

    def subscribed(self, venue_us: int) -> None:
        """From `venue_us` on the stream brings every trade."""
        self.refused = None
        self.live_from_us = venue_us
        self._last_live = None
        self._begin_at(venue_us)
        self.log.debug("trade stream is live", venue_time_us=venue_us)

    def interrupted(self, reason: str) -> None:
        """Trades may be missed from here on; coverage stays at what was claimed before."""
        self.live_from_us = None
        self._last_live = None
        self.log.debug("trade stream interrupted", reason=reason)

    def refuse(self, reason: str) -> None:
        """The venue does not accept the subscription."""
        self.refused = reason
        self.log.error("trade stream refused by the venue, asking again later", reason=reason)

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
        candles = self._builder.close(venue_now_us - CLOSE_GRACE_US)
        if self._stores_candles:
            self._store_candles(candles, venue_now_us)
        upper_us = venue_now_us - COVERAGE_LAG_US
        if upper_us > self._claimed_to_us:
            self._store.cover(self.instrument, "trades", self._claimed_to_us, upper_us)
            self._claimed_to_us = upper_us
        return candles

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
        self._claimed_to_us = venue_us
        self._candles_from_us = _next_minute(venue_us)
        self._builder.restart_from(venue_us)

    def _follow_ids(self, trades: Sequence[Trade]) -> None:
        """Hold the live numbers against each other: one that was left out is a hole, whatever the connection says."""
        for trade in trades:
            last = self._last_live
            if last is not None and int(trade.id) <= int(last.id):
                continue  # an old one, sent late
            self._last_live = trade
            if last is None or int(trade.id) == int(last.id) + 1:
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

    def _is_new(self, trade: Trade) -> bool:
        if trade.id in self._seen_ids:
            return False
        self._seen_ids[trade.id] = None
        if len(self._seen_ids) > REMEMBERED_IDS:
            del self._seen_ids[next(iter(self._seen_ids))]
        return True


def _next_minute(ts_us: int) -> int:
    return -(-ts_us // MINUTE_US) * MINUTE_US
