"""Asks the venue for what is missing, hands it to the store, claims it. One for each collecting process.

It knows neither the exchange library nor the database, only what is declared here. A turn is one page of one market:
live holes before history, and among equals whoever waited longest. What an answer proves is stored and claimed in one
go, between two awaits: cancelled or killed anywhere, the next process finds missing what was not committed, no more.

Nothing waits but for the venue's rate limit, which is the handler's. A market whose question fails pauses for
min(300, 2**n) s, the others go on; when the venue asks to be left alone, all of them do. A database that is behind or
away stops the asking until it has caught up.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.errors import ExchangeError, ExchangeUnavailable, ServiceUnavailable
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.exchange.sink import TradePage
from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Instrument, Kind, Trade
from ohlcvd.repair import plan
from ohlcvd.repair.book import CoverageBook, Key
from ohlcvd.repair.candles_walk import CandleStep, CandleWalk
from ohlcvd.repair.lost import LostGaps, Unfillable
from ohlcvd.repair.plan import Job, Market, Turns
from ohlcvd.repair.walk import Lost, Step, TradeWalk
from ohlcvd.store import Store

KINDS: tuple[Kind, Kind] = ("trades", "candles")
IDLE_S = 0.5
SWEEP_S = 1.0
BUILD_EVERY_S = 5.0
# What is fetched and not committed is fetched again after a crash: a few pages, not what memory would hold.
BACKLOG_ROWS = 3_000
BACKLOG_S = 0.02
# After so many walks through a stretch that brought nothing, it is said to be lost.
_FRUITLESS_WALKS = 3


class History(Protocol):
    """`ExchangeHandler`."""

    def get_trades(
        self, symbol: str, *, from_id: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Awaitable[TradePage]: ...
    def get_ohlcv(
        self, symbol: str, since_us: int | None = None, limit: int | None = None
    ) -> Awaitable[list[Candle]]: ...


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


class _Active:
    """A walk that is under way."""

    def __init__(self, job: Job, walk: TradeWalk | CandleWalk) -> None:
        self.job = job
        self.walk = walk
        self.claimed = 0
        self.has_lost = False


class RepairScheduler:
    """See the module. `book` must be loaded for every market of `kinds` before `run`."""

    def __init__(
        self, exchange: str, instruments: Iterable[Instrument], kinds: Collection[Kind], handler: History, store: Store,
        book: CoverageBook, *, rules: VenueRules, live_from_us: Callable[[Instrument, Kind], int | None],
        venue_now_us: Callable[[], int | None], records: Records, backlog: Callable[[], int] = lambda: 0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`live_from_us`: since when the live stream of a market is unbroken, in the venue's time, None while it is
        not; what happens from then on is the stream's to store and claim."""
        self.counters = RepairCounters()
        self._log = get_component_logger(f"ohlcvd.repair.{exchange}")
        self._instruments = list(instruments)
        self._kinds = set(kinds)
        self._handler = handler
        self._store = store
        self._book = book
        self._rules = rules
        self._live_from_us = live_from_us
        self._venue_now_us = venue_now_us
        self._records = records
        self._backlog = backlog
        self._now_s = now_s
        self._turns = Turns()
        self._active: dict[Key, _Active] = {}
        self._busy: set[Key] = set()
        self._ready: list[Key] = []
        self._swept_s = float("-inf")
        self._rest_until_s = float("-inf")
        self._lost: dict[Key, LostGaps] = {}
        self._block_us: dict[Key, int] = {}
        self._density: dict[Key, float] = {}
        self._fruitless: dict[Key, int] = {}
        self._built_s: dict[Instrument, float] = {}
        self._unrecorded: list[tuple[Key, Unfillable]] = []

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._rules.requests_at_once):
                group.create_task(self._turns_forever())
            group.create_task(self._build_forever())

    async def _turns_forever(self) -> None:
        while True:
            if not await self.turn():
                await asyncio.sleep(BACKLOG_S if self._backlog() > BACKLOG_ROWS else IDLE_S)

    async def turn(self) -> bool:
        """One page of one market; False when there is nothing to do now."""
        venue_now_us, now_s = self._venue_now_us(), self._now_s()
        if venue_now_us is None or now_s < self._rest_until_s or self._backlog() > BACKLOG_ROWS:
            return False
        if not self._ready or now_s >= self._swept_s + SWEEP_S:
            self._sweep(venue_now_us, now_s)
        key = next((key for key in self._ready if key not in self._busy), None)
        if key is None:
            return False
        self._ready.remove(key)
        self._busy.add(key)
        self._turns.served(key)
        try:
            await self._work(key, venue_now_us)
        except (ExchangeError, ServiceUnavailable) as error:
            self._failed(key, error)
        finally:
            self._busy.discard(key)
        return True

    # which

    def _sweep(self, venue_now_us: int, now_s: float) -> None:
        """Look at every market: who has something to do, and whether a live hole comes before its history."""
        self._swept_s = now_s
        ready: list[tuple[Key, bool]] = []
        for instrument in self._instruments:
            for key in ((instrument, kind) for kind in KINDS):
                if key in self._busy or self._turns.is_paused(key, now_s):
                    continue
                active = self._active.get(key)
                job = self._job(key, venue_now_us, now_s)
                if active is not None and (active.job.is_live or job is None or not job.is_live):
                    job = active.job
                elif job is not None:
                    self._active.pop(key, None)
                if job is not None:
                    ready.append((key, job.is_live))
        self._ready = self._turns.order(ready, now_s)

    def _job(self, key: Key, venue_now_us: int, now_s: float) -> Job | None:
        market = self._market(key, venue_now_us, now_s)
        if not market.wanted:
            return None
        if key[1] == "trades":
            return plan.trades_job(market, venue_now_us, self._block_us.get(key, plan.FIRST_BLOCK_US))
        return plan.candles_job(market, venue_now_us, self._rules) if "candles" in self._kinds else None

    def _market(self, key: Key, venue_now_us: int, now_s: float) -> Market:
        instrument, kind = key
        taken = self._book.taken(instrument, kind)
        lost = self._lost.get(key)
        set_aside = [] if lost is None else lost.set_aside(now_s)
        if key in self._active:
            set_aside.append(self._active[key].job.hole)
        if kind == "trades" and kind not in self._kinds:
            return Market(self._wanted_for_candles(instrument, venue_now_us, now_s), taken, set_aside)
        live_from_us = self._live_from_us(instrument, kind)
        wanted = plan.wanted(self._book.wanted_from(instrument, kind), live_from_us, taken, venue_now_us)
        return Market(wanted, taken, set_aside)

    def _wanted_for_candles(self, instrument: Instrument, venue_now_us: int, now_s: float) -> list[Range]:
        """Trades that are not collected for themselves, but the venue has no candles of those minutes any more."""
        reach_us = self._reach(venue_now_us)
        if reach_us == 0:
            return []
        holes = plan.missing(self._market((instrument, "candles"), venue_now_us, now_s), venue_now_us)
        return coverage.normalise((lower, min(upper, reach_us)) for lower, upper in holes if lower < reach_us)

    def _reach(self, venue_now_us: int) -> int:
        """Minutes that open before this are built from trades."""
        return plan.reach(self._rules, venue_now_us) if "candles" in self._kinds else venue_now_us

    # one page

    async def _work(self, key: Key, venue_now_us: int) -> None:
        instrument, _ = key
        active = self._active.get(key) or await self._open(key)
        if active is None:
            return
        walk = active.walk
        if isinstance(walk, TradeWalk):
            ask = walk.ask()
            self.counters.requests += 1
            page = await self._handler.get_trades(
                instrument.symbol, from_id=ask.from_id, since_us=ask.since_us, limit=ask.limit
            )
            self.counters.rows += len(page.trades)
            step: Step | CandleStep = walk.take(page, venue_now_us)
        else:
            question = walk.ask()
            self.counters.requests += 1
            candles = await self._handler.get_ohlcv(instrument.symbol, question.since_us, question.limit)
            self.counters.rows += len(candles)
            step = walk.take(candles, venue_now_us)
        await self._keep(key, active, step)

    async def _open(self, key: Key) -> _Active | None:
        """Begin a walk through the market's next stretch, as the database has it now."""
        instrument, kind = key
        if key not in self._lost:
            lost = LostGaps()
            lost.load(await self._records.unfillable_of(instrument, kind), self._now_s())
            self._lost[key] = lost
        version = self._book.version(instrument, kind)
        self._book.refresh(instrument, kind, await self._records.coverage(instrument, kind), version)
        venue_now_us = self._venue_now_us()
        job = None if venue_now_us is None else self._job(key, venue_now_us, self._now_s())
        if job is None:
            return None
        walk = CandleWalk(job.hole, self._rules) if kind == "candles" else await self._trade_walk(key, job)
        active = self._active[key] = _Active(job, walk)
        self._log.debug(
            "fetching what is missing", symbol=instrument.symbol, kind=kind, lower_us=job.hole[0], upper_us=job.hole[1],
            live=job.is_live,
        )  # fmt: skip
        return active

    async def _trade_walk(self, key: Key, job: Job) -> TradeWalk:
        instrument, _ = key
        lower, upper = job.hole
        near = await self._records.seam_before(instrument, lower)
        if near is not None and not coverage.contains(self._book.taken(*key), near.ts_us + 1, lower):
            near = None  # something is missing between it and the hole
        far = await self._records.seam_after(instrument, upper)
        density = self._density.get(key)
        return TradeWalk(job.hole, self._rules, near=near, far=far, trusts_lower=job.trusts_lower, trades_per_s=density)

    async def _keep(self, key: Key, active: _Active, step: Step | CandleStep) -> None:
        instrument, kind = key
        if isinstance(step, Step):
            if step.trades:
                self._store.add_trades(instrument, step.trades)
        elif step.candles:
            self._store.add_candles(instrument, step.candles)
        for lower, upper in step.claims:
            self._store.cover(instrument, kind, lower, upper)
        self._book.claimed(instrument, kind, step.claims)
        for one in step.lost:
            self._take_back(key, one.gap)
        active.claimed += coverage.duration(step.claims)
        active.has_lost = active.has_lost or bool(coverage.intersect([active.job.hole], [one.gap for one in step.lost]))
        if step.is_done:
            del self._active[key]
        lost = list(step.lost)
        if step.is_done:
            lost += self._finished(key, active)
        if step.doubt is not None:
            pause_s = self._turns.failed(key, self._now_s())
            self._log.warning(
                "answer proves nothing, asking again", symbol=instrument.symbol, kind=kind, answered=step.doubt,
                retry_in_s=pause_s,
            )  # fmt: skip
        else:
            self._turns.succeeded(key)
        self._lost[key].settle(self._book.taken(instrument, kind))
        if lost:
            await self._found_lost(key, lost, active.job.hole)

    def _take_back(self, key: Key, gap: Range) -> None:
        """What is lost may lie beside the hole, in what was called covered before: it is not."""
        for lower, upper in coverage.intersect(self._book.taken(*key), [gap]):
            self._store.uncover(*key, lower, upper)
            self._book.unclaimed(*key, lower, upper)

    def _finished(self, key: Key, active: _Active) -> list[Lost]:
        """A walk is over. Returns its hole as lost when again and again nothing comes of it."""
        instrument, kind = key
        walk, job = active.walk, active.job
        if isinstance(walk, TradeWalk):
            if walk.trades_per_s is not None:
                self._density[key] = walk.trades_per_s
            if not job.is_live:
                block_us = job.hole[1] - job.hole[0]
                self._block_us[key] = plan.next_block_us(self._rules, max(block_us, 1), walk.rows)
        if active.claimed or active.has_lost:
            self._fruitless.pop(key, None)
            if coverage.contains(self._book.taken(instrument, kind), *job.hole):
                self.counters.holes_filled += 1
            return []
        if not job.is_live and not job.trusts_lower:
            return []  # an empty block: the next one is longer
        count = self._fruitless[key] = self._fruitless.get(key, 0) + 1
        self._turns.failed(key, self._now_s())
        if count < _FRUITLESS_WALKS:
            return []
        del self._fruitless[key]
        return [Lost(job.hole, "", f"{kind} of the whole stretch", f"{walk.rows} rows that prove nothing about it")]

    async def _found_lost(self, key: Key, lost: Sequence[Lost], hole: Range) -> None:
        instrument, kind = key
        for one in self._lost[key].found(lost, hole, self._now_s()):
            self.counters.unfillable += 1
            self._log.warning(
                "venue does not give this, asked again rarely", symbol=instrument.symbol, kind=kind, reason=one.reason,
                lower_us=one.gap[0], upper_us=one.gap[1], ids=one.ids, asked=one.asked, answered=one.answered,
                attempts=one.attempts, next_in_s=round(one.next_in_s),
            )  # fmt: skip
            self._unrecorded.append((key, one))
        await self._record()

    async def _record(self) -> None:
        """Evidence waits until the database has taken it."""
        while self._unrecorded:
            (instrument, kind), one = self._unrecorded[0]
            await self._records.record_unfillable(instrument, kind, one)
            self._unrecorded = [other for other in self._unrecorded if other[1] is not one]

    def _failed(self, key: Key, error: ExchangeError | ServiceUnavailable) -> None:
        instrument, kind = key
        now_s = self._now_s()
        self.counters.failures += 1
        pause_s = self._turns.failed(key, now_s)
        if isinstance(error, ExchangeUnavailable) and error.retry_after_s is not None:
            pause_s = error.retry_after_s
            self._rest_until_s = max(self._rest_until_s, now_s + pause_s)
        self._log.warning(
            "history could not be fetched", symbol=instrument.symbol, kind=kind, error=str(error), retry_in_s=pause_s
        )

    # candles from trades

    async def _build_forever(self) -> None:
        while True:
            await self.build()
            await asyncio.sleep(SWEEP_S)

    async def build(self) -> None:
        """Make candles of committed trades where the venue has none."""
        venue_now_us, now_s = self._venue_now_us(), self._now_s()
        if venue_now_us is None:
            return
        reach_us = self._reach(venue_now_us)
        for instrument in self._instruments if reach_us else ():
            if now_s < self._built_s.get(instrument, float("-inf")) + BUILD_EVERY_S:
                continue
            candles = self._market((instrument, "candles"), venue_now_us, now_s)._replace(set_aside=())
            ranges = plan.from_trades(candles, self._book.covered(instrument, "trades"), venue_now_us, reach_us)
            if ranges:
                self._built_s[instrument] = now_s
                await self._build(instrument, ranges)

    async def _build(self, instrument: Instrument, ranges: Sequence[Range]) -> None:
        try:
            self.counters.built += await self._records.build_candles(instrument, ranges)
            version = self._book.version(instrument, "candles")
            covered = await self._records.coverage(instrument, "candles")
        except ServiceUnavailable as error:
            self._log.warning("candles could not be built from trades", symbol=instrument.symbol, error=str(error))
            return
        self._book.refresh(instrument, "candles", covered, version)
