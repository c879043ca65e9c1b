"""All trade collectors of one exchange: hands each what the stream brings for its symbol. They come and go.

What a collector raises does not reach the others: it is told to `failed`, which sees to a new one.
"""

from collections.abc import Callable, Mapping, Sequence

from ohlcvd.alone import Health, health
from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Instrument, Trade
from ohlcvd.store import Added, LiveStore
from ohlcvd.trade.collector import TradeCollector


class TradeManager:
    """The trade service of one exchange: one collector per symbol."""

    def __init__(
        self,
        exchange: str,
        instruments: Mapping[str, Instrument],
        store: LiveStore,
        *,
        stores_candles: bool,
        sequential_ids: bool,
    ) -> None:
        self._log = get_component_logger(f"ohlcvd.trade.manager.{exchange}")
        self._suspended_at: int | None = None  # so many trades were left out before; None: they are taken
        self.failed: Callable[[str, Exception], None] | None = None  # None: its error is raised
        self.collectors: dict[str, TradeCollector] = {}
        self._exchange = exchange
        self._store = store
        self._stores_candles = stores_candles
        self._sequential_ids = sequential_ids
        self._left_out_before = 0  # by collectors that are gone
        for instrument in instruments.values():
            self.add(instrument)

    def add(self, instrument: Instrument) -> None:
        """Collect this one, too."""
        collector = self.collectors[instrument.symbol] = TradeCollector(
            instrument.symbol,
            self._exchange,
            instrument=instrument,
            store=self._store,
            stores_candles=self._stores_candles,
            sequential_ids=self._sequential_ids,
        )
        if self._suspended_at is not None:
            collector.suspend("trades are left out for want of room")

    async def health_check(self) -> Health:
        """Of all collectors together."""
        return health("trade", self.collectors.values())

    def remove(self, symbol: str) -> None:
        """Collect it no longer; what it was given is stored already."""
        collector = self.collectors.pop(symbol, None)
        if collector is not None:
            self._left_out_before += collector.left_out

    def on_trades(self, symbol: str, trades: list[Trade], snapshot: bool) -> None:
        """Route a frame's trades."""
        collector = self.collectors.get(symbol)
        if collector is not None:  # else removed: a few frames still come
            collector.on_trades(trades, snapshot)

    def on_many(self, trades: Sequence[tuple[str, list[Trade]]]) -> None:
        """Live trades of many markets: nearly all follow what was before, and go to the store together. What speaks of
        claims goes there by itself, in its place."""
        taken: list[Added] = []
        for symbol, own in trades:
            collector = self.collectors.get(symbol)
            if collector is None:
                continue
            try:
                fresh = collector.take(own)
                if fresh is None:
                    collector.on_trades(own, False)
                elif fresh:
                    taken.append((collector.instrument, fresh))
            except Exception as error:
                if self.failed is None:
                    raise
                self.failed(symbol, error)
        if taken:
            self._store.add_many(taken)

    @property
    def left_out(self) -> int:
        """Trades that came while there was no room for them; repair fetches them."""
        return self._left_out_before + sum(collector.left_out for collector in self.collectors.values())

    def suspend(self, reason: str) -> None:
        """Leave live trades out from here on; may be called again and again."""
        if self._suspended_at is None:
            self._suspended_at = self.left_out
            self._log.error("live trades are left out until there is room, then they are fetched", reason=reason)
        for collector in self.collectors.values():
            collector.suspend(reason)

    def resume(self, venue_us: int) -> None:
        """Take live trades again; without effect if they are taken."""
        if self._suspended_at is None:
            return
        for collector in self.collectors.values():
            collector.resume(venue_us)
        left_out = self.left_out - self._suspended_at
        self._suspended_at = None
        self._log.warning("live trades are taken again, those left out are fetched", left_out=left_out)

    def tick(self, venue_now_us: int) -> list[tuple[str, Candle]]:
        """Close minutes everywhere; returns (symbol, candle built from trades) of complete minutes."""
        closed: list[tuple[str, Candle]] = []
        for symbol, collector in list(self.collectors.items()):
            try:
                candles = collector.tick(venue_now_us)
                if candles:
                    closed += [(symbol, candle) for candle in candles]
            except Exception as error:
                if self.failed is None:
                    raise
                self.failed(symbol, error)
        return closed
