"""Asks the venue for what is missing, hands it to the store, claims it. One for each collecting process.

It knows neither the exchange library nor the database, only what ports.py declares. A turn is one page of one market:
live holes before history, and among equals whoever waited longest.

Nothing waits but for the venue's rate limit, which is the handler's. A market whose question fails pauses for
min(300, 2**n) s, the others go on; a venue that answers nobody, or asks to be left alone, is asked only now and then. A
database that is behind or away stops the asking until it has caught up.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable

from ohlcvd.errors import ExchangeError, ExchangeUnavailable, ServiceUnavailable, UnknownSymbol
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.log import get_component_logger
from ohlcvd.market import Instrument, Kind
from ohlcvd.repair.book import CoverageBook, Key
from ohlcvd.repair.building import Building
from ohlcvd.repair.calm import Calm
from ohlcvd.repair.handed import is_behind
from ohlcvd.repair.needs import LiveFrom, Needs
from ohlcvd.repair.outage import VenueHealth
from ohlcvd.repair.plan import Job, Turns
from ohlcvd.repair.ports import History, Records, RepairCounters
from ohlcvd.repair.seams import SeamCheck
from ohlcvd.repair.walks import Walks
from ohlcvd.rhythm import until_beat
from ohlcvd.store import Store

__all__ = ["KINDS", "RepairCounters", "RepairScheduler"]

KINDS: tuple[Kind, Kind] = ("trades", "candles")
IDLE_S = 1.0
LOOK_S = 5.0  # what is looked at beside the asking is in no hurry
SWEEP_S = 0.9  # less than a beat: whoever wakes up with it is not too early
# Of more markets than this, all are looked at less often: thousands at every second would take a tenth of the time.
SWEPT_MARKETS = 500
COMMIT_S = 0.05


class RepairScheduler:
    """See the module. `book` must be loaded for every market before it is given."""

    def __init__(
        self, exchange: str, instruments: Iterable[Instrument], kinds: Collection[Kind], handler: History, store: Store,
        book: CoverageBook, *, rules: VenueRules, live_from_us: LiveFrom, venue_now_us: Callable[[], int | None],
        records: Records, waiting_since_s: Callable[[], float | None] = lambda: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`live_from_us`: since when the live stream of a market is unbroken, in the venue's time, None while it is
        not; what happens from then on is the stream's to store and claim. `waiting_since_s`: see handed.py."""
        self.counters = RepairCounters()
        self._log = log = get_component_logger(f"ohlcvd.repair.{exchange}")
        self._instruments = dict.fromkeys(instruments)
        self._rules = rules
        self._venue_now_us = venue_now_us
        self._records = records
        self._waiting_since_s = waiting_since_s
        self._now_s = now_s

        def live_from(instrument: Instrument, kind: Kind) -> int | None:
            # between two awaits a market may be gone
            return live_from_us(instrument, kind) if instrument in self._instruments else None

        self._needs = Needs(book, kinds, rules, live_from)
        self._walks = Walks(
            handler, store, book, self._needs, records, rules=rules, counters=self.counters, log=log,
            venue_now_us=venue_now_us, now_s=now_s,
        )  # fmt: skip
        self._building = Building(book, self._needs, records, log)
        self._seams = SeamCheck(book, store, records, live_from, log)
        self._health = VenueHealth()
        self._turns = Turns()
        self._calm, self._still = Calm(book, kinds, live_from_us), Calm(book, kinds, live_from_us)
        self._stored = asyncio.Event()
        self._looking = asyncio.Lock()
        self._busy: set[Key] = set()
        self._ready: list[Key] = []
        self._is_stale = True
        self._swept_s = float("-inf")
        self._rest_until_s = float("-inf")

    def add(self, instruments: Iterable[Instrument]) -> None:
        """See to these as well, from now on."""
        for instrument in instruments:
            if instrument not in self._instruments:
                self._forget(instrument)
                self._instruments[instrument] = None
        self._is_stale = True

    def remove(self, instruments: Iterable[Instrument]) -> None:
        """Leave these alone. What is on its way from the venue is dropped; what was handed to the store is stored."""
        for instrument in instruments:
            self._instruments.pop(instrument, None)
            self._forget(instrument)

    def _forget(self, instrument: Instrument) -> None:
        self._ready = [key for key in self._ready if key[0] != instrument]
        for part in (self._walks, self._needs, self._seams, self._turns):
            part.forget(instrument)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._rules.requests_at_once):
                group.create_task(self._turns_forever())
            group.create_task(self._look_forever())

    async def _turns_forever(self) -> None:
        while True:
            if not await self.turn():
                if self._walks.handed.is_much(self._waiting_since_s()):
                    await self._until_stored()
                else:
                    async with self._looking:  # one at a time, or all would wake up for nothing
                        await until_beat(IDLE_S)
                        while not (self._ready or self._is_stale or self._is_due(self._now_s())):
                            await until_beat(IDLE_S)

    def committed(self, traded: Iterable[Instrument] = ()) -> None:
        """The store has committed something, among it trades of these."""
        self._stored.set()
        self._seams.traded(traded)

    async def _until_stored(self) -> None:
        self._stored.clear()
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._stored.wait()
        except TimeoutError:
            return  # nobody tells, then; one looks

    async def turn(self) -> bool:
        """One page of one market; False when there is nothing to do now."""
        venue_now_us, now_s = self._venue_now_us(), self._now_s()
        if venue_now_us is None or now_s < self._rest_until_s:
            return False
        waiting_since_s = self._waiting_since_s()
        if is_behind(waiting_since_s, now_s) or self._walks.handed.is_much(waiting_since_s):
            return False
        if (not self._ready and self._is_stale) or self._is_due(now_s):
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
            self._is_stale = True
        return True

    # which

    def _is_due(self, now_s: float) -> bool:
        if now_s < self._swept_s + SWEEP_S * max(1.0, len(self._instruments) / SWEPT_MARKETS):
            return False
        is_quiet = not (self._ready or self._busy or self._walks.active or self._turns.has_failed)
        return not (is_quiet and self._calm.lasts(self._instruments, now_s))

    def _sweep(self, venue_now_us: int, now_s: float) -> None:
        """Look at every market: who has something to do, and whether a live hole comes before its history."""
        self._swept_s, self._is_stale = now_s, False
        self._calm.looked(self._instruments, now_s)
        ready: list[tuple[Key, bool]] = []
        for instrument in self._instruments:
            for key in ((instrument, kind) for kind in KINDS):
                if key in self._busy or self._turns.is_paused(key, now_s):
                    continue
                job = self._next_job(key, venue_now_us, now_s)
                if job is not None:
                    ready.append((key, job.is_live))
        self._ready = self._turns.order(ready, now_s)

    def _next_job(self, key: Key, venue_now_us: int, now_s: float) -> Job | None:
        """What a market's next question would be about; a walk in its history gives way to a live hole."""
        active = self._walks.active.get(key)
        job = self._needs.job(key, venue_now_us, now_s, None if active is None else active.job.hole)
        if active is None:
            return job
        if job is not None and job.is_live:
            if not active.job.is_live:
                del self._walks.active[key]
                return job
            active.extend(job.hole)
        return active.job if active.not_before_us <= venue_now_us else None

    # one page

    async def _work(self, key: Key, venue_now_us: int) -> None:
        if key not in self._walks.active:
            active = await self._walks.open(key)
            if active is None or key[0] not in self._instruments:
                return
            self._walks.active[key] = active
            if active.not_before_us > venue_now_us:
                return
        outcome = await self._walks.step(key, venue_now_us)
        if self._health.answered():
            self._turns.forgive()
        if self._health.is_told:
            self._health.is_told = False
            await self._records.end_outages(key[0].exchange)
        if outcome == "in vain":
            self._turns.failed(key, self._now_s())
        else:
            self._turns.succeeded(key)

    def _failed(self, key: Key, error: ExchangeError | ServiceUnavailable) -> None:
        instrument, kind = key
        now_s, venue_now_us = self._now_s(), self._venue_now_us()
        self.counters.failures += 1
        retry_after_s = error.retry_after_s if isinstance(error, ExchangeUnavailable) else None
        rest_s = 0.0
        if isinstance(error, ExchangeError) and not isinstance(error, UnknownSymbol) and venue_now_us is not None:
            asked = f"{kind} of {instrument.symbol}"
            venue_rest_s = self._health.failed(asked, str(error), now_s, venue_now_us)
            rest_s = venue_rest_s if retry_after_s is None else retry_after_s
        self._rest_until_s = max(self._rest_until_s, now_s + rest_s)
        # a venue that answers nobody, or asks to be left alone, is no fault of the market
        pause_s = rest_s or self._turns.failed(key, now_s)
        self._log.warning(
            "history could not be fetched", symbol=instrument.symbol, kind=kind, error=str(error), retry_in_s=pause_s
        )

    # beside it

    async def _look_forever(self) -> None:
        while True:
            now_s = self._now_s()
            if self._turns.has_failed or not self._still.lasts(self._instruments, now_s):
                self._still.looked(self._instruments, now_s)
                await self.look()
            else:
                await self._hold_seams()  # they wait for what is covered, whatever else does not change
            await until_beat(LOOK_S)

    async def look(self) -> None:
        """Make candles of committed trades where the venue has none, hold seams together, tell of outages."""
        venue_now_us = self._venue_now_us()
        if venue_now_us is None:
            return
        self.counters.built += await self._building.run(self._instruments, venue_now_us, self._now_s)
        await self._hold_seams()
        try:
            await self._tell_outage(venue_now_us)
        except ServiceUnavailable as error:
            self._log.warning("outages could not be looked at", error=str(error))

    async def _hold_seams(self) -> None:
        try:
            if self._rules.sequential_ids:
                await self._seams.run(self._instruments, self._now_s())
        except ServiceUnavailable as error:
            self._log.warning("seams could not be looked at", error=str(error))

    async def _tell_outage(self, venue_now_us: int) -> None:
        silence = self._health.to_tell(self._now_s())
        if silence is None:
            return
        self._log.error(
            "venue does not answer, what is missing stays missing until it does", since_us=silence.since_us,
            attempts=silence.attempts, asked=silence.asked, answered=silence.answered,
        )  # fmt: skip
        for instrument in list(self._instruments):
            for kind in KINDS:
                missing = self._needs.missing((instrument, kind), venue_now_us, self._now_s())
                await self._records.record_outage(instrument, kind, missing, silence)
