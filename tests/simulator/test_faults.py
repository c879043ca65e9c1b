"""Each fault does what it says, where it says, and what it injects is never counted as sent."""

import json
import time
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from ohlcvd.errors import UsageError
from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.fault_list import FAULTS
from ohlcvd.simulator.server import Simulator, SimulatorSettings
from tests.simulator.clients import binance, control, eventually, get, get_raw, kraken, post, websocket
from tests.simulator.conftest import BUSY


async def test_cut_closes_without_a_goodbye_and_only_that_venue(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD"], "trade") as one, binance(simulator, "btcusdt@aggTrade") as other:
        assert await post(control(simulator, "fault"), {"fault": "cut", "exchange": "kraken"}) == (
            200,
            {"fault": "cut", "touched": 1},
        )
        while await one.receive():
            pass
        assert one.ws.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
        await eventually(lambda: not simulator.venue("kraken").connections)
        other.frames.clear()
        await other.until(lambda: other.events("aggTrade", "BTCUSDT"))


async def test_close_says_goodbye(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD"], "trade") as client:
        assert simulator.fault("close", exchange="kraken") == 1
        while await client.receive():
            pass
        assert client.ws.close_code == 1001


async def test_silence_loses_what_was_due(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as client:
        await client.until(lambda: client.kraken_rows("trade", "BTC/USD"))
        simulator.fault("silence", exchange="kraken", value="1.5")
        await client.quiet(0.2)
        assert await client.quiet(1) == 0, "no heartbeat either"
        before = client.kraken_rows("trade", "BTC/USD")[-1]["trade_id"]
        client.frames.clear()
        await client.until(lambda: client.kraken_rows("trade", "BTC/USD"))
        after = client.kraken_rows("trade", "BTC/USD")[0]["trade_id"]
        assert after > before + 10
        sent = {int(trade.id) for trade in simulator.sent("kraken", "BTC/USD")}
        assert not sent & set(range(before + 1, after))


async def test_deaf_connections_stay_open_and_new_ones_work(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD"], "trade") as client:
        assert simulator.fault("deaf", exchange="kraken") == 1
        await client.quiet(0.2)
        await client.send({"method": "ping"})
        assert await client.quiet(1.2) == 0
        assert not client.ws.closed
        async with kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as fresh:
            await fresh.until(lambda: fresh.kraken_rows("trade", "BTC/USD"))
        await simulator.freeze()
    await eventually(lambda: not simulator.venue("kraken").connections)


@pytest.mark.parametrize("name", ["garbage", "cut-json", "missing-fields", "negative-price", "future-time"])
async def test_bad_frames_come_and_are_not_counted(name: str, simulator: Simulator) -> None:
    async with (
        kraken(simulator, ["BTC/USD", "ETH/USD"], "trade", snapshot=False) as one,
        binance(simulator, "btcusdt@aggTrade") as two,
    ):
        await one.until(lambda: one.kraken_rows("trade", "BTC/USD"))
        await two.until(lambda: two.events("aggTrade", "BTCUSDT"))
        assert simulator.fault(name) == 2, "one for each connection"
        for client in (one, two):
            await client.until(lambda client=client: any(map(_is_bad, client.texts)))  # type: ignore[misc]
        await simulator.freeze()
        await one.quiet(0.3)
        ids = [int(trade.id) for trade in simulator.sent("kraken", "BTC/USD")]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert simulator.venue("kraken").faults.injected == {name: 1}
        assert (await get(control(simulator, "status")))["exchanges"]["kraken"]["injected"] == {name: 1}


def _is_bad(text: str) -> bool:
    try:
        frame = json.loads(text, parse_float=str)
    except ValueError:
        return True
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list | dict):
        return False
    rows = frame["data"] if isinstance(frame["data"], list) else [frame["data"]]
    if frame.get("channel", "trade") != "trade":
        return False
    prices = [row.get("price", row.get("p")) for row in rows]
    return any(price is None or Decimal(price) < 0 for price in prices) or any(map(_is_in_future, rows))


def _is_in_future(row: dict[str, Any]) -> bool:
    soon_s = time.time() + 60
    soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(soon_s))
    return bool(row["timestamp"] > soon if "timestamp" in row else row["T"] / 1000 > soon_s)


async def test_resend_and_duplicate_frames(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as client:
        await client.until(lambda: len(client.kraken_rows("trade", "BTC/USD")) > 30)
        assert simulator.fault("resend", exchange="kraken", value="20") == 20
        await client.quiet(0.5)
        ids = [row["trade_id"] for row in client.kraken_rows("trade", "BTC/USD")]
        assert len(ids) - len(set(ids)) == 20
        simulator.fault("duplicate-frames", exchange="kraken", value="2")
        await client.quiet(1)
        simulator.fault("duplicate-frames", exchange="kraken", value="0")
        assert any(client.texts.count(text) == 2 for text in client.texts if '"trade"' in text)
        await simulator.freeze()
        sent = [int(trade.id) for trade in simulator.sent("kraken", "BTC/USD")]
        assert sent == sorted(set(sent))


async def test_symbols_are_refused_delisted_and_listed(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD", "ETH/USD"], "trade", snapshot=False) as client:
        simulator.fault("delist", exchange="kraken", symbol="BTC/USD")
        await client.quiet(0.2)
        client.frames.clear()
        await client.until(lambda: len(client.kraken_rows("trade", "ETH/USD")) > 20)
        assert client.kraken_rows("trade", "BTC/USD") == []
        simulator.fault("list", exchange="kraken", symbol="BTC/USD")
    simulator.fault("refuse", exchange="kraken", value="ETH/USD")
    async with websocket(simulator.ws_url("kraken") + "/v2") as client:
        wanted = {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"]}
        await client.send({"method": "subscribe", "params": wanted})
        await client.until(lambda: sum("success" in frame for frame in client.frames) == 2)
        assert [frame["success"] for frame in client.frames if "success" in frame] == [True, False]


async def test_withheld_trades_are_never_sent(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as client:
        simulator.fault("withhold", exchange="kraken", symbol="BTC/USD", value="7")
        ((start, end),) = simulator.venue("kraken").faults.withheld["BTC/USD"]
        await client.until(lambda: any(row["trade_id"] > end for row in client.kraken_rows("trade", "BTC/USD")))
        ids = {row["trade_id"] for row in client.kraken_rows("trade", "BTC/USD")}
        assert not ids & set(range(start, end))
        assert {end, end + 1} <= ids
        assert not {int(trade.id) for trade in simulator.sent("kraken", "BTC/USD")} & set(range(start, end))


async def test_a_candle_is_corrected_and_an_old_state_comes_late(simulator: Simulator) -> None:
    async with (
        kraken(simulator, ["BTC/USD"], "ohlc", snapshot=False) as one,
        binance(simulator, "btcusdt@kline_1m") as two,
    ):
        venue = simulator.venue("kraken")
        closed_us = venue.clock.now_ns() // 1000 // MINUTE_US * MINUTE_US - MINUTE_US
        before = venue.minute("BTC/USD", closed_us, venue.visible("BTC/USD"))
        assert simulator.fault("stale-candle") == 2
        assert simulator.fault("revise", value="0.5") == 2
        await two.until(lambda: any(event["k"]["x"] for event in two.events("kline", "BTCUSDT")))
        await one.until(
            lambda: len({row["volume"] for row in _of_minute(one.kraken_rows("ohlc", "BTC/USD"), closed_us)}) == 2
        )
        stale, revised = _of_minute(one.kraken_rows("ohlc", "BTC/USD"), closed_us)[-2:]
        assert before is not None
        assert stale["trades"] == 1
        assert revised["trades"] == before.trades + 1
        assert Decimal(revised["high"]) > Decimal(before.high)
        rows = (await get(f"{simulator.rest_url('kraken')}/0/public/OHLC", pair="XBTUSD"))["result"]["XXBTZUSD"]
        assert [row[6] for row in rows if row[0] * 1_000_000 == closed_us] == [revised["volume"]]
        (truth,) = venue.true_candles("BTC/USD", closed_us, closed_us + MINUTE_US)
        assert (truth.volume, truth.trades) == (revised["volume"], revised["trades"])


def _of_minute(rows: list[dict[str, Any]], ts_us: int) -> list[dict[str, Any]]:
    begin = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(ts_us // 1_000_000))
    return [row for row in rows if row["interval_begin"].startswith(begin)]


@pytest.mark.parametrize(
    ("fault", "status", "start"),
    [
        ("rest-429", 429, "{"),
        ("rest-418", 418, "{"),
        ("rest-500", 500, "<html"),
        ("rest-503", 503, "<html"),
        ("rest-html", 200, "<!DOCTYPE"),
        ("rest-cut-body", 200, '{"serv'),
    ],
)
async def test_rest_faults(fault: str, status: int, start: str, simulator: Simulator) -> None:
    url = simulator.rest_url("binance") + "/api/v3/time"
    simulator.fault(fault, exchange="binance", value="2x")
    for _ in range(2):
        got, text, headers = await get_raw(url)
        assert (got, text[: len(start)]) == (status, start)
        assert ("Retry-After" in headers) == (status in (418, 429))
    assert (await get_raw(url))[0] == 200
    simulator.fault(fault, exchange="binance", value="60")
    _, text, headers = await get_raw(url)
    assert headers.get("Retry-After", "60") == "60"
    assert (await get_raw(simulator.rest_url("kraken") + "/0/public/Time"))[0] == 200
    simulator.fault("rest-ok")
    assert (await get_raw(url))[0] == 200
    assert simulator.venue("binance").requests["time"] == 5


async def test_a_request_can_hang(simulator: Simulator) -> None:
    simulator.fault("rest-hang", exchange="kraken", value="0.5")
    began = time.monotonic()
    answer = await get(simulator.rest_url("kraken") + "/0/public/Time")
    assert time.monotonic() - began > 0.4
    assert answer["error"] == []


async def test_too_many_requests(simulator: Simulator) -> None:
    simulator.fault("requests", exchange="binance", value="0.5")
    url = simulator.rest_url("binance") + "/api/v3/time"
    answers = [await get_raw(url) for _ in range(7)]
    assert [status for status, _, _ in answers] == [200] * 5 + [429] * 2
    assert answers[-1][2]["Retry-After"] == "1"
    simulator.fault("requests", exchange="binance", value="0")
    assert (await get_raw(url))[0] == 200


async def test_the_clock_can_be_wrong(simulator: Simulator) -> None:
    simulator.fault("clock", exchange="binance", value="30")
    ahead_ms = (await get(simulator.rest_url("binance") + "/api/v3/time"))["serverTime"] - time.time() * 1000
    assert 25_000 < ahead_ms < 35_000


async def test_faults_given_at_the_start() -> None:
    settings = SimulatorSettings(BUSY, faults=("kraken.garbage=0.3", "binance.refuse=BTC/USDT", "rest-500=60"))
    async with Simulator(settings) as simulator:
        assert (await get_raw(simulator.rest_url("kraken") + "/0/public/Time"))[0] == 500
        async with kraken(simulator, ["BTC/USD"], "trade") as client:
            await client.until(lambda: client.frames.count(None) >= 2)
        assert simulator.venue("binance").faults.refused == {"BTC/USDT"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nope", "no fault is called 'nope'"),
        ("nope.cut", "no exchange 'nope'"),
        ("cut=x", "--fault cut 'x' is not a number above 0"),
        ("refuse", "needs a symbol"),
        ("rest-500=x", "'x' is not a number"),
    ],
)
async def test_bad_faults_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        async with Simulator(SimulatorSettings(BUSY, faults=(text,))):
            pass


def test_every_fault_says_what_it_does() -> None:
    assert all(len(fault.help) > 10 and fault.name == name for name, fault in FAULTS.items())
