"""The whole way: the local exchange, the real exchange layer, the real writer and database, killed and begun again."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from ohlcvd import coverage
from ohlcvd.database import Database, Writer
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.limits import rules_of
from ohlcvd.market import MINUTE_US, SECOND_US, Instrument, Kind, minute_of
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.handed import UNSTORED_ROWS
from ohlcvd.repair.records import DatabaseRecords
from ohlcvd.repair.scheduler import RepairCounters, RepairScheduler
from ohlcvd.simulator.market import MarketSettings
from ohlcvd.simulator.server import Simulator, SimulatorSettings
from tests.database.support import query
from tests.exchange.support import connected

VENUES = ["kraken", "binance"]
KINDS: tuple[Kind, Kind] = ("trades", "candles")


class Process:
    """What a collecting process has of repair, from its start to its abrupt end."""

    def __init__(self, conninfo: str, handler: ExchangeHandler, kinds: tuple[Kind, ...] = KINDS) -> None:
        handler._ccxt.enableRateLimit = False
        self.conninfo = conninfo
        self.handler = handler
        self.kinds = kinds
        self.trades_hours: float | None = None  # where trades are wanted less far back than candles
        self.live_us = minute_of(time.time_ns() // 1000 - 30 * SECOND_US) - 2 * MINUTE_US
        self.wanted_us = 0
        self.counters: list[RepairCounters] = []
        self.instruments: list[Instrument] = []

    async def run(self, hours: float, timeout_s: float) -> None:
        self.wanted_us = self.live_us - int(hours * 3600) * SECOND_US
        book = CoverageBook()
        async with Database(self.conninfo) as database:
            await database.wait_until_up()
            found = await database.instruments(self.handler.name, list(self.handler.symbols()))
            self.instruments = list(found.values())
            for instrument in self.instruments:
                for kind in KINDS:
                    wanted_us = await database.want(instrument.id, kind, self.wanted_from(kind))
                    book.load(instrument, kind, await database.coverage(instrument.id, kind), wanted_us)
            writer = Writer(database, on_commit=book.committed)
            scheduler = RepairScheduler(
                self.handler.name, self.instruments, self.kinds, self.handler, writer, book,
                rules=rules_of(self.handler.name), live_from_us=lambda instrument, kind: self.live_us,
                venue_now_us=lambda: self.handler.clock.now_us(time.monotonic()),
                records=DatabaseRecords(database), waiting_since_s=lambda: writer.waiting_since_s,
            )  # fmt: skip
            self.counters.append(scheduler.counters)
            tasks = [asyncio.create_task(scheduler.run()), asyncio.create_task(writer.run())]
            await self._until_complete(book, tasks, timeout_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_complete(self, book: CoverageBook, tasks: list[asyncio.Task[None]], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert not any(task.done() for task in tasks)
            keys = [(instrument, kind) for instrument in self.instruments for kind in self.kinds]
            if all(coverage.contains(book.covered(*key), self.wanted_from(key[1]), self.live_us) for key in keys):
                return
            await asyncio.sleep(0.02)

    def wanted_from(self, kind: Kind) -> int:
        if kind == "candles" or self.trades_hours is None:
            return self.wanted_us
        return self.live_us - int(self.trades_hours * 3600) * SECOND_US

    @property
    def rows(self) -> int:
        return sum(counters.rows for counters in self.counters)


@asynccontextmanager
async def process(name: str, conninfo: str, *, rate: float, hours: float, symbols: int = 5) -> AsyncIterator[Any]:
    settings = SimulatorSettings(MarketSettings(symbols=symbols, rate=rate, history_s=int((hours + 0.5) * 3600)))
    async with Simulator(settings) as running, connected(running, name) as handler:
        await handler.venue_time_us()
        yield running, Process(conninfo, handler)


def assert_complete(conninfo: str, running: Simulator, one: Process) -> None:
    """The database holds what the venue has, no more, no less, and says so."""
    assert query(conninfo, "SELECT * FROM ohlcvd.gaps") == []
    venue = running.venue(one.handler.name)
    for instrument in one.instruments:
        stored = query(
            conninfo,
            "SELECT (extract(epoch FROM ts) * 1000000)::bigint, trade_id::text, price, amount FROM ohlcvd.trades"
            " WHERE instrument_id = %s ORDER BY trade_id",
            [instrument.id],
        )
        truth = venue.true_trades(instrument.symbol, one.wanted_us, one.live_us)
        stored = [row for row in stored if one.wanted_us <= row[0] < one.live_us]
        assert stored == [(t.ts_us, t.id, Decimal(t.price), Decimal(t.amount)) for t in truth]
        candles = query(
            conninfo,
            "SELECT (extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close, volume"
            " FROM ohlcvd.candles_1m WHERE instrument_id = %s ORDER BY ts",
            [instrument.id],
        )
        minutes = venue.true_candles(instrument.symbol, one.wanted_us, one.live_us)
        assert candles == [(c.ts_us, *(Decimal(text) for text in c[1:6])) for c in minutes]


@pytest.mark.parametrize("name", VENUES)
async def test_history_killed_five_times_beside_a_failing_venue(name: str, database_url: str) -> None:
    chance = random.Random(name)
    async with process(name, database_url, rate=8, hours=2) as (running, one):
        for kind in ("429", "500", "html", "cut-body"):
            running.fault(f"rest-{kind}", exchange=name, value="2x")
            await one.run(2, chance.uniform(0.2, 1.0))
        await one.run(2, chance.uniform(0.2, 1.0))
        await one.run(2, 60)
        assert_complete(database_url, running, one)
        least = query(database_url, "SELECT count(*) FROM ohlcvd.trades")[0][0] + 5 * 120
        on_their_way = 5 * (UNSTORED_ROWS + rules_of(name).requests_at_once * 1000)
        assert one.rows <= 1.03 * least + on_their_way
        (committed,) = query(
            database_url, "SELECT count(*), count(DISTINCT (instrument_id, trade_id)) FROM ohlcvd.trades"
        )
        assert committed[0] == committed[1]


async def test_what_kraken_has_no_candles_of_is_built_from_trades(database_url: str) -> None:
    async with process("kraken", database_url, rate=0.6, hours=14, symbols=2) as (running, one):
        await one.run(14, 60)
        assert_complete(database_url, running, one)
        sources = dict(query(database_url, "SELECT source::text, count(*) FROM ohlcvd.candles_1m GROUP BY 1"))
        assert sources["t"] > 100
        assert sources["v"] > 700


async def test_candles_wanted_further_back_than_trades_bring_the_trades_they_need(database_url: str) -> None:
    async with process("kraken", database_url, rate=0.6, hours=13, symbols=1) as (running, one):
        one.trades_hours = 1
        await one.run(13, 60)
        assert query(database_url, "SELECT * FROM ohlcvd.gaps") == []
        (instrument,) = one.instruments
        venue = running.venue("kraken")
        minutes = venue.true_candles(instrument.symbol, one.wanted_us, one.live_us)
        assert query(database_url, "SELECT count(*) FROM ohlcvd.candles_1m") == [(len(minutes),)]
        # the last hour for themselves, the first for candles that the venue has no more
        needed = len(venue.true_trades(instrument.symbol, one.wanted_us, one.wanted_us + 3600 * SECOND_US))
        wanted = len(venue.true_trades(instrument.symbol, one.live_us - 3600 * SECOND_US, one.live_us))
        (stored,) = query(database_url, "SELECT count(*) FROM ohlcvd.trades")[0]
        assert needed + wanted <= stored < 1.5 * (needed + wanted)


async def test_candles_alone_fetch_trades_only_where_there_are_no_candles(database_url: str) -> None:
    async with process("kraken", database_url, rate=0.6, hours=13, symbols=1) as (running, one):
        one.kinds = ("candles",)
        one.live_us -= one.live_us % MINUTE_US
        await one.run(13, 15)
        (instrument,) = one.instruments
        venue = running.venue("kraken")
        minutes = venue.true_candles(instrument.symbol, one.wanted_us, one.live_us)
        assert query(database_url, "SELECT count(*) FROM ohlcvd.candles_1m") == [(len(minutes),)]
        oldest = venue.true_trades(instrument.symbol, one.wanted_us, one.wanted_us + 3600 * SECOND_US)
        (stored,) = query(database_url, "SELECT count(*) FROM ohlcvd.trades")[0]
        assert len(oldest) <= stored < 2 * len(oldest)
        assert query(database_url, "SELECT * FROM ohlcvd.gaps WHERE kind = 'candles'") == []
