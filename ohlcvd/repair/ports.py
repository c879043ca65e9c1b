"""What repair asks of its neighbours: the venue's history and the database, in its own terms."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ohlcvd.coverage import Range
from ohlcvd.exchange.sink import TradePage
from ohlcvd.market import Candle, Instrument, Kind, Trade
from ohlcvd.repair.lost import Unfillable
from ohlcvd.repair.outage import Silence


class History(Protocol):
    """`ExchangeHandler`."""

    def get_trades(
        self, symbol: str, *, from_id: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Awaitable[TradePage]: ...
    def get_candles(
        self, symbol: str, since_us: int | None = None, limit: int | None = None
    ) -> Awaitable[Sequence[Candle]]: ...


class Records(Protocol):
    """What is asked of the database besides storing."""

    async def coverage(self, instrument: Instrument, kind: Kind) -> list[Range]:
        """What is committed."""

    async def seam_before(self, instrument: Instrument, ts_us: int) -> Trade | None:
        """The newest stored trade before this time."""

    async def seam_after(self, instrument: Instrument, ts_us: int) -> Trade | None:
        """The oldest stored trade at or after it."""

    async def unfillable_of(self, instrument: Instrument, kind: Kind) -> list[Unfillable]:
        """What was recorded."""

    async def record_unfillable(self, instrument: Instrument, kind: Kind, found: Unfillable) -> None:
        """Record a gap with its evidence."""

    async def record_outage(self, instrument: Instrument, kind: Kind, gaps: Sequence[Range], silence: Silence) -> None:
        """These are missing because the venue does not answer: takes the place of what was said of it before."""

    async def end_outages(self, exchange: str) -> None:
        """The venue answers again: what was recorded of its silence is void."""

    async def build_candles(self, instrument: Instrument, ranges: Sequence[Range]) -> int:
        """Build, store and claim the candles of these minutes from stored trades; how many rows."""


@dataclass(slots=True)
class RepairCounters:
    """Since the start; they only grow."""

    requests: int = 0
    rows: int = 0  # received, known ones included
    holes_filled: int = 0
    unfillable: int = 0
    built: int = 0  # candles made of trades
    failures: int = 0
