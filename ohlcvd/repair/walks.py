"""The walks that are under way: one question of one of them at a time, its answer stored, claimed and judged.

What an answer proves is stored and claimed in one go, between two awaits: cancelled or killed anywhere, the next
process finds missing what was not committed, no more. A walk that was dropped meanwhile drops its answer.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from ohlcvd import coverage
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Instrument
from ohlcvd.repair import plan
from ohlcvd.repair.book import CoverageBook, Key
from ohlcvd.repair.candles_walk import CandleStep, CandleWalk
from ohlcvd.repair.handed import Handed
from ohlcvd.repair.lost import LostGaps, Unfillable
from ohlcvd.repair.needs import Needs
from ohlcvd.repair.plan import Job
from ohlcvd.repair.ports import History, Records, RepairCounters
from ohlcvd.repair.walk import Lost, Step, TradeWalk
from ohlcvd.store import Store

# What another process has covered is seen after so long at the latest; until then it may be fetched in vain.
READ_AGAIN_S = 10.0
# After so many walks through a stretch that brought nothing, it is said to be lost.
_FRUITLESS_WALKS = 3

# Nothing was asked; an answer brought what it should; it did not, and the market had better wait.
Outcome = Literal["nothing", "well", "in vain"]


class Active:
    """A walk that is under way."""

    def __init__(self, job: Job, walk: TradeWalk | CandleWalk) -> None:
        self.job = job
        self.walk = walk
        self.claimed = 0
        self.has_lost = False

    @property
    def not_before_us(self) -> int:
        """The venue's time before which it is not to be asked."""
        return self.walk.not_before_us if isinstance(self.walk, TradeWalk) else 0

    def extend(self, hole: coverage.Range) -> None:
        """What else is missing of trades, if it follows right after this walk's hole."""
        if isinstance(self.walk, TradeWalk) and hole[0] == self.job.hole[1]:
            self.walk.extend(hole[1])
            self.job = self.job._replace(hole=self.walk.hole)


class Walks:
    """Of one scheduler, by market and kind."""

    def __init__(
        self, handler: History, store: Store, book: CoverageBook, needs: Needs, records: Records, *, rules: VenueRules,
        counters: RepairCounters, log: ComponentLogger, venue_now_us: Callable[[], int | None],
        now_s: Callable[[], float],
    ) -> None:  # fmt: skip
        self.active: dict[Key, Active] = {}
        self.handed = Handed()
        self._handler = handler
        self._store = store
        self._book = book
        self._needs = needs
        self._records = records
        self._rules = rules
        self._counters = counters
        self._log = log
        self._venue_now_us = venue_now_us
        self._now_s = now_s
        self._density: dict[Key, float] = {}
        self._read_s: dict[Key, float] = {}  # when the database was asked what it has
        self._fruitless: dict[Key, int] = {}
        self._unrecorded: list[tuple[Key, Unfillable]] = []

    def forget(self, instrument: Instrument) -> None:
        """Drop whatever is known of this market; an answer on its way goes nowhere."""
        for known in (self.active, self._density, self._fruitless, self._read_s):
            for key in [key for key in known if key[0] == instrument]:
                del known[key]

    async def open(self, key: Key) -> Active | None:
        """Begin a walk through the market's next stretch, as the database has it."""
        instrument, kind = key
        if key not in self._needs.lost:
            lost = LostGaps()
            lost.load(await self._records.unfillable_of(instrument, kind), self._now_s())
            self._needs.lost[key] = lost
        if self._now_s() >= self._read_s.get(key, float("-inf")) + READ_AGAIN_S:
            version = self._book.version(instrument, kind)
            self._book.refresh(instrument, kind, await self._records.coverage(instrument, kind), version)
            self._read_s[key] = self._now_s()
        venue_now_us = self._venue_now_us()
        job = None if venue_now_us is None else self._needs.job(key, venue_now_us, self._now_s())
        if job is None:
            return None
        walk = CandleWalk(job.hole, self._rules) if kind == "candles" else await self._trade_walk(key, job)
        if key not in self._needs.lost:
            return None  # forgotten meanwhile
        self._log.debug(
            "fetching what is missing", symbol=instrument.symbol, kind=kind, lower_us=job.hole[0], upper_us=job.hole[1],
            live=job.is_live,
        )  # fmt: skip
        return Active(job, walk)

    async def _trade_walk(self, key: Key, job: Job) -> TradeWalk:
        instrument, _ = key
        lower, upper = job.hole
        near = await self._records.seam_before(instrument, lower)
        if near is not None and not coverage.contains(self._book.taken(*key), near.ts_us + 1, lower):
            near = None  # something is missing between it and the hole
        far = await self._records.seam_after(instrument, upper)
        density = self._density.get(key)
        return TradeWalk(job.hole, self._rules, near=near, far=far, trusts_lower=job.trusts_lower, trades_per_s=density)

    async def step(self, key: Key, venue_now_us: int) -> Outcome:
        """One question of the market's walk, at the venue's time `venue_now_us`."""
        instrument, _ = key
        active = self.active[key]
        walk = active.walk
        if isinstance(walk, TradeWalk):
            ask = walk.ask()
            self._counters.requests += 1
            page = await self._handler.get_trades(
                instrument.symbol, from_id=ask.from_id, since_us=ask.since_us, limit=ask.limit
            )
            self._counters.rows += len(page.trades)
            if self.active.get(key) is not active:
                return "nothing"
            return await self._keep(key, active, walk.take(page, venue_now_us))
        question = walk.ask()
        self._counters.requests += 1
        candles = await self._handler.get_candles(instrument.symbol, question.since_us, question.limit)
        self._counters.rows += len(candles)
        if self.active.get(key) is not active:
            return "nothing"
        return await self._keep(key, active, walk.take(candles, venue_now_us))

    async def _keep(self, key: Key, active: Active, step: Step | CandleStep) -> Outcome:
        instrument, kind = key
        if isinstance(step, Step):
            if step.trades:
                self._store.add_trades(instrument, step.trades)
                self.handed.add(len(step.trades), self._now_s())
        elif step.candles:
            self._store.add_candles(instrument, step.candles)
            self.handed.add(len(step.candles), self._now_s())
        for lower, upper in step.claims:
            self._store.cover(instrument, kind, lower, upper)
        self._book.claimed(instrument, kind, step.claims)
        for one in step.lost:
            self._take_back(key, one)
        active.claimed += coverage.duration(step.claims)
        active.has_lost = active.has_lost or bool(coverage.intersect([active.job.hole], [one.gap for one in step.lost]))
        lost, is_fruitful = list(step.lost), True
        if step.is_done:
            del self.active[key]
            is_fruitful = self._finished(key, active, lost)
        if step.doubt is not None:
            self._log.warning(
                "answer proves nothing, asking again", symbol=instrument.symbol, kind=kind, answered=step.doubt
            )
        self._needs.lost[key].settle(self._book.taken(instrument, kind))
        if lost:
            await self._found_lost(key, lost, active.job.hole)
        return "well" if step.doubt is None and is_fruitful else "in vain"

    def _take_back(self, key: Key, one: Lost) -> None:
        """What is lost may lie beside the hole, in what was called covered before: it is not."""
        for lower, upper in coverage.intersect(self._book.taken(*key), [one.gap]):
            self._store.uncover(*key, lower, upper)
            self._book.unclaimed(*key, lower, upper)

    def _finished(self, key: Key, active: Active, lost: list[Lost]) -> bool:
        """A walk is over. False if nothing came of it; again and again, and its hole is among what is lost."""
        instrument, kind = key
        walk, job = active.walk, active.job
        if isinstance(walk, TradeWalk):
            if walk.trades_per_s is not None:
                self._density[key] = walk.trades_per_s
            if not job.is_live:
                block_us = job.hole[1] - job.hole[0]
                self._needs.block_us[key] = plan.next_block_us(self._rules, max(block_us, 1), walk.rows)
        if active.claimed or active.has_lost:
            self._fruitless.pop(key, None)
            if coverage.contains(self._book.taken(instrument, kind), *job.hole):
                self._counters.holes_filled += 1
            return True
        if not job.is_live and not job.trusts_lower:
            return True  # an empty block: the next one is longer
        count = self._fruitless[key] = self._fruitless.get(key, 0) + 1
        if count >= _FRUITLESS_WALKS:
            del self._fruitless[key]
            evidence = f"{walk.rows} rows that prove nothing about it"
            lost.append(Lost(job.hole, "", f"{kind} of the whole stretch", evidence))
        return False

    async def _found_lost(self, key: Key, lost: Sequence[Lost], hole: coverage.Range) -> None:
        instrument, kind = key
        for one in self._needs.lost[key].found(lost, hole, self._now_s()):
            self._counters.unfillable += 1
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
