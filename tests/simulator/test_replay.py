"""Recordings of real exchanges come out of the server exactly as they went into the file."""

import csv
import gzip
import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ohlcvd.errors import UsageError
from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.clock import ReplayClock
from ohlcvd.simulator.replay import load_replay
from ohlcvd.simulator.server import Simulator, SimulatorSettings
from tests.simulator.clients import Client, binance, control, eventually, get, kraken, post


@pytest.fixture
def recordings() -> Path:
    folder = os.environ.get("OHLCVD_REAL_DATA")
    if not folder:
        pytest.skip("OHLCVD_REAL_DATA does not name the folder of recorded market data")
    return Path(folder)


def recorded(path: Path) -> list[str]:
    with gzip.open(path, "rt") as lines:
        return [entry["raw"] for entry in map(json.loads, lines) if entry["dir"] == "in"]


def truth_of(folder: Path) -> list[list[Any]]:
    """[id, ts_us, price, amount, side] of trades.csv.gz."""
    with gzip.open(folder / "trades.csv.gz", "rt") as lines:
        return [
            [row["id"], int(row["ts_ns"]) // 1000, row["price"], row["amount"], row["side"]]
            for row in csv.DictReader(lines)
        ]


def candles_of(path: Path) -> Iterator[tuple[int, tuple[Decimal, ...]]]:
    """(open time in us, (open, high, low, close, volume, trades))."""
    with path.open() as lines:
        for row in csv.DictReader(lines):
            names = ("open", "high", "low", "close", "volume", "trades")
            yield int(row["open_ts_ms"]) * 1000, tuple(Decimal(row[name]) for name in names)


async def played(client: Client, simulator: Simulator) -> None:
    replay = simulator.replay
    assert replay is not None
    await client.until(lambda: replay.status()["finished"], timeout_s=60)
    await client.quiet(0.5)


async def test_kraken(recordings: Path) -> None:
    folder = recordings / "kraken_xbtusdt"
    async with Simulator(SimulatorSettings(replay=folder, speed=20_000)) as simulator:
        truth = truth_of(folder)
        start_us = truth[0][1] // MINUTE_US * MINUTE_US
        url = simulator.rest_url("kraken") + "/0/public"
        assert (await get(f"{url}/Time"))["result"]["unixtime"] * 1_000_000 == start_us - 1_000_000
        earlier = (await get(f"{url}/OHLC", pair="XBTUSDT"))["result"]["XBTUSDT"]
        assert all(row[0] * 1_000_000 < start_us for row in earlier), "only what has been played"
        assert (await get(f"{url}/Trades", pair="XBTUSDT", since=0))["result"]["XBTUSDT"] == []
        async with kraken(simulator, ["BTC/USDT"], "trade", "ohlc") as client:
            acks = [frame for frame in client.frames if frame.get("method") == "subscribe"]
            assert all(ack["time_out"] == "2025-11-10T17:22:59.000000Z" for ack in acks)
            await played(client, simulator)
            frames = [
                text for text, frame in zip(client.texts, client.frames, strict=True) if frame.get("type") == "update"
            ]
            assert frames[1:] == recorded(folder / "ws_derived.jsonl.gz")
        status = await get(control(simulator, "status"))
        assert (status["mode"], status["finished"], status["sent"]) == ("replay", True, len(truth))
        sent = await get(control(simulator, "sent"), exchange="kraken", symbol="BTC/USDT")
        assert sent["trades"] == truth
        rows = (await get(f"{url}/Trades", pair="XBTUSDT", since=0))["result"]["XBTUSDT"]
        assert [[str(row[6]), row[0], row[1]] for row in rows] == [[one[0], one[2], one[3]] for one in truth]
        await eventually(lambda: simulator.venue("kraken").clock.now_ns() // 1000 > truth[-1][1] + 10 * MINUTE_US)
        stated = {
            row[0] * 1_000_000: tuple(map(Decimal, (*row[1:5], row[6], row[7])))
            for row in (await get(f"{url}/OHLC", pair="XBTUSDT"))["result"]["XBTUSDT"]
        }
        for ts_us, numbers in candles_of(folder / "candles_1m_venue.csv"):
            assert ts_us not in stated or ts_us > truth[-1][1] or stated[ts_us] == numbers
        own = [row for row in candles_of(folder / "candles_1m.csv") if row[0] > start_us]
        assert all(stated[ts_us] == numbers for ts_us, numbers in own)


async def test_binance(recordings: Path) -> None:
    folder = recordings / "binance_xrpeth"
    async with Simulator(SimulatorSettings(replay=folder, speed=100_000)) as simulator:
        truth = truth_of(folder)
        async with binance(simulator, "xrpeth@aggTrade", "xrpeth@kline_1m") as client:
            await played(client, simulator)
            assert client.texts[1:] == recorded(folder / "ws_derived.jsonl.gz")
        url = simulator.rest_url("binance") + "/api/v3"
        assert (await get(f"{url}/exchangeInfo"))["symbols"][0]["baseAsset"] == "XRP"
        sent = await get(control(simulator, "sent"), exchange="binance", symbol="XRP/ETH")
        assert sent["trades"] == truth
        found: list[list[Any]] = []
        while rows := await get(
            f"{url}/aggTrades", symbol="XRPETH", fromId=found[-1][0] + 1 if found else 0, limit=1000
        ):
            found += [[row["a"], row["T"] * 1000, row["p"], row["q"], "sell" if row["m"] else "buy"] for row in rows]
        assert [[str(row[0]), *row[1:]] for row in found] == truth
        klines: dict[int, tuple[Decimal, ...]] = {}
        since = truth[0][1] // 1000 // 60_000 * 60_000
        while since <= truth[-1][1] // 1000:
            page = await get(f"{url}/klines", symbol="XRPETH", interval="1m", startTime=since, limit=1000)
            klines |= {row[0] * 1000: tuple(map(Decimal, row[1:6])) for row in page}
            since = page[-1][0] + 60_000
        for ts_us, numbers in candles_of(folder / "candles_1m.csv"):
            assert klines[ts_us] == numbers[:5]
        assert (await post(control(simulator, "freeze"), {}))[0] == 400


async def test_a_recording_with_its_own_list_of_markets(recordings: Path) -> None:
    folder = recordings / "binance"
    async with Simulator(SimulatorSettings(replay=folder, speed=50)) as simulator:
        markets = await get(simulator.rest_url("binance") + "/api/v3/exchangeInfo")
        assert len(markets["symbols"]) == 1695
        names = [f"{name}@{kind}" for name in ("nknusdt", "lrcbtc") for kind in ("aggTrade", "kline_1m")]
        async with binance(simulator, *names) as client:
            await client.until(lambda: len(client.texts) == 5)
            wanted = [text for text in recorded(folder / "ws.jsonl.gz") if json.loads(text)["stream"] in names]
            assert client.texts[1:] == wanted


async def test_who_comes_back_goes_on_at_the_present(recordings: Path) -> None:
    folder = recordings / "binance_xrpeth"
    async with Simulator(SimulatorSettings(replay=folder, speed=30_000)) as simulator:
        async with binance(simulator, "xrpeth@aggTrade") as client:
            await client.until(lambda: len(client.events("aggTrade", "XRPETH")) > 500)
            first = client.events("aggTrade", "XRPETH")[-1]["a"]
        async with binance(simulator, "xrpeth@aggTrade") as client:
            await client.until(lambda: client.events("aggTrade", "XRPETH"))
            assert client.events("aggTrade", "XRPETH")[0]["a"] > first


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("kraken", "Kraken's WebSocket v1"),
        ("coinbase", "ws-feed.pro.coinbase.com; only Kraken"),
        ("kraken_bcheur", "has no recorded frames"),
    ],
)
def test_what_cannot_be_replayed(name: str, sentence: str, recordings: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        load_replay(recordings / name, 1)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recorded frames"):
        load_replay(tmp_path / "nothing", 1)
    (tmp_path / "ws.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(UsageError, match="cannot be read"):
        load_replay(tmp_path, 1)
    (tmp_path / "ws.jsonl.gz").write_bytes(gzip.compress(b'{"t": 1, "dir": "connect", "url": "x", "raw": ""}\n'))
    with pytest.raises(UsageError, match="no host"):
        load_replay(tmp_path, 1)


def test_the_clock_of_a_replay() -> None:
    clock = ReplayClock(10**18, 1000)
    assert clock.now_ns() == 10**18
    clock.ceiling_ns = 10**18 + 5
    clock.run()
    while clock.wait_s(10**18 + 10**9) > 0:
        pass
    assert clock.now_ns() == 10**18 + 5, "never later than the next frame"
    clock.hold()
    clock.ceiling_ns = None
    assert 10**18 + 5 <= clock.now_ns() < 10**18 + 10**9, "what was lost is not caught up"
