"""One collector by itself, for a script: what a child does for all of its markets, for one market in this process.

    collector = OhlcvCollector("BTC/USD", "kraken")
    await collector.collect_historical(days=1)      # fetches what is missing of the last day, and returns
    await collector.start_collection()              # returns when the stream is live
    collector.is_healthy()
    await collector.stop_collection()

It uses the configuration that applies here (which database, which address of the exchange), may run beside the daemon
(what both bring is stored once), and claims coverage exactly as the daemon does.

A collector that a service drives is the same object without this: it must not be started, and its health is its own.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypedDict

from ohlcvd.errors import UsageError
from ohlcvd.market import SECOND_US, Kind

if TYPE_CHECKING:
    from ohlcvd.config import Config

START_S: Final = 60.0
DRAIN_S: Final = 20.0
POLL_S: Final = 0.05
_DAY_US: Final = 86_400 * SECOND_US


class Health(TypedDict):
    """What `health_check` tells. `last_collection` is the newest row's time (a candle's open time), ISO 8601 in UTC."""

    service: str
    status: Literal["healthy", "unhealthy", "stopped"]
    last_collection: str | None
    symbols_active: int


class NoStore:
    """Stands where a service would put its writer."""

    def add_trades(self, *_: Any) -> None:
        raise UsageError("this collector is not driven by a service: use start_collection")

    add_candles = cover = uncover = add_trades


class Alone(ABC):
    """The public methods of both collectors."""

    KIND: ClassVar[Kind]
    SERVICE: ClassVar[Literal["ohlcv", "trade"]]

    symbol: str
    exchange: str

    def __init__(self, symbol: str, exchange: str, *, driven: bool) -> None:
        self.symbol = symbol
        self.exchange = exchange
        self._driven = driven
        self._session: _Session | None = None

    # What a subclass knows of itself while a service drives it.

    @abstractmethod
    def live_now(self) -> bool:
        """Whether its stream is subscribed and unbroken."""

    @abstractmethod
    def last_us(self) -> int | None:
        """The time of the newest row; None before the first."""

    # alone

    async def collect_historical(self, days: float = 1.0) -> int:
        """Fetch what is missing of the last `days` days and store it; returns how many rows are new.

        Nothing is fetched twice. UsageError for a symbol that the exchange does not list, ExchangeUnavailable and
        ServiceUnavailable when the exchange or the database cannot be reached. What the venue does not give is left
        out and recorded: see `ohlcvd gaps`.
        """
        if days <= 0:
            raise UsageError(f"days is {days:g}, expected a number above 0")
        return await _fetch(self._config("both"), self.exchange, self.symbol, self.KIND, days)

    async def start_collection(self) -> None:
        """Collect live, in tasks of this event loop; returns when the stream is live. Started already, it does nothing.

        ConfigError when the exchange does not list the symbol, ServiceUnavailable when the stream is not live within
        a minute.
        """
        if self._driven:
            raise UsageError(f"{self.symbol} of {self.exchange} is collected by the service that made this collector")
        if self._session is not None:
            return
        session = _Session(self._config(self.SERVICE), self.exchange, self.symbol, self.KIND)
        await session.start()
        self._session = session

    async def stop_collection(self) -> None:
        """End; what was received is stored when this returns."""
        session, self._session = self._session, None
        if session is not None:
            await session.stop()

    async def restart(self) -> None:
        """Stop and start again, with a new connection."""
        await self.stop_collection()
        await self.start_collection()

    def is_healthy(self) -> bool:
        """Whether the stream is subscribed and unbroken."""
        if self._driven:
            return self.live_now()
        inner = self._inner()
        return inner is not None and inner.live_now()

    async def health_check(self) -> Health:
        """The same with its last row, as a document."""
        if self._driven:
            return health(self.SERVICE, [self])
        inner = self._inner()
        found = health(self.SERVICE, [] if inner is None else [inner])
        if self._session is None:
            found["status"] = "stopped"
        return found

    def _inner(self) -> "Alone | None":
        return None if self._session is None else self._session.collector()

    def _config(self, service: str) -> "Config":
        from ohlcvd.config import Config  # here and below: whoever drives a collector has loaded what it needs

        flags = {"service": service, "exchanges": self.exchange, "symbols": self.symbol, "since": "0"}
        return Config(flags={f"ohlcvd.{name}": text for name, text in flags.items()})


def health(service: str, collectors: "Collection[Alone]") -> Health:
    """Of all collectors of a service together."""
    times = [last_us for one in collectors if (last_us := one.last_us()) is not None]
    live = sum(one.live_now() for one in collectors)
    return {
        "service": service,
        "status": "healthy" if collectors and live == len(collectors) else "unhealthy",
        "last_collection": datetime.fromtimestamp(max(times) / SECOND_US, UTC).isoformat() if times else None,
        "symbols_active": live,
    }


class _Session:
    """A child's parts for one market, without its pipe, its signals and Redis."""

    def __init__(self, config: "Config", exchange: str, symbol: str, kind: Kind) -> None:
        from ohlcvd.database import Database, Writer
        from ohlcvd.database.facade import configured
        from ohlcvd.exchange import ExchangeHandler
        from ohlcvd.worker.collecting import Collecting

        self._symbol = symbol
        self._kind = kind
        self._handler = ExchangeHandler(config.exchange(exchange))
        self._database = Database(configured(config), application_name="ohlcvd collector")
        # The daemon may write the same market: nothing is taken for certainly new.
        self._writer = Writer(self._database, on_commit=lambda batch: self._collecting.committed(batch), careful=True)
        self._collecting = Collecting(config, exchange, self._handler, self._database, self._writer)
        self._tasks: list[asyncio.Task[Any]] = []

    def collector(self) -> "Alone | None":
        """The one that this session drives, once it is made."""
        router = self._collecting.router
        if router is None:
            return None
        manager = router.candles if self._kind == "candles" else router.trades
        return None if manager is None else manager.collectors.get(self._symbol)

    async def start(self) -> None:
        from ohlcvd.errors import ServiceUnavailable

        self._tasks = [
            asyncio.create_task(self._writer.run(), name="writer"),
            asyncio.create_task(self._collecting.run(), name="collecting"),
        ]
        deadline_s = time.monotonic() + START_S
        try:
            while (collector := self.collector()) is None or not collector.live_now():
                for task in self._tasks:
                    if task.done():
                        task.result()
                if time.monotonic() > deadline_s:
                    raise ServiceUnavailable(f"the stream of {self._symbol} is not live after {START_S:g} s")
                await asyncio.sleep(POLL_S)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """What was received is committed before this returns, unless the database is away for DRAIN_S."""
        storing, collecting = self._tasks
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        if not storing.done():
            await self._writer.drain(DRAIN_S)
        storing.cancel()
        await asyncio.gather(storing, return_exceptions=True)
        await self._handler.close()
        await self._database.close()


async def _fetch(config: "Config", exchange: str, symbol: str, kind: Kind, days: float) -> int:
    """The rows that one backfill brought."""
    from ohlcvd import coverage
    from ohlcvd.backfill.fetch import Fetching
    from ohlcvd.backfill.goal import Order, goal_of
    from ohlcvd.backfill.standings import standings_of
    from ohlcvd.config.retention import check_backfill
    from ohlcvd.database import Database
    from ohlcvd.database.counting import rows_in
    from ohlcvd.database.facade import configured
    from ohlcvd.database.migrate import migrate

    now_us = time.time_ns() // 1000
    order = Order(exchange, symbol, now_us - round(days * _DAY_US), kind=kind)
    goal = goal_of(order, config.service, now_us)
    for wanted in goal.kinds:
        check_backfill(wanted, config.retention_us(wanted), goal.lower_us, now_us)
    address = configured(config)
    await migrate(address)
    async with (
        Database(address, application_name="ohlcvd collector") as database,
        Fetching(config.exchange(exchange), database) as fetching,
    ):
        fetching.check_symbol(symbol)
        goal = goal.ending_before(fetching.venue_now_us())
        instrument = (await database.instruments(exchange, [symbol]))[symbol]
        for wanted in goal.kinds:
            await database.want(instrument.id, wanted, goal.lower_us)
        [before] = standings = await standings_of(database, instrument, goal, config.service)
        await fetching.start(instrument, goal)
        try:
            while any(one.missing for one in standings):
                fetching.check()
                await asyncio.sleep(POLL_S)
                standings = await standings_of(database, instrument, goal, config.service)
        finally:
            await fetching.end(config.drain_s)
        new = coverage.subtract(standings[0].covered, before.covered)
        return await rows_in(database, instrument.id, kind, new) if new else 0
