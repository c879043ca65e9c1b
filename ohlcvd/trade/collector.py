"""The live trades of one market: each one once to the writer, candles built from them, coverage claimed for them.

The collector is driven from outside: the manager hands over what the stream brings, and calls `tick` with the venue's
time about twice a second. It does no I/O itself, so every decision in it can be tested by calling it.

Coverage is claimed only for time that the stream was unbroken, up to COVERAGE_LAG_US before the venue's present: by
then whatever happened has arrived, or the watchdog has found the connection dead. It goes through the writer behind
the rows that it speaks of, never before them.
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
        self, symbol: str, exchange: str, *, instrument: Instrument, store: Store, stores_candles: bool
    ) -> None:
        self.symbol = symbol
        self.instrument = instrument
        self.log = get_component_logger(f"ohlcvd.trade.collector.{exchange}.{symbol}")
        self.received = 0
        self.last_trade: Trade | None = None
        self.refused: str | None = None
        self._store = store
        self._stores_candles = stores_candles
        self._builder = CandleBuilder()
        self._seen_ids: dict[str, None] = {}
        self._unbroken_from_us: int | None = None
        self._candles_from_us = 0

    def on_trades(self, trades: Sequence[Trade]) -> None:
        """Trades of a frame in the venue's order, snapshot or live; those seen before are dropped here."""
        fresh = [trade for trade in trades if self._is_new(trade)]
        if not fresh:
            return
        self.received += len(fresh)
        self._store.add_trades(self.instrument, fresh)
        for trade in fresh:
            self._builder.add(trade)
        if self.last_trade is None or fresh[-1].ts_us >= self.last_trade.ts_us:
            self.last_trade = fresh[-1]

    def subscribed(self, venue_us: int) -> None:
        """From `venue_us` on the stream brings every trade."""
        self.refused = None
        self._unbroken_from_us = venue_us
        self._candles_from_us = -(-venue_us // MINUTE_US) * MINUTE_US
        self._builder.restart_from(venue_us)
        self.log.debug("trade stream is live", venue_time_us=venue_us)

    def interrupted(self, reason: str) -> None:
        """Trades may be missed from here on; coverage stays at what was claimed before."""
        self._unbroken_from_us = None
        self.log.debug("trade stream interrupted", reason=reason)

    def refuse(self, reason: str) -> None:
        """The venue does not accept the subscription."""
        self.refused = reason
        self.log.error("trade stream refused by the venue, asking again later", reason=reason)

    @property
    def is_live(self) -> bool:
        """Whether the stream is subscribed and unbroken."""
        return self._unbroken_from_us is not None

    def tick(self, venue_now_us: int) -> list[Candle]:
        """Close minutes and extend coverage; returns the candles built from complete minutes."""
        if self._unbroken_from_us is None:
            return []
        candles = self._builder.close(venue_now_us - CLOSE_GRACE_US)
        if self._stores_candles:
            self._store_candles(candles, venue_now_us)
        upper_us = venue_now_us - COVERAGE_LAG_US
        if upper_us > self._unbroken_from_us:
            self._store.cover(self.instrument, "trades", self._unbroken_from_us, upper_us)
            self._unbroken_from_us = upper_us
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

    def _is_new(self, trade: Trade) -> bool:
        if trade.id in self._seen_ids:
            return False
        self._seen_ids[trade.id] = None
        if len(self._seen_ids) > REMEMBERED_IDS:
            del self._seen_ids[next(iter(self._seen_ids))]
        return True
