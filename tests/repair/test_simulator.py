"""Repair against the local exchange: real ccxt classes, faults on the way, killed anywhere, few rows too many."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.limits import rules_of
from ohlcvd.market import MINUTE_US, SECOND_US, Instrument, Kind, minute_of
from ohlcvd.repair.scheduler import RepairCounters, RepairScheduler
from ohlcvd.simulator.market import MarketSettings
from ohlcvd.simulator.sent import IdRanges
from ohlcvd.simulator.server import Simulator, SimulatorSettings
from tests.exchange.support import connected
from tests.repair.venues import ModelStore, exact

VENUES = ["kraken", "binance"]
KINDS: tuple[Kind, Kind] = ("trades", "candles")


@asynccontextmanager
async def simulator(rate: float = 12, symbols: int = 5) -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(MarketSettings(symbols=symbols, rate=rate, history_s=4 * 3600))
    async with Simulator(settings) as running:
        yield running


class Collection:
    """One exchange whose live streams began at `live_us`, and whose history is wanted from `wanted_us` on."""

    def __init__(self, running: Simulator, handler: ExchangeHandler, live_us: int, wanted_us: int) -> None:
        handler._ccxt.enableRateLimit = False  # a whole history in a few seconds
        self.running = running
        self.handler = handler
        self.name = handler.name
        self.live_us = live_us
        self.wanted_us = wanted_us
        self.instruments = [Instrument(i, self.name, symbol) for i, symbol in enumerate(handler.symbols())]
        self.store = ModelStore()
        self.counters: list[RepairCounters] = []

    def scheduler(self) -> RepairScheduler:
        """A new process: it knows what was committed."""
        self.store.crash()
        for instrument in self.instruments:
            for kind in KINDS:
                self.store.book.load(instrument, kind, self.store.covered.get((instrument, kind), []), self.wanted_us)
        scheduler = RepairScheduler(
            self.name, self.instruments, KINDS, self.handler, self.store, self.store.book, rules=rules_of(self.name),
            live_from_us=lambda instrument, kind: self.live_us, records=self.store,
            venue_now_us=lambda: self.handler.clock.now_us(time.monotonic()),
            now_s=lambda: 5 * time.monotonic(),  # pauses of seconds are a fifth as long
        )  # fmt: skip
        self.counters.append(scheduler.counters)
        return scheduler

    async def run(self, timeout_s: float) -> None:
        """One life of the process, ended as abruptly as it can be; the store commits as it goes."""
        task = asyncio.create_task(self.scheduler().run())
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.missing():
            assert not task.done(), task.result()
            self.store.commit(self.store.waiting)
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def missing(self) -> dict[tuple[Instrument, Kind], list[Range]]:
        found = {}
        for instrument in self.instruments:
            for kind in KINDS:
                key = (instrument, kind)
                lacking = coverage.missing([(self.wanted_us, self.live_us)], self.store.covered.get(key, []))
                listed = coverage.normalise(one.gap for one in self.store.recorded.get(key, []))
                lacking = coverage.subtract(lacking, listed)
                if lacking:
                    found[key] = lacking
        return found

    def assert_complete(self, withheld: Sequence[tuple[str, int]] = ()) -> None:
        """Everything the venue has is stored, with the venue's values, and nothing else."""
        for instrument in self.instruments:
            venue = self.running.venue(self.name)
            truth = venue.true_trades(instrument.symbol, self.wanted_us, self.live_us)
            truth = [trade for trade in truth if (instrument.symbol, int(trade.id)) not in withheld]
            stored = self.store.trades.get(instrument, {}).values()
            stored_in = [trade for trade in stored if self.wanted_us <= trade.ts_us < self.live_us]
            assert sorted(map(exact, stored_in)) == sorted(map(exact, truth))
            candles = venue.true_candles(instrument.symbol, self.wanted_us, self.live_us)
            assert [ts_us for ts_us in sorted(self.store.candles.get(instrument, {})) if ts_us >= self.wanted_us] == [
                candle.ts_us for candle in candles
            ]

    @property
    def rows(self) -> int:
        return sum(counters.rows for counters in self.counters)

    @property
    def least_rows(self) -> int:
        trades = sum(len(self.store.trades.get(instrument, {})) for instrument in self.instruments)
        return trades + len(self.instruments) * (self.live_us - self.wanted_us) // MINUTE_US


@asynccontextmanager
async def collection(name: str, *, hours: float = 2, rate: float = 12) -> AsyncIterator[Collection]:
    async with simulator(rate) as running, connected(running, name) as handler:
        now_us = time.time_ns() // 1000 - 30 * SECOND_US
        live_us = minute_of(now_us) - 2 * MINUTE_US
        await handler.venue_time_us()
        yield Collection(running, handler, live_us, live_us - int(hours * 3600) * SECOND_US)


@pytest.mark.parametrize("name", VENUES)
async def test_history_is_complete_with_few_rows_too_many(name: str) -> None:
    async with collection(name) as market:
        await market.run(60)
        assert not market.missing()
        market.assert_complete()
        assert market.rows <= 1.05 * market.least_rows


@pytest.mark.parametrize("name", VENUES)
async def test_killed_at_random_points_nothing_is_fetched_again(name: str) -> None:
    chance = random.Random(name)
    async with collection(name, rate=12) as market:
        for _ in range(5):
            await market.run(chance.uniform(0.05, 0.6))
        await market.run(60)
        assert not market.missing()
        market.assert_complete()
        on_their_way = 5 * rules_of(name).requests_at_once * 1000
        assert market.rows <= 1.03 * market.least_rows + on_their_way


@pytest.mark.parametrize(
    ("name", "place"), [("kraken", "middle"), ("binance", "middle"), ("kraken", "first"), ("binance", "first")]
)
async def test_ids_that_never_come_are_listed_with_evidence(name: str, place: str) -> None:
    async with collection(name, hours=0.5) as market:
        venue = market.running.venue(name)
        instrument = market.instruments[0 if place == "middle" else -1]  # nothing happens shortly before the first
        truth = venue.true_trades(instrument.symbol, market.wanted_us, market.live_us)
        first = int(truth[len(truth) // 2 if place == "middle" else 0].id)
        venue.faults.withheld[instrument.symbol] = IdRanges()
        venue.faults.withheld[instrument.symbol].add(first, first + 3)
        await market.run(60)
        assert not market.missing()
        market.assert_complete(withheld=[(instrument.symbol, first + i) for i in range(3)])
        (found,) = market.store.recorded[instrument, "trades"]
        assert found.ids == f"{first}-{first + 2}"
        assert found.attempts == 3
        requests = venue.requests.total()
        await asyncio.sleep(1.5)
        assert venue.requests.total() == requests


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize("kind", ["429", "500", "html", "cut-body"])
async def test_a_venue_that_fails_for_a_while(name: str, kind: str) -> None:
    async with collection(name, hours=0.5) as market:
        market.running.fault(f"rest-{kind}", exchange=name, value="3x")
        await market.run(60)
        assert not market.missing()
        market.assert_complete()
        assert market.counters[0].failures >= 1
        assert not market.store.recorded
