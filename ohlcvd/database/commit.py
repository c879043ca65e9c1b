"""Commits one batch at a time, however long that takes: the identical batch until COMMIT has returned.

- the server is away, blocked, a standby, full, or anything else that cannot be blamed on a row: again, the careful way,
  for ever, with a new connection
- a row that PostgreSQL refuses: found by halving, put aside in full, counted, left out; its moment is never called
  covered
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg import errors as pg

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.database.batch import Batch, Claim, Pending
from ohlcvd.database.errors import first_line
from ohlcvd.database.lag import CommitLag
from ohlcvd.database.patience import sever, severed_after
from ohlcvd.database.pool import ANSWER_S, Database
from ohlcvd.database.quarantine import Quarantine
from ohlcvd.database.store import REFUSALS, Storing, Work, split_in_halves
from ohlcvd.log import get_component_logger
from ohlcvd.market import MINUTE_US, Candle, Candles, Instrument, Kind, Trade

RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 0.5
ATTEMPT_S: Final = ANSWER_S
# So much of each value of a refused row goes into the log; all of it is in the quarantine file.
_LOGGED_TEXT: Final = 200

log = get_component_logger("ohlcvd.database.writer")


@dataclass
class WriterCounters:
    """Since the start; none of them falls. `trades` are new ones, `duplicates` trades that were stored already (also
    those whose COMMIT was lost on the way back), `candles` added or changed ones, `refused` rows that PostgreSQL would
    not take, `quarantined` those of them that were put aside in a file. `spooled` rows went through the spool."""

    trades: int = 0
    candles: int = 0
    duplicates: int = 0
    corrections: int = 0
    commits: int = 0
    retries: int = 0
    refused: int = 0
    quarantined: int = 0
    spooled: int = 0
    spooled_bytes: int = 0


class Committer:
    """The connection of one writer and what it knows of the database."""

    def __init__(
        self,
        database: Database,
        *,
        on_commit: Callable[[Batch], None] | None,
        careful: bool,
        quarantine: Quarantine | None,
        backlog: Callable[[], int],
    ) -> None:
        self.counters = WriterCounters()
        self.lag = CommitLag()
        self.away_since_s: float | None = None  # by the monotonic clock; None while the server takes rows
        self._database = database
        self._on_commit = on_commit
        self._careful = careful
        self._quarantine = quarantine
        self._backlog = backlog
        self._storing = Storing()
        self._resting = asyncio.Event()  # no attempt is under way on a connection
        self._resting.set()
        self._connection: AsyncConnection[Any] | None = None
        self._holes: dict[tuple[int, Kind], list[Range]] = {}

    async def commit(self, pending: Pending) -> None:
        """Return when `pending` is committed."""
        pending.seal()
        careful, sifted, pause_s = self._careful or pending.frames > 0, False, RETRY_MIN_S
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
                await self.disconnect()
                await asyncio.sleep(pause_s)
                pause_s = min(RETRY_MAX_S, pause_s * 2)
            careful = True
        self._tell_committed(pending)

    async def _attempt(self, pending: Pending, careful: bool, sift: bool) -> None:
        connection = await self._connected()
        self._resting.clear()
        try:
            with severed_after(connection, ATTEMPT_S):
                await self._store_all(connection, pending, careful, sift)
        finally:
            self._resting.set()

    async def _store_all(self, connection: AsyncConnection[Any], pending: Pending, careful: bool, sift: bool) -> None:
        if not sift:
            pending.covered = self._without_holes(pending.covered)
            work = Work(pending.rows, _candles(pending), pending.covered, pending.uncovered)
            await self._store(connection, work, careful=careful)
            return
        # First, and by itself: no row that is refused may keep a false claim standing.
        await self._store(connection, Work(uncovered=pending.uncovered), careful=True)
        await self._sift(connection, pending, Work(pending.rows, _candles(pending)))
        pending.covered = self._without_holes(pending.covered)
        await self._claim(connection, pending.covered)

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
            self._put_aside(pending.instrument(row[0]), row[3], error)
            self._hole(row[0], "trades", (row[3].ts_us, row[3].ts_us + 1))
        candles = [(instrument_id, candle) for instrument_id, own in work.candles for candle in own]
        for instrument_id, candle in candles:
            self._put_aside(pending.instrument(instrument_id), candle, error)
            self._hole(instrument_id, "candles", (candle.ts_us, candle.ts_us + MINUTE_US))
        pending.without([*work.rows], candles)
        self.counters.refused += len(work.rows) + len(candles)

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

    async def disconnect(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def interrupt(self) -> None:
        """End the attempt that is under way, if there is one; cancelling would wait for a server that is silent."""
        if self._connection is not None:
            sever(self._connection)
        await self._resting.wait()

    # --- telling

    def _tell_committed(self, pending: Pending) -> None:
        self.counters.commits += 1
        self.lag.committed(pending.arrivals, time.monotonic())
        self.counters.duplicates += pending.duplicates
        self.counters.corrections += pending.corrections
        if self._on_commit is not None:
            try:
                self._on_commit(pending.batch())
            except Exception:  # what others do with a committed batch must not end the storing of the next
                log.exception("batch is committed, but telling others failed")

    def _tell_away(self, error: Exception) -> None:
        if self.away_since_s is None:
            self.away_since_s = time.monotonic()
            log.warning(
                "postgresql does not take rows, they wait and are tried again until it does",
                backlog=self._backlog(),
                reason=first_line(error),
                error=type(error).__name__,
                retry_in_s=RETRY_MIN_S,
            )

    def _tell_back(self) -> None:
        if self.away_since_s is not None:
            log.recovered(
                "postgresql takes rows again, storing what waited",
                backlog=self._backlog(),
                away_s=round(time.monotonic() - self.away_since_s, 1),
            )
            self.away_since_s = None

    def _put_aside(self, instrument: Instrument, value: Trade | Candle, error: Exception) -> None:
        reason = first_line(error)
        kept = False
        if self._quarantine is not None:
            kept = self._quarantine.put(instrument, value, reason, type(error).__name__)
            self.counters.quarantined += kept
        log.error(
            "row is refused and put aside, the rest is stored" if kept else "row is refused, the rest is stored",
            exchange=instrument.exchange,
            symbol=instrument.symbol,
            row={name: text[:_LOGGED_TEXT] if isinstance(text, str) else text for name, text in _fields(value)},
            reason=reason[:_LOGGED_TEXT],
            error=type(error).__name__,
            file=str(self._quarantine.file) if kept and self._quarantine is not None else None,
        )


def _fields(value: Trade | Candle) -> list[tuple[str, object]]:
    return list(value._asdict().items())


def _candles(pending: Pending) -> list[tuple[int, Candles]]:
    return [(instrument.id, candles) for instrument, candles in pending.candles]
