"""Takes rows from collectors, puts them into PostgreSQL in batches, and forgets them only after COMMIT returned.

All rows and claims stand in one line and are committed in its order, one batch at a time, so that coverage is never
ahead of the rows added before it:

    committing <- [ spool: on disk, the older ] <- [ memory: the younger ] <- add_trades, add_candles, cover, uncover

What repair fetches has a line of its own in memory, `history` (lane.py), and is committed in slices between the batches
of what comes live.

- quiet: a batch is stored a few milliseconds after its first row; under load it waits a little longer, and holds up to
  10,000 rows. The spool is empty.
- rows come faster than the server takes them: `pressure` asks those who read to pause.
- rows have waited for their COMMIT longer than MOMENT_S (the server is away, restarting, blocked by a lock), or memory
  holds MEMORY_ROWS: what is in memory goes to the spool, a few times a second, until the spool has been emptied into
  the database again. Then rows go straight to the database as before.
- the spool takes no more (its limit, a full disk): rows stay in memory, and at MEMORY_ROWS `is_full` asks those who add
  to stop giving live trades; candles still come in. See `StreamRouter.suspend_trades`.
- cancelled, drained or killed: what is in the spool is stored by the next process, what was in memory only was not
  claimed and is fetched again.

Without a spool everything waits in memory, and whoever adds watches `backlog`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from ohlcvd.database.batch import Batch, Ordinals, Pending
from ohlcvd.database.commit import Committer, WriterCounters
from ohlcvd.database.lag import CommitLag
from ohlcvd.database.lane import SLICE_ROWS, HistoryLane
from ohlcvd.database.pool import Database
from ohlcvd.database.pressure import PRESSING_ROWS, Pressure
from ohlcvd.database.quarantine import Quarantine
from ohlcvd.database.spool import Spool, SpoolFull
from ohlcvd.database.spool.frames import Market, absorb, markets_of
from ohlcvd.database.spool.markets import look_up
from ohlcvd.database.spool.news import REFUSED_PAUSE_S, SpoolNews
from ohlcvd.market import Candle, Instrument, Kind, Trade
from ohlcvd.store import Added

__all__ = ["Writer", "WriterCounters"]

BATCH_ROWS: Final = 10_000
LINGER_S: Final = 0.002
# Each row of the last batch adds this to the wait: a transaction costs some 1 ms whatever is in it.
LINGER_PER_ROW_S: Final = 10e-6
LINGER_MAX_S: Final = 0.05
# Live rows are expected for so long after the last ones: until then history goes in slices.
LIVE_S: Final = 1.0
# A restart of the server behind a quick network is not worth the disk.
MOMENT_S: Final = 2.0
MEMORY_ROWS: Final = 20_000
# Read back and prepared without giving the event loop a turn: some 20 ms.
REPLAY_ROWS: Final = 4_000
# How often memory is put into the spool; a slow disk may take a tenth of the time at the most.
SPOOL_EVERY_S: Final = 0.2
SPOOL_SHARE: Final = 10
_DRAIN_STEP_S: Final = 0.05


class Writer:
    """One per process. `on_commit` gets every batch after its COMMIT, duplicates included, refused rows not."""

    def __init__(
        self,
        database: Database,
        *,
        on_commit: Callable[[Batch], None] | None = None,
        careful: bool = False,
        spool: Spool | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        """`careful`: another process writes the same markets, so nothing is taken for certainly new."""
        self._database = database
        self._committer = Committer(
            database, on_commit=on_commit, careful=careful, quarantine=quarantine, backlog=lambda: self.backlog
        )
        self._spool = spool
        self._ordinals = Ordinals()
        self._queue: deque[Pending] = deque()
        self._current: Pending | None = None  # being committed
        self._current_since_s = 0.0
        self._last_rows = 0
        self._rows = 0  # in memory only
        self._filled = asyncio.Event()
        self._hurry = asyncio.Event()  # a full batch, or a drain: do not linger
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._known: dict[Market, Instrument] = {}
        self._full = False
        self._news = SpoolNews()
        self.pressure = Pressure()
        self.history = HistoryLane(self._added, self.uncover, time.monotonic)
        self._live_s = float("-inf")  # when live rows came last
        self._was_history = False  # what was committed last

    @property
    def counters(self) -> WriterCounters:
        """What became of the rows."""
        return self._committer.counters

    @property
    def lag(self) -> CommitLag:
        """How long rows took that went straight to the database."""
        return self._committer.lag

    @property
    def backlog(self) -> int:
        """Rows that are not committed, wherever they wait."""
        return self._rows + (self._spool.rows if self._spool is not None else 0)

    @property
    def waiting_since_s(self) -> float | None:
        """Since when the oldest row that is not committed waits, monotonic; None: there is none. Of what is on disk,
        and so in nobody's view of coverage yet, it counts as since ever."""
        if self.is_spooling:
            return float("-inf")
        waiting = [one.arrivals for one in (self._current, *self._queue) if one is not None and one.arrivals.rows]
        since_s = [one.first_s for one in waiting]
        if self.history.since_s is not None:
            since_s.append(self.history.since_s)
        return min(since_s, default=None)

    @property
    def memory_rows(self) -> int:
        """Rows that wait in memory only."""
        return self._rows

    @property
    def spool_bytes(self) -> int:
        """What the spool takes on the disk."""
        return self._spool.bytes if self._spool is not None else 0

    @property
    def is_spooling(self) -> bool:
        """Whether rows wait on disk, so that new ones go there too."""
        return bool(self._spool and not self._spool.is_empty)

    @property
    def is_full(self) -> bool:
        """Whether the spool takes no more and memory is at its bound."""
        return self._full

    @property
    def database_up(self) -> bool:
        """Whether the server does what it is asked, as far as is known."""
        return self._committer.away_since_s is None and self._waited_s() < 2 * MOMENT_S

    @property
    def away_s(self) -> float:
        """For how long it has been known that the server is away; 0 while it is there."""
        since_s = self._committer.away_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        """Trades in the venue's order, validated."""
        for start in range(0, len(trades), BATCH_ROWS):
            pending, some = self._filling(), trades[start : start + BATCH_ROWS]
            pending.add_trades(instrument, some, self._ordinals)
            self._live(pending, len(some))

    def add_many(self, added: Sequence[Added]) -> None:
        """Live trades of many markets that came together."""
        pending, rows = self._filling(), sum(len(trades) for _, trades in added)
        pending.add_many(added, rows, self._ordinals)
        self._live(pending, rows)

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        """Closed minutes that had a trade, validated. Of two for one minute, the venue's later one counts."""
        for start in range(0, len(candles), BATCH_ROWS):
            pending = self._filling()
            before = len(pending)
            pending.add_candles(instrument, candles[start : start + BATCH_ROWS])
            self._live(pending, len(pending) - before)

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """Claim [lower_us, upper_us) complete: everything of it has been added before this call."""
        pending = self._filling()
        pending.cover(instrument, kind, lower_us, upper_us)
        self._added(0)

    def uncover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """Take the claim of [lower_us, upper_us) back, whoever made it before this call; later claims stand."""
        pending = self._filling()
        pending.uncover(instrument, kind, lower_us, upper_us)
        self.history.strike(instrument, kind, lower_us, upper_us)
        self._added(0)

    def _filling(self) -> Pending:
        if not self._queue or len(self._queue[-1]) >= BATCH_ROWS:
            self._queue.append(Pending())
        return self._queue[-1]

    def _live(self, pending: Pending, rows: int) -> None:
        if rows:
            self._live_s = time.monotonic()
            pending.arrivals.add(rows, self._live_s)
        self._added(rows)
        if len(pending) >= BATCH_ROWS:
            self._hurry.set()

    def _added(self, rows: int) -> None:
        self._rows += rows
        self._filled.set()
        self._idle.clear()
        if self._rows >= PRESSING_ROWS and not self.pressure.is_on:
            self._press()

    def _press(self) -> None:
        is_helpless = self.is_spooling or self._news.refused_at_s is not None or self._is_away()
        self.pressure.judge(self._rows, helps=not is_helpless)

    async def run(self) -> None:
        """Store what is added, until cancelled."""
        try:
            if self._spool is None:
                await self._store_forever()
                return
            await self._spool.open()
            if self.is_spooling:
                self._idle.clear()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._store_forever())
                group.create_task(self._spool_forever(self._spool))
        finally:
            self._take_back()
            if self._spool is not None:
                self._spool.close()
            await self._committer.disconnect()

    def _take_back(self) -> None:
        """What was not committed stays in the line."""
        if self._current is not None and not self._current.frames:
            self._queue.appendleft(self._current)
        self._current = None
        self._count()

    async def drain(self, timeout_s: float) -> bool:
        """Put everything where it is safe, now: into the database, or into the spool if the database is away.

        True when all of it is committed. False when it is not: `memory_rows` are in neither place then.
        """
        self._draining = True
        self._hurry.set()
        end_s = time.monotonic() + timeout_s
        try:
            while not self._idle.is_set() and time.monotonic() < end_s:
                if self._spool is not None and self._is_away() and self._flush(self._spool):
                    break  # the next start stores it
                try:
                    async with asyncio.timeout(min(_DRAIN_STEP_S, max(0.0, end_s - time.monotonic()))):
                        await self._idle.wait()
                except TimeoutError:
                    continue
            if not self._idle.is_set():
                if self._spool is not None:
                    self._flush(self._spool)
                await self._committer.interrupt()
            return self._idle.is_set()
        finally:
            self._draining = False

    # --- the line

    async def _store_forever(self) -> None:
        while True:
            pending = await self._next()
            self._current, self._current_since_s = pending, time.monotonic()
            await self._committer.commit(pending)
            self._current = None
            self._last_rows = len(pending)
            if pending.frames and self._spool is not None:
                self._spool.advance(pending.frames)
                if self._spool.is_empty:
                    self._news.emptied(self.counters.spooled)
            self._count()

    async def _next(self) -> Pending:
        """The oldest of the line, taken from it; waits until there is something."""
        while True:
            if self.is_spooling:
                return await self._spooled()
            if self.history and not (self._queue and self._was_history):  # in turns
                self._was_history = True
                is_quiet = time.monotonic() > self._live_s + LIVE_S
                return self.history.take(BATCH_ROWS if is_quiet else SLICE_ROWS)
            if self._queue and not self._was_history:
                await self._linger()
            self._was_history = False
            if self._queue and not self.is_spooling:
                return self._queue.popleft()
            if not self._queue and not self.history and not self.is_spooling:
                self._filled.clear()
                self._idle.set()
                await self._filled.wait()

    def _count(self) -> None:
        unspooled = [one for one in (self._current, *self._queue) if one is not None and not one.frames]
        self._rows = sum(map(len, unspooled)) + self.history.rows
        self._press()

    async def _linger(self) -> None:
        wait_s = min(LINGER_S + self._last_rows * LINGER_PER_ROW_S, LINGER_MAX_S)
        # claims alone come all at the same moment
        if self._draining or len(self._queue) > 1 or not 0 < len(self._queue[0]) < BATCH_ROWS:
            return
        self._hurry.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._hurry.wait()
        except TimeoutError:
            return

    # --- the spool

    async def _spooled(self) -> Pending:
        """The oldest frames of the spool as one batch."""
        assert self._spool
        await self._database.ready()
        count, documents = self._spool.peek(REPLAY_ROWS)
        await look_up(self._database, {m for document, _ in documents for m in markets_of(document)}, self._known)
        pending = Pending()
        for document, claims in documents:
            absorb(pending, document, self._known, claims=claims)
        pending.frames = count
        return pending

    async def _spool_forever(self, spool: Spool) -> None:
        pause_s = SPOOL_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            began_s = time.monotonic()
            is_late = began_s - (self.waiting_since_s or began_s) > MOMENT_S  # behind others
            if self.is_spooling or self._rows >= MEMORY_ROWS or self._is_away() or is_late:
                self._flush(spool)
            else:
                self._news.refused_at_s = None  # the database took what the spool did not
            self._judge_fullness()
            took_s = time.monotonic() - began_s
            pause_s = max(SPOOL_EVERY_S, took_s * SPOOL_SHARE) if self._news.refused_at_s is None else REFUSED_PAUSE_S
            if self._idle.is_set():
                await self._filled.wait()

    def _judge_fullness(self) -> None:
        self._press()
        if self._news.refused_at_s is None or self._rows < MEMORY_ROWS // 2:
            self._full = False
        elif self._rows >= MEMORY_ROWS:
            self._full = True

    def _is_away(self) -> bool:
        """Whether the database has not taken anything for longer than a moment."""
        if self.is_spooling and not self._database.is_ready:
            return True
        since_s = self._committer.away_since_s
        return self._waited_s() > MOMENT_S or (since_s is not None and time.monotonic() - since_s > MOMENT_S)

    def _waited_s(self) -> float:
        """How long the batch that is being committed has been waiting for that."""
        return 0.0 if self._current is None else time.monotonic() - self._current_since_s

    def _flush(self, spool: Spool) -> bool:
        """Put into the spool whatever is in memory only. False if it does not take it."""
        if self.history:
            self._queue.append(self.history.take(self.history.rows))
        waiting = [one for one in (self._current, *self._queue) if one is not None and not one.frames]
        if not waiting:
            return True
        began = spool.is_empty
        try:
            written = spool.append(waiting)
        except (SpoolFull, OSError) as error:
            self._news.refused(error, memory_rows=self._rows, memory_limit=MEMORY_ROWS, spool_rows=spool.rows)
            return False
        rows = sum(map(len, waiting))
        if self._current is not None and not self._current.frames:
            self._current.frames = 1
        self._queue.clear()
        for pending in waiting:
            self._known.update(((one.exchange, one.symbol), one) for one in pending.instruments())
        self.counters.spooled += rows
        self.counters.spooled_bytes += written
        self._count()
        self._news.taken(rows, began=began, waited_s=self._waited_s())
        return True
