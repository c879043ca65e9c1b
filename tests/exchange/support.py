"""What the tests of the exchange layer share: a sink that remembers, waiting for a condition, the recorded data."""

import asyncio
import csv
import gzip
import io
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.market import Candle, Kind, Trade
from ohlcvd.simulator.market import MarketSettings
from ohlcvd.simulator.server import Simulator, SimulatorSettings

BOTH: tuple[Kind, Kind] = ("trades", "candles")


class Recorder:
    """A StreamSink that keeps everything."""

    def __init__(self) -> None:
        self.trades: dict[str, list[Trade]] = {}
        self.snapshots: dict[str, list[Trade]] = {}
        self.candles: dict[str, list[tuple[Candle, bool, bool]]] = {}
        self.live: dict[tuple[str, Kind], int] = {}
        self.subscriptions = 0
        self.reached: dict[str, int] = {}
        self.interruptions: list[tuple[str, Kind, str]] = []
        self.refusals: list[tuple[str, Kind, str]] = []
        self.doubts: list[tuple[str, Kind, str]] = []

    def on_trades(self, symbol: str, trades: list[Trade], snapshot: bool) -> None:
        (self.snapshots if snapshot else self.trades).setdefault(symbol, []).extend(trades)

    def on_many(self, trades: Sequence[tuple[str, list[Trade]]]) -> None:
        for symbol, own in trades:
            self.on_trades(symbol, own, False)

    def on_candle(self, symbol: str, candle: Candle, closed: bool, snapshot: bool) -> None:
        self.candles.setdefault(symbol, []).append((candle, closed, snapshot))

    def on_subscribed(self, symbol: str, kind: Kind, venue_us: int) -> None:
        assert (symbol, kind) not in self.live, "announced twice"
        self.live[symbol, kind] = venue_us
        self.subscriptions += 1

    def on_interrupted(self, symbol: str, kind: Kind, reason: str) -> None:
        del self.live[symbol, kind]
        self.interruptions.append((symbol, kind, reason))

    def on_doubted(self, symbol: str, kind: Kind, reason: str) -> None:
        self.doubts.append((symbol, kind, reason))
        self.on_interrupted(symbol, kind, reason)

    def on_reached(self, symbol: str, kind: Kind, venue_us: int) -> None:
        self.reached[symbol] = venue_us

    def on_refused(self, symbol: str, kind: Kind, reason: str) -> None:
        self.refusals.append((symbol, kind, reason))

    @property
    def count(self) -> int:
        return sum(len(trades) for trades in self.trades.values())


async def until(condition: Callable[[], object], what: str, timeout_s: float = 180.0) -> float:
    """Wait for a condition; how long it took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < timeout_s, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s


@asynccontextmanager
async def simulator(*, symbols: int = 20, rate: float = 200, burst: int = 0) -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(MarketSettings(symbols=symbols, rate=rate, burst=burst, history_s=3 * 3600))
    async with Simulator(settings) as running:
        yield running


@asynccontextmanager
async def connected(simulator: Simulator, name: str) -> AsyncIterator[ExchangeHandler]:
    handler = ExchangeHandler(ExchangeConfig(name, (), simulator.rest_url(name), simulator.ws_url(name)))
    await handler.connect()
    try:
        yield handler
    finally:
        await handler.close()


@asynccontextmanager
async def streaming(
    handler: ExchangeHandler, symbols: Sequence[str], sink: Any, kinds: Collection[Kind] = BOTH
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(handler.stream(symbols, kinds, sink))
    try:
        yield task
    finally:
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(result, asyncio.CancelledError), result


def real_data() -> Path:
    """The folder of recorded market data; the tests that need it are skipped without."""
    folder = os.environ.get("OHLCVD_REAL_DATA")
    if not folder:
        pytest.skip("OHLCVD_REAL_DATA does not name the folder of recorded market data")
    return Path(folder)


def recorded_frames(folder: Path, file: str = "ws_derived.jsonl.gz") -> Iterator[dict[str, Any]]:
    with gzip.open(folder / file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def recorded_rows(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return list(csv.DictReader(io.StringIO(text)))


def recorded_trades(folder: Path) -> list[Trade]:
    return [
        Trade(int(row["ts_ns"]) // 1000, row["id"], row["price"], row["amount"], row["side"])  # type: ignore[arg-type]
        for row in recorded_rows(folder / "trades.csv.gz")
    ]
