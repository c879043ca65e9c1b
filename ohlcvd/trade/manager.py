"""All trade collectors of one exchange: hands each what the stream brings for its symbol."""

from collections.abc import Mapping

from ohlcvd.market import Candle, Instrument, Trade
from ohlcvd.store import Store
from ohlcvd.trade.collector import TradeCollector


class TradeManager:
    """The trade service of one exchange: one collector per symbol."""

    def __init__(
        self,
        exchange: str,
        instruments: Mapping[str, Instrument],
        store: Store,
        *,
        stores_candles: bool,
        sequential_ids: bool,
    ) -> None:
        self.collectors = {
            symbol: TradeCollector(
                symbol,
                exchange,
                instrument=instrument,
                store=store,
                stores_candles=stores_candles,
                sequential_ids=sequential_ids,
            )
            for symbol, instrument in instruments.items()
        }

    def on_trades(self, symbol: str, trades: list[Trade], snapshot: bool) -> None:
        """Route a frame's trades."""
        self.collectors[symbol].on_trades(trades, snapshot)

    def tick(self, venue_now_us: int) -> list[tuple[str, Candle]]:
        """Close minutes everywhere; returns (symbol, candle built from trades) of complete minutes."""
        return [
            (symbol, candle) for symbol, collector in self.collectors.items() for candle in collector.tick(venue_now_us)
        ]
