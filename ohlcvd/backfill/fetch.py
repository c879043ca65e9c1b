"""Fetches one market's history in this process: the service's own repair, without a live stream.

What lies behind the goal's end is called covered here, so that it is left to others. Another process may write the
same market: the writer takes nothing for certainly new.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self, TypeVar

from ohlcvd import coverage
from ohlcvd.backfill.goal import Goal
from ohlcvd.config import ExchangeConfig
from ohlcvd.coverage import Range
from ohlcvd.database import Batch, Database, Writer
from ohlcvd.errors import UsageError
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.limits import rules_of
from ohlcvd.exchange.sink import TradePage
from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Instrument, Kind
from ohlcvd.nearest import did_you_mean
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.records import DatabaseRecords
from ohlcvd.repair.scheduler import KINDS, RepairCounters, RepairScheduler

# What was asked is waited for so long when the fetching ends; the venue's rate limit may hold it up for some seconds.
LAST_ANSWERS_S: Final = 10.0
_NEVER_US: Final = 250_000_000_000_000_000

T = TypeVar("T")

log = get_component_logger("ohlcvd.backfill")


class Fetching:
    """`async with`: connected. Then `start`, `check` now and then, and `end`."""

    def __init__(self, exchange: ExchangeConfig, database: Database) -> None:
        self._handler = ExchangeHandler(exchange)
        self._history = _Door(self._handler)
        self._database = database
        self._book = CoverageBook()
        self._writer = Writer(database, on_commit=self._committed, careful=True)
        self._scheduler: RepairScheduler | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        """ExchangeUnavailable when the exchange is out of reach."""
        try:
            await self._handler.connect()
            await self._handler.venue_time_us()
        except BaseException:
            await self._handler.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._handler.close()

    def _committed(self, batch: Batch) -> None:
        self._book.committed(batch)
        if self._scheduler is not None:
            self._scheduler.committed()

    def check_symbol(self, symbol: str) -> None:
        """UsageError with the nearest names if the exchange does not list it."""
        symbols = self._handler.symbols()
        if symbol not in symbols:
            raise UsageError(f'{self._handler.name} lists no "{symbol}"{did_you_mean(symbol, symbols)}')

    def venue_now_us(self) -> int:
        """The venue's time."""
        now_us = self._handler.clock.now_us(time.monotonic())
        assert now_us is not None  # connecting asked for it
        return now_us

    @property
    def counters(self) -> RepairCounters:
        """What was asked for and received."""
        return RepairCounters() if self._scheduler is None else self._scheduler.counters

    async def start(self, instrument: Instrument, goal: Goal) -> None:
        """Begin to fetch what is missing of the goal."""
        records = _Records(self._database, goal.upper_us)
        for kind in KINDS:
            if kind in (*goal.kinds, *goal.repairs):
                self._book.load(instrument, kind, await records.coverage(instrument, kind), goal.lower_us)
            elif kind == "trades":
                # Only what candles are built from: wanted where candles are missing, and nowhere else.
                self._book.load(instrument, kind, await records.coverage(instrument, kind), None)
        self._scheduler = RepairScheduler(
            goal.exchange,
            [instrument],
            goal.repairs,
            self._history,
            self._writer.history,
            self._book,
            rules=rules_of(goal.exchange),
            live_from_us=lambda _instrument, _kind: goal.upper_us,
            venue_now_us=self.venue_now_us,
            records=records,
            waiting_since_s=lambda: self._writer.waiting_since_s,
        )
        self._tasks = [
            asyncio.create_task(self._writer.run(), name="writer"),
            asyncio.create_task(self._scheduler.run(), name="repair"),
        ]

    def check(self) -> None:
        """Raise what ended the work unexpectedly."""
        for task in self._tasks:
            if task.done():
                task.result()
                raise AssertionError(f"{task.get_name()} ended by itself")

    async def end(self, drain_s: float) -> int:
        """Ask nothing more, store what was asked for. How many rows could not be stored."""
        if not self._tasks:
            return 0
        await self._history.close(LAST_ANSWERS_S)
        storing, repairing = self._tasks
        repairing.cancel()
        await asyncio.gather(repairing, return_exceptions=True)
        if not storing.done():
            await self._writer.drain(drain_s)
        counters, left = self.counters, self._writer.backlog
        log.info(
            "backfill ends", requests=counters.requests, rows=counters.rows, built=counters.built,
            failures=counters.failures, unfillable=counters.unfillable, new_trades=self._writer.counters.trades,
            new_candles=self._writer.counters.candles, duplicates=self._writer.counters.duplicates, rows_left=left,
        )  # fmt: skip
        return left


class _Records(DatabaseRecords):
    """Of one goal: everything behind its end is covered."""

    def __init__(self, database: Database, upper_us: int) -> None:
        super().__init__(database)
        self._beyond = (upper_us, _NEVER_US)

    async def coverage(self, instrument: Instrument, kind: Kind) -> list[Range]:
        return coverage.add(await super().coverage(instrument, kind), self._beyond)


class _Door:
    """The venue's history until it is closed: then nothing is asked any more, and what was asked still comes."""

    def __init__(self, handler: ExchangeHandler) -> None:
        self._handler = handler
        self._is_closed = False
        self._asking = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def get_trades(
        self, symbol: str, *, from_id: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> TradePage:
        return await self._ask(
            lambda: self._handler.get_trades(symbol, from_id=from_id, since_us=since_us, limit=limit)
        )

    async def get_candles(self, symbol: str, since_us: int | None = None, limit: int | None = None) -> Sequence[Candle]:
        return await self._ask(lambda: self._handler.get_candles(symbol, since_us, limit))

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        if self._is_closed:
            await asyncio.get_running_loop().create_future()  # whoever asks now is about to be cancelled
        self._asking += 1
        self._quiet.clear()
        try:
            return await question()
        finally:
            self._asking -= 1
            if not self._asking:
                # Whoever waits for this goes on only after the answer has been handed to the store.
                self._quiet.set()

    async def close(self, patience_s: float) -> None:
        self._is_closed = True
        try:
            async with asyncio.timeout(patience_s):
                await self._quiet.wait()
        except TimeoutError:
            log.warning("answers do not come any more, they are given up", requests=self._asking)
