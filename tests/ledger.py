"""A `Store` that keeps what it is given, in order, for tests of the decisions that come before storage."""

from collections.abc import Sequence

from ohlcvd.market import Candle, Instrument, Kind, Trade
from ohlcvd.store import Added

INSTRUMENT = Instrument(1, "kraken", "BTC/USD")


class Ledger:
    """Remembers every call."""

    def __init__(self) -> None:
        self.trades: list[Trade] = []
        self.candles: list[Candle] = []
        self.covered: list[tuple[Kind, int, int]] = []
        self.uncovered: list[tuple[Kind, int, int]] = []

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        self.trades += trades

    def add_many(self, added: Sequence[Added]) -> None:
        for instrument, trades in added:
            self.add_trades(instrument, trades)

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        self.candles += candles

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        self.covered.append((kind, lower_us, upper_us))

    def uncover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        self.uncovered.append((kind, lower_us, upper_us))
