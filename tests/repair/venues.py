"""A venue in memory with every kind of paging, and a store that commits in order and forgets the rest in a crash."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.errors import MalformedAnswer
from ohlcvd.exchange.limits import UNKNOWN_VENUE, VenueRules
from ohlcvd.exchange.sink import TradePage
from ohlcvd.market import SECOND_US, Candle, Instrument, Kind, Trade
from ohlcvd.repair.book import CoverageBook, Key
from ohlcvd.repair.lost import Unfillable
from ohlcvd.repair.outage import Silence

# 2026-03-01 12:00 UTC
NOON_US = 1_772_366_400_000_000
MARKET = Instrument(1, "model", "BTC/USD")
OTHER = Instrument(2, "model", "ETH/USD")

_FULL = UNKNOWN_VENUE._replace(trades_depth="full")
# Paging as venues have it: what a page begins with, and in which steps time is understood.
PAGINGS: dict[str, VenueRules] = {
    "by id": _FULL._replace(sequential_ids=True, trades_cursor="id", trades_back_us=0),
    "by cursor": _FULL._replace(sequential_ids=True, trades_cursor="page", trades_back_us=1),
    "inclusive": _FULL,
    "exclusive": _FULL,
    "inclusive, ms": _FULL,
    "exclusive, ms": _FULL,
    "inclusive, sequential": _FULL._replace(sequential_ids=True),
}


@dataclass
class ModelVenue:
    """One market's trades, in order. `now_us` is its present: later trades have not happened."""

    trades: list[Trade]
    paging: str
    page_rows: int
    withheld: set[str] = field(default_factory=set)
    now_us: int = NOON_US
    faults: list[str] = field(default_factory=list)
    requests: int = 0
    rows: int = 0

    def __post_init__(self) -> None:
        before_us, nth = 0, 0
        self._ns: list[int] = []
        for trade in self.trades:
            nth = nth + 1 if trade.ts_us == before_us else 0
            before_us = trade.ts_us
            self._ns.append(trade.ts_us * 1000 + nth)

    @property
    def rules(self) -> VenueRules:
        return PAGINGS[self.paging]._replace(trades_page=self.page_rows)

    def happened(self) -> list[Trade]:
        return [trade for trade in self.trades if trade.ts_us < self.now_us]

    async def get_trades(
        self, symbol: str, *, from_id: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> TradePage:
        self.requests += 1
        fault = self.faults.pop() if self.faults else None
        if fault == "error":
            raise MalformedAnswer("half an answer")
        if fault == "empty":
            return TradePage([], None)
        size = min(limit or self.page_rows, self.page_rows)
        rows = [
            (ns, trade)
            for ns, trade in zip(self._ns, self.trades, strict=True)
            if trade.ts_us < self.now_us
            and trade.id not in self.withheld
            and self._is_after(ns, trade, from_id, since_us)
        ][:size]
        self.rows += len(rows)
        page = [trade for _, trade in rows if since_us is None or trade.ts_us >= since_us]
        return TradePage(page, self._cursor(rows, size))

    def _is_after(self, ns: int, trade: Trade, from_id: str | None, since_us: int | None) -> bool:
        if self.paging == "by cursor":
            return ns > (int(from_id) if from_id is not None else since_us * 1000 - 1 if since_us is not None else 0)
        if from_id is not None:
            return int(trade.id) >= int(from_id)
        assert since_us is not None
        step = 1_000 if "ms" in self.paging or self.paging == "by id" else 1
        since_us -= since_us % step
        return trade.ts_us - trade.ts_us % step > since_us if "exclusive" in self.paging else trade.ts_us >= since_us

    def _cursor(self, rows: Sequence[tuple[int, Trade]], size: int) -> str | None:
        if len(rows) < size:
            return None
        if self.paging == "by cursor":
            return str(rows[-1][0] if rows[0][0] == rows[-1][0] else rows[-1][0] - 1)
        return str(int(rows[-1][1].id) + 1) if self.paging == "by id" else str(rows[-1][1].ts_us)

    async def get_candles(self, symbol: str, since_us: int | None = None, limit: int | None = None) -> list[Candle]:
        raise AssertionError("nobody collects candles here")


@dataclass
class ModelBatch:
    covered: dict[Key, list[Range]] = field(default_factory=dict)
    uncovered: dict[Key, list[Range]] = field(default_factory=dict)


class ModelStore:
    """Rows and claims are committed in the order they were given; `crash` forgets what was not."""

    def __init__(self) -> None:
        self.seams_asked = 0
        self.trades: dict[Instrument, dict[str, Trade]] = {}
        self.candles: dict[Instrument, dict[int, Candle]] = {}
        self.covered: dict[Key, list[Range]] = {}
        self.recorded: dict[Key, list[Unfillable]] = {}
        self.outages: dict[Key, list[Range]] = {}
        self.book = CoverageBook()
        self._queue: list[Callable[[], None]] = []

    # Store

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        self._queue.append(partial(self._store_trades, instrument, list(trades)))

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        self._queue.append(partial(self._store_candles, instrument, list(candles)))

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        assert lower_us < upper_us
        self._queue.append(partial(self._store_claim, (instrument, kind), (lower_us, upper_us)))

    def uncover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        self._queue.append(partial(self._take_claim, (instrument, kind), (lower_us, upper_us)))

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def commit(self, count: int) -> None:
        """The first `count` of what waits."""
        for store in self._queue[:count]:
            store()
        del self._queue[:count]

    def crash(self) -> None:
        self._queue.clear()
        self.book = CoverageBook()

    def _store_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        for trade in trades:
            stored = self.trades.setdefault(instrument, {}).setdefault(trade.id, trade)
            assert exact(stored) == exact(trade), "the same id with other values"

    def _store_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        self.candles.setdefault(instrument, {}).update((candle.ts_us, candle) for candle in candles)

    def _store_claim(self, key: Key, claim: Range) -> None:
        self.covered[key] = coverage.add(self.covered.get(key, []), claim)
        self.book.committed(ModelBatch(covered={key: [claim]}))

    def _take_claim(self, key: Key, claim: Range) -> None:
        self.covered[key] = coverage.subtract(self.covered.get(key, []), [claim])
        self.book.committed(ModelBatch(uncovered={key: [claim]}))

    # Records

    async def coverage(self, instrument: Instrument, kind: Kind) -> list[Range]:
        return self.covered.get((instrument, kind), [])

    async def seam_before(self, instrument: Instrument, ts_us: int) -> Trade | None:
        found = [trade for trade in self._in_order(instrument) if trade.ts_us < ts_us]
        return found[-1] if found else None

    async def seam_after(self, instrument: Instrument, ts_us: int) -> Trade | None:
        self.seams_asked += 1
        return next((trade for trade in self._in_order(instrument) if trade.ts_us >= ts_us), None)

    def _in_order(self, instrument: Instrument) -> list[Trade]:
        return sorted(self.trades.get(instrument, {}).values(), key=lambda trade: (trade.ts_us, trade.id))

    async def unfillable_of(self, instrument: Instrument, kind: Kind) -> list[Unfillable]:
        return self.recorded.get((instrument, kind), [])

    async def record_unfillable(self, instrument: Instrument, kind: Kind, found: Unfillable) -> None:
        known = self.recorded.get((instrument, kind), [])
        apart = [one for one in known if one.gap[1] <= found.gap[0] or found.gap[1] <= one.gap[0]]
        self.recorded[instrument, kind] = [*apart, found]

    async def record_outage(self, instrument: Instrument, kind: Kind, gaps: Sequence[Range], silence: Silence) -> None:
        self.outages[instrument, kind] = [*gaps]

    async def end_outages(self, exchange: str) -> None:
        self.outages.clear()

    async def build_candles(self, instrument: Instrument, ranges: Sequence[Range]) -> int:
        key: Key = (instrument, "candles")
        self.covered[key] = coverage.add(self.covered.get(key, []), *ranges)
        return 0


def seconds(count: float) -> int:
    return int(count * SECOND_US)


def exact(trade: Trade) -> tuple[int, str, Decimal, Decimal, str]:
    """Some answers write zeros behind the point that others leave out."""
    return trade.ts_us, trade.id, Decimal(trade.price), Decimal(trade.amount), trade.side
