"""WebSockets: acknowledgements, refusals, every trade once and in order, candles, pings, slow clients, the freeze."""

import asyncio
import json
import socket
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from ohlcvd.market import MINUTE_US, Trade
from ohlcvd.simulator import binance as binance_module
from ohlcvd.simulator.market import MarketSettings
from ohlcvd.simulator.server import Simulator, SimulatorSettings
from tests.simulator.clients import binance, control, eventually, get, kraken, post, websocket


def of_kraken(row: dict[str, Any]) -> Trade:
    ts_us = int(Decimal(_seconds(row["timestamp"])) * 10**6)
    return Trade(ts_us, str(row["trade_id"]), row["price"], row["qty"], row["side"])


def of_binance(event: dict[str, Any]) -> Trade:
    return Trade(event["T"] * 1000, str(event["a"]), event["p"], event["q"], "sell" if event["m"] else "buy")


def _seconds(text: str) -> str:
    whole, part = text.rstrip("Z").split(".")
    return f"{int(datetime.fromisoformat(whole + '+00:00').timestamp())}.{part}"


def next_minute_in(simulator: Simulator, exchange: str, seconds: float) -> None:
    """Sets the venue's clock forward to shortly before a full minute."""
    now_us = simulator.venue(exchange).clock.now_ns() // 1000
    simulator.fault("clock", exchange=exchange, value=str((MINUTE_US - now_us % MINUTE_US) / 1e6 - seconds))


async def test_kraken_acknowledges_each_symbol_and_refuses_unknown_ones(simulator: Simulator) -> None:
    async with websocket(simulator.ws_url("kraken") + "/v2") as client:
        await client.until(lambda: client.frames)
        assert client.frames[0]["channel"] == "status"
        assert client.frames[0]["data"][0]["system"] == "online"
        await client.send(
            {
                "method": "subscribe",
                "params": {"channel": "trade", "symbol": ["BTC/USD", "NO/PE", "ETH/USD"]},
                "req_id": 7,
            }
        )
        await client.until(lambda: sum("success" in frame for frame in client.frames) == 3)
        acks = [frame for frame in client.frames if "success" in frame]
        assert [ack["success"] for ack in acks] == [True, False, True]
        assert all(ack["req_id"] == 7 and ack["time_in"] <= ack["time_out"] for ack in acks)
        assert acks[0]["result"] == {"channel": "trade", "snapshot": True, "symbol": "BTC/USD"}
        assert acks[1]["error"] == "Currency pair not supported NO/PE"
        await client.send({"method": "ping", "req_id": 8})
        await client.until(lambda: client.frames[-1].get("method") == "pong")
        assert client.frames[-1].keys() == {"method", "req_id", "time_in", "time_out"}
        await client.until(lambda: {"channel": "heartbeat"} in client.frames)


async def test_krakens_other_refusals(simulator: Simulator) -> None:
    wrong = [
        ("{", "Malformed request"),
        ("[]", "Malformed request"),
        ({"method": "dance"}, "Event(s) not found"),
        ({"method": "subscribe"}, "Subscription name invalid"),
        ({"method": "subscribe", "params": {"channel": "gossip", "symbol": ["BTC/USD"]}}, "Subscription name invalid"),
        ({"method": "subscribe", "params": {"channel": "trade", "symbol": []}}, "Symbol(s) not found"),
        (
            {"method": "subscribe", "params": {"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 5}},
            "Subscription ohlc interval not supported",
        ),
        ({"method": "subscribe", "params": {"channel": "trade", "symbol": ["ETH/USD"]}}, "Already subscribed"),
        ({"method": "unsubscribe", "params": {"channel": "ohlc", "symbol": ["ETH/USD"]}}, "Subscription Not Found"),
    ]
    async with kraken(simulator, ["ETH/USD"], "trade", snapshot=False) as client:
        for message, error in wrong:
            await client.send(message)
            await client.until(lambda error=error: any(frame.get("error") == error for frame in client.frames))  # type: ignore[misc]
            client.frames.clear()


async def test_kraken_sends_every_trade_once_in_order_with_all_digits(simulator: Simulator) -> None:
    symbols = ["BTC/USD", "ETH/USD", "DOGE/USD", "BTC/USDT"]
    async with kraken(simulator, symbols, "trade") as client:
        await client.until(lambda: len(client.kraken_rows("trade", "BTC/USD")) > 150)
        end_us, complete = await simulator.freeze()
        await client.quiet(0.3)
        assert complete
        for symbol in symbols:
            snapshot = [of_kraken(row) for row in client.kraken_rows("trade", symbol, "snapshot")]
            updates = [of_kraken(row) for row in client.kraken_rows("trade", symbol)]
            span_us = 3 * 3_600_000_000 if symbol == "DOGE/USD" else 120_000_000
            truth = simulator.venue("kraken").true_trades(symbol, end_us - span_us, end_us + 10**9)
            seen = snapshot + updates
            assert seen == truth[-len(seen) :], f"{symbol}: nothing is missing up to the end"
            assert len(snapshot) == 50 or symbol == "DOGE/USD", "a quiet market has fewer"
            assert simulator.sent("kraken", symbol) == updates
        assert any(len(frame["data"]) > 1 for frame in client.frames if frame.get("type") == "update")
        client.frames.clear()
        await client.quiet(1.2)
        assert client.frames == [{"channel": "heartbeat"}] * len(client.frames), "nothing else after the end"


async def test_krakens_candles_follow_the_trades_and_idle_minutes_are_silent(simulator: Simulator) -> None:
    next_minute_in(simulator, "kraken", 3)
    async with kraken(simulator, ["BTC/USD", "DOGE/USD"], "ohlc") as client:
        await client.until(lambda: len({row["interval_begin"] for row in client.kraken_rows("ohlc", "BTC/USD")}) == 2)
        await client.quiet(1)
        await simulator.freeze()
        await client.quiet(0.3)
        rows = client.kraken_rows("ohlc", "BTC/USD")
        assert all(one["interval_begin"] <= two["interval_begin"] for one, two in pairwise(rows))
        venue = simulator.venue("kraken")
        for begin in {row["interval_begin"] for row in rows}:
            last = [row for row in rows if row["interval_begin"] == begin][-1]
            minute = venue.minute("BTC/USD", int(_seconds(begin).split(".")[0]) * 10**6, venue.visible("BTC/USD"))
            assert minute is not None
            stated = tuple(last[name] for name in ("open", "high", "low", "close", "volume", "vwap", "trades"))
            assert stated == (
                minute.open, minute.high, minute.low, minute.close, minute.volume, minute.vwap, minute.trades,
            )  # fmt: skip
            assert begin.endswith(":00.000000000Z")
        assert len(client.kraken_rows("ohlc", "DOGE/USD")) <= 2, "a quiet market"
        snapshot = client.kraken_rows("ohlc", "BTC/USD", "snapshot")
        assert len(snapshot) == 11


async def test_unsubscribing_ends_it(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD", "ETH/USD"], "trade", snapshot=False) as client:
        await client.send({"method": "unsubscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}})
        await client.until(lambda: client.frames[-1].get("method") == "unsubscribe")
        client.frames.clear()
        await client.until(lambda: len(client.kraken_rows("trade", "ETH/USD")) > 20)
        assert client.kraken_rows("trade", "BTC/USD") == []
    async with binance(simulator, "btcusdt@aggTrade", "ethusdt@aggTrade") as client:
        await client.send({"method": "UNSUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 2})
        await client.until(lambda: client.frames[-1] == {"result": None, "id": 2})
        await client.send({"method": "LIST_SUBSCRIPTIONS", "id": 3})
        await client.until(lambda: {"result": ["ethusdt@aggTrade"], "id": 3} in client.frames)


async def test_binance_sends_every_aggregate_trade_once_in_order(simulator: Simulator) -> None:
    async with binance(simulator, "btcusdt@aggTrade", "dogeusdt@aggTrade", "btcusdt@trade") as client:
        await client.until(lambda: len(client.events("aggTrade", "BTCUSDT")) > 150)
        end_us, _ = await simulator.freeze()
        await client.quiet(0.3)
        events = client.events("aggTrade", "BTCUSDT")
        assert [of_binance(event) for event in events] == simulator.sent("binance", "BTC/USDT")
        truth = simulator.venue("binance").true_trades("BTC/USDT", end_us - 60_000_000, end_us + 10**9)
        assert [of_binance(event) for event in events] == truth[-len(events) :]
        assert all(event["E"] >= event["T"] for event in events)
        raw = client.events("trade", "BTCUSDT")
        assert [event["t"] for event in raw] == list(range(raw[0]["t"], events[-1]["l"] + 1))
        # one stream may have begun a few trades after the other
        whole = [event for event in events if event["f"] >= raw[0]["t"]]
        parts = [event for event in raw if event["t"] >= whole[0]["f"]]
        assert sum(Decimal(event["q"]) for event in parts) == sum(Decimal(event["q"]) for event in whole) > 0
        assert all(frame["stream"].split("@")[0].upper() == frame["data"]["s"] for frame in client.frames[1:])


async def test_binances_minutes_end_with_a_closing_event_even_without_trades(simulator: Simulator) -> None:
    next_minute_in(simulator, "binance", 4)
    async with binance(simulator, "btcusdt@kline_1m", "dogeusdt@kline_1m") as client:

        def closing(name: str) -> list[dict[str, Any]]:
            return [event["k"] for event in client.events("kline", name) if event["k"]["x"]]

        await client.until(lambda: closing("BTCUSDT") and closing("DOGEUSDT"))
        await client.until(lambda: client.events("kline", "BTCUSDT")[-1]["k"]["t"] > closing("BTCUSDT")[0]["t"])
        (truth,) = simulator.venue("binance").true_candles("BTC/USDT", closing("BTCUSDT")[0]["t"] * 1000, 2**60)
        (stated,) = closing("BTCUSDT")
        assert tuple(stated[name] for name in "ohlcvn") == truth[1:7]
        running = [event["k"] for event in client.events("kline", "BTCUSDT") if not event["k"]["x"]]
        assert all(one["n"] < two["n"] for one, two in pairwise(running) if one["t"] == two["t"]), "only after a change"
        (quiet,) = closing("DOGEUSDT")
        if quiet["n"] == 0:
            assert (quiet["v"], quiet["f"], quiet["L"], quiet["o"]) == ("0.00000000", -1, -1, quiet["c"])


async def test_binances_errors(simulator: Simulator) -> None:
    wrong: list[tuple[object, int]] = [
        ("{", 3),
        ({"method": "DANCE", "id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 2}, 2),
        ({"method": "SUBSCRIBE", "params": ["btcusdt"], "id": 3}, 2),
        ({"method": "SUBSCRIBE", "params": [f"s{n}usdt@trade" for n in range(1025)], "id": 4}, 2),
    ]
    async with websocket(simulator.ws_url("binance") + "/ws/btcusdt@aggTrade") as client:
        for message, code in wrong:
            await client.send(message)
            await client.until(
                lambda code=code: any(frame.get("error", {}).get("code") == code for frame in client.frames)  # type: ignore[misc]
            )
            client.frames.clear()
            await asyncio.sleep(0.25)
        await client.until(lambda: client.events("aggTrade", "BTCUSDT"))
        assert all("stream" not in frame for frame in client.frames), "/ws sends bare events"


async def test_binance_accepts_a_stream_it_does_not_have_and_sends_nothing(simulator: Simulator) -> None:
    async with binance(simulator, "nopeusdt@aggTrade", "btcusdt@depth") as client:
        assert await client.quiet(1) == 0


async def test_streams_can_be_named_in_the_url(simulator: Simulator) -> None:
    async with websocket(simulator.ws_url("binance") + "/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade") as client:
        await client.until(lambda: client.events("aggTrade", "BTCUSDT") and client.events("aggTrade", "ETHUSDT"))


async def test_binance_disconnects_who_talks_too_much(simulator: Simulator) -> None:
    async with binance(simulator, "btcusdt@aggTrade") as client:
        for number in range(10):
            await client.send({"method": "LIST_SUBSCRIPTIONS", "id": number})
        while await client.receive():
            pass
        assert client.ws.close_code == 1008


async def test_binance_pings(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_module, "PING_EVERY_S", 1)
    url = simulator.ws_url("binance") + "/stream"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, autoping=False) as ws:
        message = await ws.receive(timeout=10)
        assert message.type is aiohttp.WSMsgType.PING
        await ws.pong(message.data)


async def test_pings_of_the_protocol_are_answered(simulator: Simulator) -> None:
    url = simulator.ws_url("kraken") + "/v2"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, autoping=False) as ws:
        await ws.ping(b"hello")
        while (message := await ws.receive(timeout=10)).type is not aiohttp.WSMsgType.PONG:
            pass
        assert message.data == b"hello"


async def test_two_clients_get_the_same(simulator: Simulator) -> None:
    async with (
        kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as one,
        kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as two,
    ):
        await one.until(lambda: len(one.kraken_rows("trade", "BTC/USD")) > 50)
        await simulator.freeze()
        await one.quiet(0.3)
        await two.quiet(0.3)
        first, second = ([row["trade_id"] for row in client.kraken_rows("trade", "BTC/USD")] for client in (one, two))
        assert first[-len(second) :] == second
        assert len(simulator.sent("kraken", "BTC/USD")) == len(first)


async def test_after_coming_back_a_client_goes_on_from_now(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as client:
        await client.until(lambda: len(client.kraken_rows("trade", "BTC/USD")) > 10)
        before = client.kraken_rows("trade", "BTC/USD")[-1]["trade_id"]
    venue = simulator.venue("kraken")
    await eventually(lambda: venue.visible("BTC/USD") > before + 60)
    async with kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as client:
        await client.until(lambda: client.kraken_rows("trade", "BTC/USD"))
        after = client.kraken_rows("trade", "BTC/USD")[0]["trade_id"]
    assert after > before + 60
    ids = [int(trade.id) for trade in simulator.sent("kraken", "BTC/USD")]
    assert not [number for number in ids if before + 30 < number < after], "what happened meanwhile was not sent"


async def test_a_slow_client_loses_nothing() -> None:
    """Its socket takes next to nothing for a while: the rest waits and comes later, in order, once."""
    market = MarketSettings(rate=6000, symbols=2, history_s=3600)

    def small(address: Any) -> socket.socket:
        made = socket.socket(address[0], address[1], address[2])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    async with Simulator(SimulatorSettings(market)) as simulator:
        venue = simulator.venue("binance")
        connector = aiohttp.TCPConnector(socket_factory=small)
        async with websocket(simulator.ws_url("binance") + "/stream", connector=connector, read_bufsize=4096) as client:
            await eventually(lambda: venue.connections)
            connection = next(iter(venue.connections.values()))
            assert connection.request.transport is not None
            connection.request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await client.send({"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 1})
            await client.until(lambda: client.events("aggTrade", "BTCUSDT"))
            first = client.events("aggTrade", "BTCUSDT")[0]["a"]
            await eventually(lambda: venue.visible("BTC/USDT") > first + len(venue.sent["BTC/USDT"]) + 3000)
            freezing = asyncio.create_task(simulator.freeze())
            while not freezing.done():
                await client.quiet(0.1)
            assert freezing.result()[1]
            await client.until(lambda: client.frames[-1]["data"]["a"] == venue.visible("BTC/USDT") - 1)
            ids = [event["a"] for event in client.events("aggTrade", "BTCUSDT")]
            assert ids == list(range(ids[0], venue.visible("BTC/USDT")))
            assert ids == [int(trade.id) for trade in simulator.sent("binance", "BTC/USDT")]


async def test_a_client_that_asks_without_reading_is_cut_off(simulator: Simulator) -> None:
    venue = simulator.venue("kraken")
    async with websocket(simulator.ws_url("kraken") + "/v2") as client:
        await eventually(lambda: venue.connections)
        connection = next(iter(venue.connections.values()))
        for _ in range(20_001):
            connection.send("{}")
        await eventually(lambda: not venue.connections)
        while await client.receive():
            pass


async def test_control_tells_the_truth_over_http(simulator: Simulator) -> None:
    async with kraken(simulator, ["BTC/USD"], "trade") as client:
        await client.until(lambda: len(client.kraken_rows("trade", "BTC/USD")) > 10)
        status, answer = await post(control(simulator, "freeze"), {})
        assert (status, answer["complete"]) == (200, True)
        assert (await post(control(simulator, "freeze"), {}))[1] == answer, "a second freeze changes nothing"
        await client.quiet(0.3)
        rows = client.kraken_rows("trade", "BTC/USD")
        sent = await get(control(simulator, "sent"), exchange="kraken", symbol="BTC/USD")
        expected = [of_kraken(row) for row in rows]
        assert sent["trades"] == [[one.id, one.ts_us, one.price, one.amount, one.side] for one in expected]
        both = await get(control(simulator, "sent"), exchange="kraken", symbol="BTC/USD", snapshots=1)
        assert both["trades"][50:] == sent["trades"]
        truth = await get(control(simulator, "truth"), exchange="kraken", symbol="BTC/USD", from_us=expected[0].ts_us)
        assert truth["trades"][-len(sent["trades"]) :] == sent["trades"]
        counts = await get(control(simulator, "sent"), exchange="kraken")
        assert counts["symbols"].keys() == simulator.venue("kraken").listings.keys()
        assert counts["symbols"]["BTC/USD"] == len(rows)
        state = await get(control(simulator, "status"))
        assert (state["mode"], state["sent"]) == ("live", len(rows))
        assert state["exchanges"]["kraken"]["frozen_us"] == answer["frozen_us"]
        assert (await get(control(simulator, "truth"), exchange="kraken", symbol="BTC/USD", kind="candles"))["candles"]


async def test_control_says_what_is_wrong(simulator: Simulator) -> None:
    for query in ({}, {"exchange": "nope"}, {"exchange": "kraken", "symbol": "NO/PE"}, {"exchange": "kraken"}):
        assert (await get(control(simulator, "truth"), **query)).keys() == {"error"}
    assert "error" in await get(control(simulator, "truth"), exchange="kraken", symbol="BTC/USD", from_us="x")
    wrong: list[object] = [[], {}, {"fault": "nope"}, {"fault": "refuse"}, {"fault": "silence", "value": "x"}]
    for document in wrong:
        status, answer = await post(control(simulator, "fault"), document)
        assert status == 400, json.dumps(answer)
    assert "cut" in await get(control(simulator, "faults"))


async def test_a_client_that_is_gone_holds_nobody_up(simulator: Simulator) -> None:
    """Frames that fall due for a connection that has just been cut must not be waited for."""
    async with kraken(simulator, ["BTC/USD"], "trade", snapshot=False) as client:
        await client.until(lambda: client.kraken_rows("trade", "BTC/USD"))
        simulator.fault("cut", exchange="kraken")
        async with asyncio.timeout(5):
            assert (await simulator.freeze())[1]
