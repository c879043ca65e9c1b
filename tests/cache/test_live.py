"""A child's writing, with a real server that is killed, stopped, restarted, locked, filled, and one that goes deaf."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable

import pytest

from ohlcvd.cache import LiveCache, keys, link
from ohlcvd.errors import ConfigError
from tests.cache.samples import BTC, ETH, NOW_US, Commit, candle, trade
from tests.cache.valkey import Valkey, free_port, new_valkey
from tests.waiting import eventually

# The limit is 250 ms; a machine that is busy with other tests may add to it. Without a limit it would be 5 s or more.
BUSY_S = 2.0


async def timed(operation: Awaitable[None]) -> float:
    started = time.monotonic()
    await operation
    return time.monotonic() - started


async def test_everything_is_where_the_design_says(valkey: Valkey) -> None:
    async with LiveCache(valkey.url, "binance/2") as cache:
        await cache.heartbeat(
            {"state": "streaming", "trades": 7},
            {"BTC/USDT": candle(0), "ETH/USDT": candle(1)},
            {"BTC/USDT": {"last_trade_us": NOW_US}},
        )
        await cache.publish(Commit({BTC: [trade(1)]}, {BTC: [candle(0)]}))
        await cache.heartbeat({"state": "streaming", "trades": 7}, {})
        await cache.publish(Commit())
        assert cache.is_up
    assert json.loads(str(valkey.ask("GET", "ohlcvd:heartbeat:binance/2"))) == {"state": "streaming", "trades": 7}
    assert json.loads(str(valkey.ask("GET", "ohlcvd:markets:binance/2"))) == {"BTC/USDT": {"last_trade_us": NOW_US}}
    assert json.loads(str(valkey.ask("GET", "ohlcvd:candle:binance:ETH/USDT"))) == candle(1)._asdict()
    assert valkey.rows("ohlcvd:trades:kraken:BTC/USD") == ['[["1",1763798400000000,"86000.10","0.00010000","buy"]]']
    assert len(valkey.rows("ohlcvd:candles:kraken:BTC/USD")) == 1
    for key, expires_s in (("heartbeat:binance/2", 10), ("markets:binance/2", 30), ("candle:binance:BTC/USDT", 120)):
        left_ms = int(str(valkey.ask("PTTL", f"ohlcvd:{key}")))
        assert 0 < left_ms <= expires_s * 1000


async def test_a_heartbeat_expires(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keys.HEARTBEAT_S == 10
    monkeypatch.setattr(keys, "HEARTBEAT_S", 1)
    async with LiveCache(valkey.url, "kraken") as cache:
        await cache.heartbeat({"state": "streaming"})
    assert valkey.ask("EXISTS", "ohlcvd:heartbeat:kraken") == 1
    await eventually(lambda: valkey.ask("EXISTS", "ohlcvd:heartbeat:kraken") == 0, "the heartbeat is gone")


async def test_a_stream_keeps_the_newest_entries_in_the_order_of_the_commits(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (keys.TRADE_ENTRIES, keys.CANDLE_ENTRIES) == (1000, 1500)
    monkeypatch.setattr(keys, "TRADE_ENTRIES", 200)
    monkeypatch.setattr(link, "LIMIT_S", BUSY_S * 10)
    async with LiveCache(valkey.url, "kraken") as cache:
        for first in range(0, 1000, 20):  # 20 at once: they must queue up in the order of the calls
            commits = [Commit({BTC: [trade(2 * n), trade(2 * n + 1)]}) for n in range(first, first + 20)]
            await asyncio.gather(*map(cache.publish, commits))
        assert cache.dropped == 0
    rows = valkey.rows("ohlcvd:trades:kraken:BTC/USD")
    assert 200 <= len(rows) <= 300  # trimmed by whole nodes of 100 entries
    ids = [int(row.id) for text in rows for row in keys.parse_trades(text)]
    assert ids == list(range(2000 - len(ids), 2000))


async def test_history_is_judged_by_the_newest_time_seen_so_far(valkey: Valkey) -> None:
    async with LiveCache(valkey.url, "kraken") as cache:
        await cache.publish(Commit({BTC: [trade(1, NOW_US)]}))
        await cache.publish(Commit({BTC: [trade(2, NOW_US - 2 * keys.TRADE_WINDOW_US)]}))
        await cache.publish(Commit({BTC: [trade(3, NOW_US - 1)]}))
        assert cache.dropped == 0
    rows = valkey.rows("ohlcvd:trades:kraken:BTC/USD")
    assert [trade.id for text in rows for trade in keys.parse_trades(text)] == ["1", "3"]


async def test_a_killed_server_costs_nothing_and_is_used_again_when_it_is_back(
    valkey: Valkey, logged: list[str]
) -> None:
    async with LiveCache(valkey.url, "kraken") as cache:
        await cache.publish(Commit({BTC: [trade(1)]}))
        valkey.kill()
        assert await timed(cache.publish(Commit({BTC: [trade(2)], ETH: [trade(1)]}))) < BUSY_S
        assert cache.fault
        for _ in range(100):
            assert await timed(cache.heartbeat({})) < BUSY_S
        assert await timed(cache.publish(Commit({BTC: [trade(3)]}))) < BUSY_S
        assert cache.dropped == 3
        valkey.start()
        await eventually(lambda: cache.is_up, "redis is used again")
        await cache.publish(Commit({BTC: [trade(4)]}))
    assert [keys.parse_trades(text)[0].id for text in valkey.rows("ohlcvd:trades:kraken:BTC/USD")] == ["4"]
    assert [line.partition(":")[0] for line in logged] == ["WARNING", "INFO"]
    assert f"redis at unix://{valkey.path} cannot be used" in logged[0]
    assert "answers again after" in logged[1]
    assert "3 publications were dropped" in logged[1]


async def test_a_stopped_server_costs_at_most_the_limit_once(valkey: Valkey, logged: list[str]) -> None:
    assert link.LIMIT_S == 0.25
    assert link.RETRY_S == 1.0
    big = Commit({BTC: [trade(n) for n in range(50_000)]})  # more than any socket takes: the rest waits in our buffer
    async with LiveCache(valkey.url, "kraken") as cache:
        valkey.signal(signal.SIGSTOP)
        assert await timed(cache.publish(big)) < BUSY_S
        started, waited_s = time.monotonic(), 0.0
        while time.monotonic() < started + 3:
            waited_s += await timed(cache.heartbeat({}))
            await asyncio.sleep(0.02)
        assert waited_s < 1.5  # of 3 s, nearly all of which would be spent waiting if every call tried
        valkey.signal(signal.SIGCONT)
        await eventually(lambda: cache.is_up, "redis is used again")
        await cache.heartbeat({"state": "streaming"})
    assert valkey.ask("GET", "ohlcvd:heartbeat:kraken") == '{"state":"streaming"}'
    assert len(logged) == 2
    assert "no answer within" in logged[0]


async def test_closing_does_not_wait_for_a_stopped_server(valkey: Valkey) -> None:
    cache = LiveCache(valkey.url, "kraken")
    await cache.open()
    valkey.signal(signal.SIGSTOP)
    publishing = asyncio.create_task(cache.publish(Commit({BTC: [trade(n) for n in range(50_000)]})))
    await asyncio.sleep(0)
    assert await timed(cache.close()) < BUSY_S
    await publishing
    assert await timed(cache.close()) < BUSY_S
    assert await timed(cache.heartbeat({})) < BUSY_S


async def test_opening_does_not_wait_for_a_stopped_server(valkey: Valkey, logged: list[str]) -> None:
    valkey.signal(signal.SIGSTOP)
    cache = LiveCache(valkey.url, "kraken")
    assert await timed(cache.open()) < BUSY_S
    assert cache.fault
    valkey.signal(signal.SIGCONT)
    await eventually(lambda: cache.is_up, "redis is used")
    await cache.close()


async def test_a_server_that_is_started_together_with_us_is_used_without_a_word(
    logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "STARTING_S", 60.0)
    with new_valkey() as server:
        async with LiveCache(server.url, "kraken") as cache:
            assert cache.fault
            server.start()
            await eventually(lambda: cache.is_up, "redis is used")
            assert not logged
            server.kill()
            await cache.heartbeat({})
            assert len(logged) == 1, "it was there, and is to stay"


async def test_a_server_that_is_not_there_at_the_start_is_used_when_it_comes(logged: list[str]) -> None:
    with new_valkey() as server:
        async with LiveCache(server.url, "kraken") as cache:
            assert not cache.is_up
            await eventually(lambda: bool(logged), "it has had its time to start")
            server.start()
            await eventually(lambda: cache.is_up, "redis is used")
            await cache.heartbeat({})
        assert server.ask("EXISTS", "ohlcvd:heartbeat:kraken") == 1
    assert len(logged) == 2


async def test_a_server_that_answers_pings_and_nothing_else_costs_the_limit_once_a_second() -> None:
    async def answer_pings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"PING\r\n")
            writer.write(b"+PONG\r\n")
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(answer_pings, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, LiveCache(f"redis://127.0.0.1:{port}", "kraken") as cache:
        started, waited_s, slow = time.monotonic(), 0.0, 0
        while time.monotonic() < started + 3:
            took_s = await timed(cache.heartbeat({}))
            waited_s += took_s
            slow += took_s > link.LIMIT_S / 2
            await asyncio.sleep(0.02)
    assert 1 <= slow <= 6
    assert waited_s < 1.8  # 3 * 0.25 s are due; 2.8 s if every call tried


async def test_a_wrong_password_is_said_once_without_showing_it(logged: list[str]) -> None:
    with new_valkey() as server:
        server.start("--requirepass", "right")
        url = f"{server.url}?password=opensesame"
        async with LiveCache(url, "kraken") as cache:
            await cache.heartbeat({})
            assert not cache.is_up
            await eventually(lambda: bool(logged), "it has had its time to start")
            server.ask("CONFIG", "SET", "requirepass", "opensesame", password="right")
            await eventually(lambda: cache.is_up, "the password is right now")
            await cache.heartbeat({"state": "streaming"})
        assert server.ask("EXISTS", "ohlcvd:heartbeat:kraken", password="opensesame") == 1
    assert len(logged) == 2
    assert "WRONGPASS" in logged[0] or "invalid username-password" in logged[0]
    assert "opensesame" not in "".join(logged)


async def test_a_missing_password_is_a_fault_of_the_connection(logged: list[str]) -> None:
    with new_valkey() as server:
        server.start("--requirepass", "right")
        async with LiveCache(server.url, "kraken") as cache:
            await cache.heartbeat({})
            assert not cache.is_up
            await eventually(lambda: bool(logged), "it has had its time to start")
    assert len(logged) == 1
    assert "Authentication required" in logged[0]


async def test_tcp_with_password_and_database_number() -> None:
    with new_valkey() as server:
        server.start("--requirepass", "p@ss/word", tcp=True)
        async with LiveCache(f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}/3", "kraken") as cache:
            await cache.heartbeat({})
            assert cache.is_up
        assert server.ask("EXISTS", "ohlcvd:heartbeat:kraken", password="p@ss/word", db=3) == 1


async def test_nobody_listens_on_the_port(logged: list[str]) -> None:
    port = free_port()
    async with LiveCache(f"redis://localhost:{port}", "kraken") as cache:
        assert await timed(cache.publish(Commit({BTC: [trade(1)]}))) < BUSY_S
        assert cache.dropped == 1
        await eventually(lambda: bool(logged), "it has had its time to start")
    assert len(logged) == 1
    assert f"localhost:{port}" in logged[0]


@pytest.mark.parametrize(
    "url", ["embedded", "http://localhost", "redis://localhost:port", "redis://localhost?db=x", "redis://localhost?x=1"]
)
def test_an_unusable_url_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="redis url is not usable"):
        LiveCache(url, "kraken")


async def test_a_refused_command_is_said_once_and_holds_up_nothing_else(valkey: Valkey, logged: list[str]) -> None:
    valkey.ask("SET", "ohlcvd:trades:kraken:BTC/USD", "somebody else's")
    async with LiveCache(valkey.url, "kraken") as cache:
        for number in range(5):
            await cache.publish(Commit({BTC: [trade(number)], ETH: [trade(number)]}))
        assert cache.dropped == 5
        assert cache.is_up
    assert len(valkey.rows("ohlcvd:trades:kraken:ETH/USD")) == 5
    assert len(logged) == 1
    assert "redis refuses XADD: " in logged[0]
    assert "wrong kind of value" in logged[0]


async def test_a_full_server_refuses_and_is_used_again_when_there_is_room(valkey: Valkey, logged: list[str]) -> None:
    valkey.ask("CONFIG", "SET", "maxmemory", "1")
    async with LiveCache(valkey.url, "kraken") as cache:
        await cache.heartbeat({})
        assert valkey.ask("EXISTS", "ohlcvd:heartbeat:kraken") == 0
        valkey.ask("CONFIG", "SET", "maxmemory", "0")
        await cache.heartbeat({})
    assert valkey.ask("EXISTS", "ohlcvd:heartbeat:kraken") == 1
    assert len(logged) == 1
    assert "maxmemory" in logged[0]


async def test_a_cancelled_call_does_not_leave_its_answer_to_the_next_one(valkey: Valkey) -> None:
    async with LiveCache(valkey.url, "kraken") as cache:
        valkey.signal(signal.SIGSTOP)
        call = asyncio.create_task(cache.publish(Commit({BTC: [trade(1)]})))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        valkey.signal(signal.SIGCONT)
        await eventually(lambda: cache.is_up, "redis is used again")
        assert await cache._link.request([("GET", "nothing"), ("ECHO", "x")]) == [None, b"x"]


async def test_an_idle_connection_that_the_server_closed_is_replaced(valkey: Valkey, logged: list[str]) -> None:
    async with LiveCache(valkey.url, "kraken") as cache:
        await cache.heartbeat({"beat": 1})
        valkey.ask("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
        await cache.heartbeat({"beat": 2})
        await eventually(lambda: cache.is_up, "redis is used again")
        await cache.heartbeat({"beat": 3})
    assert valkey.ask("GET", "ohlcvd:heartbeat:kraken") == '{"beat":3}'


async def test_opening_twice_is_opening_once_and_closing_leaves_no_connection(valkey: Valkey) -> None:
    def clients() -> int:
        return len(str(valkey.ask("CLIENT", "LIST")).splitlines()) - 1  # without the one that asks

    async with LiveCache(valkey.url, "kraken") as cache:
        await cache.open()
        assert clients() == 1
    await eventually(lambda: clients() == 0, "the connection is closed")
