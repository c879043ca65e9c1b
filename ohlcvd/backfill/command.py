"""The command: round after round, each either fetching or watching, until nothing is missing any more.

A round ends early when the service that fetched is gone, or one came that fetches: the next round does it the other
way. Where the embedded server is needed and no service runs, it is started here, under the service's lock, so that no
service starts meanwhile; with a database of one's own nothing keeps a service from starting, which then takes over.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, TypeVar

from ohlcvd import coverage
from ohlcvd.backfill import words
from ohlcvd.backfill.fetch import Fetching
from ohlcvd.backfill.goal import Goal, Order, Standing, goal_of
from ohlcvd.backfill.progress import Display, Meter, Notes
from ohlcvd.backfill.service import Service, check_exchange, lock_sentence, look
from ohlcvd.backfill.standings import standings_of
from ohlcvd.config import Config, prepare_directories
from ohlcvd.config.dsn import EMBEDDED
from ohlcvd.config.retention import check_backfill
from ohlcvd.coverage import Range
from ohlcvd.database import Database
from ohlcvd.database.counting import rows_in
from ohlcvd.database.migrate import migrate
from ohlcvd.embedded import prepare_postgres, running
from ohlcvd.errors import AlreadyRunning, Exit, OhlcvdError, ServiceUnavailable
from ohlcvd.log import setup_logging
from ohlcvd.market import Instrument, Kind
from ohlcvd.supervisor.lock import ServiceLock

INTERRUPTED: Final = 130
POLL_S: Final = 0.5
# How often one looks whether a service came or went.
LOOK_S: Final = 2.0
# A service that is starting answers soon, unless it makes its first database.
SILENT_S: Final = 10.0
STARTING_S: Final = 20.0

T = TypeVar("T")


def run(config: Config, order: Order) -> int:
    """The exit code: 0 complete, 1 the venue does not give all of it, 130 interrupted."""
    check_exchange(config, order.exchange)
    backfill = Backfill(config, order, Display(sys.stdout, f"{order.exchange} {order.symbol}"))
    with _term_interrupts():
        while True:
            service = _settled(config, order)
            backfill.begin(service)
            code = _round(backfill, config, service)
            if code is not None:
                return code


def _settled(config: Config, order: Order) -> Service:
    """Who fetches, as soon as that is known."""
    began_s = time.monotonic()
    while True:
        service = look(config, order.exchange, order.symbol)
        waited_s = time.monotonic() - began_s
        if service.state == "silent" and waited_s > SILENT_S:
            raise AlreadyRunning(lock_sentence(config, service))
        if service.state not in ("silent", "starting") or (service.state == "starting" and waited_s > STARTING_S):
            return service
        time.sleep(POLL_S)


def _round(backfill: "Backfill", config: Config, service: Service) -> int | None:
    if service.state == "none" and config.postgres_dsn == EMBEDDED:
        prepare_directories(config)
        with _logging(config, backfill.display):
            try:
                lock = ServiceLock(config.run_dir)
            except AlreadyRunning:
                return None  # somebody was quicker
            with lock, running(prepare_postgres(config.state_dir)) as server:
                return _run(backfill.round(server.address, service, is_alone=True))
    with _logging(config, backfill.display):
        address = config.postgres_dsn
        if address == EMBEDDED:
            if service.postgres is None:
                raise ServiceUnavailable("the running ohlcvd has no embedded PostgreSQL, but the configuration says so")
            address = service.postgres
        return _run(backfill.round(address, service, is_alone=False))


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    finally:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the loop has given it back to the system


class Backfill:
    """One order, over all its rounds."""

    def __init__(self, config: Config, order: Order, display: Display) -> None:
        self.display = display
        self._config = config
        self._order = order
        self._meters: dict[Kind, Meter] = {}
        self._settled: dict[Kind, list[Range]] = {}
        self._goal: Goal | None = None
        self._is_away = False

    def begin(self, service: Service) -> None:
        """Before a round. UsageError when the order means nothing to this service, ConfigError when it asks for what is
        not kept."""
        self._collects = service.collects or self._config.service
        now_us = time.time_ns() // 1000
        goal = goal_of(self._order, self._collects, now_us)
        for kind in goal.kinds:
            check_backfill(kind, self._config.retention_us(kind), goal.lower_us, now_us)
        if self._goal is None:
            self._goal = goal
        else:  # what is waited for does not move on with the time
            self._goal = goal._replace(upper_us=min(goal.upper_us, self._goal.upper_us))

    @property
    def goal(self) -> Goal:
        """What is to be complete; known once a round has begun."""
        assert self._goal is not None
        return self._goal

    async def round(self, address: str, service: Service, *, is_alone: bool) -> int | None:
        """Fetch or watch. The exit code, or None when somebody else is to go on."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            async with AsyncExitStack() as stack:
                database = await stack.enter_async_context(Database(address, application_name="ohlcvd backfill"))
                fetching = None
                if not service.fetches:
                    opening = stack.enter_async_context(Fetching(self._exchange(), database))
                    fetching = await _unless(stop, opening)
                    fetching.check_symbol(self._order.symbol)
                    self._goal = self.goal.ending_before(fetching.venue_now_us())
                instrument = await _unless(stop, self._want(database))
                if fetching is not None:
                    await _unless(stop, fetching.start(instrument, self.goal))
                return await self._work(database, instrument, fetching, stop, is_alone=is_alone)
        except _Stopped:
            return self._interrupted(0, others_go_on=False)

    def _exchange(self) -> Any:
        return self._config.exchange(self._order.exchange)

    async def _want(self, database: Database) -> Instrument:
        await migrate(database.conninfo)
        instrument = (await database.instruments(self.goal.exchange, [self.goal.symbol]))[self.goal.symbol]
        for kind in self.goal.kinds:
            await database.want(instrument.id, kind, self.goal.lower_us)
        return instrument

    async def _work(
        self, database: Database, instrument: Instrument, fetching: Fetching | None, stop: asyncio.Event, *,
        is_alone: bool,
    ) -> int | None:  # fmt: skip
        look_s = time.monotonic() + LOOK_S
        watches = fetching is None
        try:
            while True:
                standings = await self._observe(database, instrument)
                if standings is not None and not any(one.missing for one in standings):
                    return self._ended(standings)
                if fetching is not None:
                    fetching.check()
                if not is_alone and time.monotonic() >= look_s:
                    look_s = time.monotonic() + LOOK_S
                    if not await self._is_still(watches):
                        return None
                await _sleep(stop, POLL_S)
        except _Stopped:
            left = 0
            if fetching is not None:
                left = await fetching.end(self._config.drain_s)
                fetching = None
                await self._observe(database, instrument)
            return self._interrupted(left, others_go_on=watches)
        finally:
            if fetching is not None:
                await fetching.end(self._config.drain_s)

    async def _is_still(self, others_fetch: bool) -> bool:
        """Whether whoever is to fetch is still the same, and the database still there."""
        service = await asyncio.to_thread(look, self._config, self._order.exchange, self._order.symbol)
        if service.state == "none" and self._config.postgres_dsn == EMBEDDED:
            return False
        return service.state == "silent" or service.fetches == others_fetch

    async def _observe(self, database: Database, instrument: Instrument) -> list[Standing] | None:
        """Look into the database, and show what is there; None when it cannot be read now."""
        try:
            standings = await standings_of(database, instrument, self.goal, self._collects)
            now_s = time.monotonic()
            for one in standings:
                await self._measure(database, instrument, one, now_s)
        except ServiceUnavailable as error:
            if not self._is_away:
                self.display.note(f"waiting for the database: {error}")
            self._is_away = True
            return None
        self._is_away = False
        self.display.show(self._meters, now_s)
        return standings

    async def _measure(self, database: Database, instrument: Instrument, one: Standing, now_s: float) -> None:
        meter = self._meters.get(one.kind)
        if meter is None:
            meter = self._meters[one.kind] = Meter(self.goal.upper_us - self.goal.lower_us)
            self._settled[one.kind] = one.covered
        new = coverage.subtract(one.covered, self._settled[one.kind])
        rows = await rows_in(database, instrument.id, one.kind, new) if new else 0
        self._settled[one.kind] = coverage.add(self._settled[one.kind], *new)
        meter.saw(now_s, one.settled_us, rows)

    def _ended(self, standings: list[Standing]) -> int:
        self.display.end(self._meters)
        print(words.ended(self.goal, standings, sum(meter.rows for meter in self._meters.values())), flush=True)
        return int(Exit.NO if any(one.lost for one in standings) else Exit.OK)

    def _interrupted(self, left_rows: int, *, others_go_on: bool) -> int:
        self.display.end(self._meters)
        print(words.interrupted(self.goal, self._meters, left_rows=left_rows, others_go_on=others_go_on), flush=True)
        return INTERRUPTED


class _Stopped(Exception):
    """INT or TERM came."""


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns, unless a signal comes first: then it is cancelled."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise _Stopped
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
    raise _Stopped


@contextmanager
def _logging(config: Config, display: Display) -> Iterator[None]:
    """The story goes to a log file where there is a place for it; warnings are shown."""
    file = config.log_dir / "backfill.log" if os.access(config.log_dir, os.W_OK | os.X_OK) else None
    try:
        setup_logging(file=file, level=config.log_level, terminal=False)
    except OhlcvdError:
        setup_logging(file=None, level=config.log_level, terminal=False)  # somebody else's file
    notes = Notes(display)
    logging.getLogger("ohlcvd").addHandler(notes)
    try:
        yield
    finally:
        logging.getLogger("ohlcvd").removeHandler(notes)


@contextmanager
def _term_interrupts() -> Iterator[None]:
    """Outside of an event loop, too, TERM lets everything clean up."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
