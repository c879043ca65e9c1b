"""What the collectors need of storage, seen from their side: add rows, then claim coverage for them.

`database.writer.Writer` is the real one. Collectors know only this, so that they never import the database.
"""

from collections.abc import Sequence
from typing import Protocol

from ohlcvd.market import Candle, Instrument, Kind, Trade

Added = tuple[Instrument, Sequence[Trade]]


class Store(Protocol):
    """Takes rows and claims, in order; no call waits. A claim is committed with or after the rows before it."""

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        """Trades to be stored, in the venue's order."""

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        """Final candles to be stored; one that is stored already with other values is corrected."""

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """Everything of `kind` in `[lower_us, upper_us)` has been added before this call."""

    def uncover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """Something of `kind` in `[lower_us, upper_us)` turned out to be missing: claims made before no longer hold."""


class LiveStore(Store, Protocol):
    """What the live trades of many markets need besides."""

    def add_many(self, added: Sequence[Added]) -> None:
        """`add_trades` of each, few of each, for all together. The trades must not change any more."""
