"""Takes rows from collectors, puts them into PostgreSQL in batches, and forgets them only after COMMIT returned.

States of a batch: filling (rows are added), sealed (being stored; the same rows on every attempt), committed. One batch
is in flight at a time, in the order they were filled, so coverage is never ahead of the rows added before it.

- quiet: a batch is stored a few milliseconds after its first row; under load it waits a little longer, and holds up to
  10,000 rows
- the server is away, or anything else it cannot be blamed on a row: the identical batch again, the careful way, for
  ever; memory grows meanwhile, and whoever adds watches `backlog`
- a row that PostgreSQL refuses: found by halving, logged in full, counted, left out; its moment is never called covered
- cancelled: what is not committed stays in the backlog
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg import errors as pg

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.database.batch import Batch, Claim, Ordinals, Pending
from ohlcvd.database.errors import first_line
from ohlcvd.database.pool import STATEMENT_TIMEOUT_S, Database
from ohlcvd.database.store import REFUSALS, Storing, Work, split_in_halves
from ohlcvd.log import get_component_logger
from ohlcvd.market import MINUTE_US, Candle, Instrument, Kind, Trade

BATCH_ROWS: Final = 10_000
LINGER_S: Final = 0.002
# Each row of the last batch adds this to the wait: a transaction costs some 1 ms whatever is in it.
LINGER_PER_ROW_S: Final = 10e-6
LINGER_MAX_S: Final = 0.05
RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 1.0
# The server's own timeout ends a statement first; this is for a server or network that says nothing at all.
ATTEMPT_S: Final = STATEMENT_TIMEOUT_S + 15.0

log = get_component_logger("ohlcvd.database.writer")


@dataclass
class WriterCounters:
    """Since the start; none of them falls. `trades` are new ones, `duplicates` trades that were stored already (also
    those whose COMMIT was lost on the way back), `candles` added or changed ones."""

    trades: int = 0
    candles: int = 0
    duplicates: int = 0
    corrections: int = 0
    commits: int = 0
    retries: int = 0
    refused: int = 0


class Writer:
    """One per process. `on_commit` gets every batch after its COMMIT, duplicates included, refused rows not."""

    def __init__(
        self, database: Database, *, on_commit: Callable[[Batch], None] | None = None, careful: bool = False
    ) -> None:
        """`careful`: another process writes the same markets, so nothing is taken for certainly new."""
        self.counters = WriterCounters()
        self._database = database
        self._on_commit = on_commit
        self._careful = careful
        self._storing = Storing()
        self._ordinals = Ordinals()
        self._queue: deque[Pending] = deque()
        self._backlog = 0
        self._filled = asyncio.Event()
        self._hurry = asyncio.Event()  # a full batch, or a drain: do not linger
        self._idle = asyncio.Event()
        self._idle.set()
        self._resting = asyncio.Event()  # no attempt is under way on a connection
        self._resting.set()
        self._draining = False
        self._last_rows = 0
        self._connection: AsyncConnection[Any] | None = None
        self._holes: dict[tuple[int, Kind], list[Range]] = {}
        self._away_since_s: float | None = None

    @property
    def backlog(self) -> int:
        """Rows that are not committed."""
        return self._backlog

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        """Trades in the venue's order, validated."""
        for start in range(0, len(trades), BATCH_ROWS):
            pending = self._filling()
            before = len(pending)
            pending.add_trades(instrument, trades[start : start + BATCH_ROWS], self._ordinals)
            self._added(pending, len(pending) - before)

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        """Closed minutes that had a trade, validated. Of two for one minute, the venue's later one counts."""
        for candle in candles:
            pending = self._filling()
            before = len(pending)
            pending.add_candle(instrument, candle)
            self._added(pending, len(pending) - before)

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """Claim [lower_us, upper_us) complete: everything of it has been added before this call."""
        pending = self._filling()
        pending.cover(instrument, kind, lower_us, upper_us)
        self._added(pending, 0)

    def uncover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """Take the claim of [lower_us, upper_us) back, whoever made it before this call; later claims stand."""
        pending = self._filling()
        pending.uncover(instrument, kind, lower_us, upper_us)
        self._added(pending, 0)

    def _filling(self) -> Pending:
        if not self._queue or self._queue[-1].sealed or len(self._queue[-1]) >= BATCH_ROWS:
            self._queue.append(Pending())
        return self._queue[-1]

    def _added(self, pending: Pending, rows: int) -> None:
        self._backlog += rows
        self._filled.set()
        self._idle.clear()
        if len(pending) >= BATCH_ROWS:
            self._hurry.set()

    async def run(self) -> None:
        """Store what is added, until cancelled."""
        try:
            while True:
                await self._filled.wait()
                await self._linger()
                pending = self._queue[0]
                pending.sealed = True
                await self._commit(pending)
                self._queue.popleft()
                self._backlog = sum(map(len, self._queue))
                if not self._queue:
                    self._filled.clear()
                    self._idle.set()
        finally:
            await self._disconnect()

    async def drain(self, timeout_s: float) -> bool:
        """Store everything now. True when all of it is committed, False when the time was not enough."""
        self._draining = True
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            self._sever()  # or cancelling `run` would wait for a server that does not answer
            await self._resting.wait()
            return False
        finally:
            self._draining = False
        return True

    async def _linger(self) -> None:
        wait_s = min(LINGER_S + self._last_rows * LINGER_PER_ROW_S, LINGER_MAX_S)
        if self._draining or len(self._queue) > 1 or len(self._queue[0]) >= BATCH_ROWS:
            return
        self._hurry.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._hurry.wait()
        except TimeoutError:
            return

    # --- one batch

    async def _commit(self, pending: Pending) -> None:
        """Return when `pending` is committed, however long that takes."""
        careful, sifted, pause_s = self._careful, False, RETRY_MIN_S
        while True:
            try:
                await self._attempt(pending, careful, sifted)
                break
            except pg.UniqueViolation:
                log.debug("batch overlaps what is stored, storing it the careful way", rows=len(pending))
                if careful:
                    sifted = True
            except REFUSALS as error:
                log.debug("batch is refused, storing it the careful way", reason=first_line(error))
                sifted = careful
            except (psycopg.Error, OSError) as error:
                self._tell_away(error)
                self.counters.retries += 1
                await self._disconnect()
                await asyncio.sleep(pause_s)
                pause_s = min(RETRY_MAX_S, pause_s * 2)
            careful = True
        self._last_rows = len(pending)
        self._tell_committed(pending)

    async def _attempt(self, pending: Pending, careful: bool, sift: bool) -> None:
        connection = await self._connected()
        watchdog = asyncio.get_running_loop().call_later(ATTEMPT_S, self._sever)
        self._resting.clear()
        try:
            if sift:
                # First, and by itself: no row that is refused may keep a false claim standing.
                await self._store(connection, Work(uncovered=pending.uncovered), careful=True)
                await self._sift(connection, pending, Work(pending.rows, _candles(pending)))
                pending.covered = self._without_holes(pending.covered)
                await self._claim(connection, pending.covered)
            else:
                pending.covered = self._without_holes(pending.covered)
                work = Work(pending.rows, _candles(pending), pending.covered, pending.uncovered)
                await self._store(connection, work, careful=careful)
        finally:
            watchdog.cancel()
            self._resting.set()

    async def _claim(self, connection: AsyncConnection[Any], covered: dict[Claim, list[Range]]) -> None:
        try:
            await self._store(connection, Work(covered=covered), careful=True)
        except REFUSALS as error:  # an instrument that somebody deleted; what is not called covered is fetched again
            log.error("coverage is refused and left out", claims=len(covered), reason=first_line(error))

    async def _store(self, connection: AsyncConnection[Any], work: Work, *, careful: bool) -> None:
        stored = await self._storing.store(connection, work, careful=careful)
        self._tell_back()
        self.counters.trades += stored.trades
        self.counters.duplicates += stored.duplicates
        self.counters.candles += stored.candles
        self.counters.corrections += stored.corrections

    async def _sift(self, connection: AsyncConnection[Any], pending: Pending, work: Work) -> None:
        """Store all of `work` but what PostgreSQL refuses, by halves. Coverage follows when this is done."""
        try:
            await self._store(connection, work, careful=True)
        except REFUSALS as error:
            halves = list(split_in_halves(work))
            if not halves:
                self._refuse(pending, work, error)
            for half in halves:
                await self._sift(connection, pending, half)

    def _refuse(self, pending: Pending, work: Work, error: Exception) -> None:
        for row in work.rows:
            self._tell_refused(pending.instrument(row[0]), row[3], error)
            self._hole(row[0], "trades", (row[3].ts_us, row[3].ts_us + 1))
        for instrument_id, candle in work.candles:
            self._tell_refused(pending.instrument(instrument_id), candle, error)
            self._hole(instrument_id, "candles", (candle.ts_us, candle.ts_us + MINUTE_US))
        pending.without([*work.rows], [candle for _, candle in work.candles])
        self.counters.refused += len(work.rows) + len(work.candles)

    def _hole(self, instrument_id: int, kind: Kind, moment: Range) -> None:
        key = (instrument_id, kind)
        self._holes[key] = coverage.add(self._holes.get(key, []), moment)

    def _without_holes(self, covered: dict[Claim, list[Range]]) -> dict[Claim, list[Range]]:
        """What may be claimed: not the moments of rows that were refused."""
        if not self._holes:
            return covered
        return {
            claim: coverage.subtract(ranges, self._holes.get((claim[0].id, claim[1]), []))
            for claim, ranges in covered.items()
        }

    # --- connection

    async def _connected(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await self._database.connect()
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    def _sever(self) -> None:
        """End whatever waits for the server: to libpq it looks as if the server had closed the connection."""
        if self._connection is None or self._connection.closed:
            return
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)  # suppressed: it is gone already

    # --- telling

    def _tell_committed(self, pending: Pending) -> None:
        self.counters.commits += 1
        self.counters.duplicates += pending.duplicates
        self.counters.corrections += pending.corrections
        if self._on_commit is not None:
            try:
                self._on_commit(pending.batch())
            except Exception:  # what others do with a committed batch must not end the storing of the next
                log.exception("batch is committed, but telling others failed")

    def _tell_away(self, error: Exception) -> None:
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            log.warning(
                "postgresql does not take rows, they wait and are tried again until it does",
                backlog=self._backlog,
                reason=first_line(error),
                error=type(error).__name__,
                retry_in_s=RETRY_MIN_S,
            )

    def _tell_back(self) -> None:
        if self._away_since_s is not None:
            log.info(
                "postgresql takes rows again, storing what waited",
                backlog=self._backlog,
                away_s=round(time.monotonic() - self._away_since_s, 1),
            )
            self._away_since_s = None

    def _tell_refused(self, instrument: Instrument, value: Trade | Candle, error: Exception) -> None:
        log.error(
            "row is refused and left out, the rest is stored",
            exchange=instrument.exchange,
            symbol=instrument.symbol,
            row=value._asdict(),
            reason=first_line(error),
            error=type(error).__name__,
        )


def _candles(pending: Pending) -> list[tuple[int, Candle]]:
    return [(instrument.id, candle) for instrument, candle in pending.candles.values()]
