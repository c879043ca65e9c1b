"""Consumers that follow a stream, what a stream is found to lack, and the lists for fullon programs."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from datetime import datetime

import pytest
import redis

from ohlcvd.cache import CacheReader, LiveCache, keys
from ohlcvd.cache.live import Published
from ohlcvd.cache.reader import Entry
from ohlcvd.database import Database
from ohlcvd.market import MINUTE_US, Candle
from ohlcvd.worker import catching_up
from ohlcvd.worker.catching_up import CatchingUp, lacking_candles, lacking_trades
from tests.cache.samples import BTC, ETH, NOW_US, Commit, candle, trade
from tests.cache.valkey import Valkey
from tests.database.support import writing

Entries = AsyncGenerator[Entry[Candle], None]


async def minutes_of(entries: Entries, count: int) -> tuple[list[int], str]:
    """The minutes that the next entries bring, and the id of the last one."""
    found: list[int] = []
    async with asyncio.timeout(60):
        async for entry in entries:
            found += [(one.ts_us - NOW_US) // MINUTE_US for one in entry.rows]
            if len(found) >= count:
                return found, entry.id
    raise AssertionError("it follows for ever")


async def test_a_consumer_resumes_where_it_was_and_outlives_the_server(valkey: Valkey) -> None:
    async with LiveCache(valkey.url, "kraken") as cache, CacheReader(valkey.url) as reader:
        for minute in range(3):
            await cache.publish(Commit(candles={BTC: [candle(minute)]}))
        first, last_id = await minutes_of(reader.follow_candles("kraken", "BTC/USD", "0"), 2)
        assert first == [0, 1]
        following = reader.follow_candles("kraken", "BTC/USD", last_id)
        assert (await minutes_of(following, 1))[0] == [2]
        fresh = reader.follow_candles("kraken", "BTC/USD")
        waiting = asyncio.create_task(minutes_of(fresh, 1))
        await asyncio.sleep(0.2)
        valkey.signal(signal.SIGSTOP)
        await asyncio.sleep(2.5)  # longer than it waits for an answer
        valkey.signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            while not waiting.done():
                await cache.publish(Commit(candles={BTC: [candle(7)]}))
                await asyncio.sleep(0.1)
        assert (await waiting)[0] == [7]


async def test_trades_are_followed_too(redis_url: str) -> None:
    async with LiveCache(redis_url, "kraken") as cache, CacheReader(redis_url) as reader:
        dropped = -1
        while dropped < cache.dropped:  # by a starved server
            dropped = cache.dropped
            await cache.publish(Commit(trades={BTC: [trade(1), trade(2)]}))
            await asyncio.sleep(0.05)
        async for entry in reader.follow_trades("kraken", "BTC/USD", "0"):
            assert entry.rows == [trade(1), trade(2)]
            break


def test_what_a_stream_lacks() -> None:
    corrected = candle(1)._replace(close="1.25")
    published = Published([candle(2), corrected, candle(1)], 0)  # the newest entries first
    assert lacking_candles(published, [candle(0), corrected, candle(2)]) == [candle(0)]
    assert lacking_candles(published, [candle(1)]) == [candle(1)], "corrected back again"
    assert lacking_trades(Published([trade(1), trade(3)], 0), [trade(1), trade(2), trade(3)]) == [trade(2)]


async def test_a_full_stream_is_not_filled_up_with_what_it_dropped(valkey: Valkey) -> None:
    async with LiveCache(valkey.url, "kraken") as cache:
        for number in range(keys.TRADE_ENTRIES + 150):
            await cache.publish(Commit(trades={BTC: [trade(number, NOW_US + number)]}))
        found = await cache.published_trades("BTC/USD", NOW_US - MINUTE_US)
        assert found is not None
        assert found.since_us == min(one.ts_us for one in found.rows) > NOW_US
        none = await cache.published_candles("BTC/USD", NOW_US)
        assert none is not None
        assert (none.rows, none.since_us) == ([], NOW_US)
        part = await cache.published_trades("BTC/USD", NOW_US + 1_100)
        assert part is not None
        assert part.since_us == NOW_US + 1_100
        valkey.signal(signal.SIGSTOP)
        assert await cache.published_trades("BTC/USD", NOW_US) is None
        valkey.signal(signal.SIGCONT)


async def test_what_was_committed_and_not_published_is_appended(database_url: str, valkey: Valkey) -> None:
    async with Database(database_url) as database, LiveCache(valkey.url, "kraken") as cache:
        await database.wait_until_up()
        markets = await database.instruments("kraken", ["BTC/USD", "ETH/USD"])
        btc = markets["BTC/USD"]
        async with writing(database) as writer:
            writer.add_trades(btc, [trade(number, NOW_US + number * 1_000_000) for number in range(10)])
            writer.add_candles(btc, [candle(minute) for minute in range(-1500, 2)])
            assert await writer.drain(30)
        await cache.publish(Commit(trades={btc: [trade(3, NOW_US + 3_000_000)]}, candles={btc: [candle(0)]}))
        comparing = CatchingUp("kraken", cache, database)
        async with asyncio.timeout(30), CacheReader(valkey.url) as reader:
            now_us = NOW_US + 2 * MINUTE_US
            await comparing.step(markets.values(), now_us, 10.0)
            assert {one.id for one in await reader.trades("kraken", "BTC/USD")} == {str(number) for number in range(10)}
            candles = await reader.candles("kraken", "BTC/USD")
            assert {(one.ts_us - NOW_US) // MINUTE_US for one in candles} == set(range(-1438, 2)), "the last day"
            await comparing.step(markets.values(), now_us, 10.0)
            assert len(await reader.candles("kraken", "BTC/USD")) == len(candles), "once"
        valkey.kill()
        valkey.start()
        async with asyncio.timeout(30), CacheReader(valkey.url) as reader:
            while not (candles := await reader.candles("kraken", "BTC/USD")):
                await cache.heartbeat({})  # as once a second; it finds out
                await comparing.step(markets.values(), now_us, 10.0)
                await asyncio.sleep(0.05)
            assert len(candles) >= 60, "a redis that forgot everything"


async def test_markets_without_rows_are_not_asked_for_in_redis(database_url: str, redis_url: str) -> None:
    async with Database(database_url) as database, LiveCache(redis_url, "kraken") as cache:
        await database.wait_until_up()
        markets = await database.instruments("kraken", ["BTC/USD", "ETH/USD", "XRP/USD", "ADA/USD"])
        async with writing(database) as writer:
            writer.add_trades(markets["BTC/USD"], [trade(1, NOW_US)])
            writer.add_candles(markets["ETH/USD"], [candle(-600)])
            writer.add_candles(markets["XRP/USD"], [candle(-1500)])  # too long ago
            assert await writer.drain(30)
        comparing = CatchingUp("kraken", cache, database)
        before = questions(redis_url)
        await comparing.step(list(markets.values()), NOW_US, 10.0)
        assert questions(redis_url) - before == 2 * 3, "of two markets: candles and trades of the hour, candles again"
        async with CacheReader(redis_url) as reader:
            assert len(await reader.trades("kraken", "BTC/USD")) == 1
            assert len(await reader.candles("kraken", "ETH/USD")) == 1


def questions(url: str) -> int:
    """How often any stream was read backwards."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("commandstats").get("cmdstat_xrevrange", {}).get("calls", 0))


async def test_what_a_busy_redis_did_not_take_is_appended_too(
    database_url: str, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert catching_up.AGAIN_S == 60.0
    monkeypatch.setattr(catching_up, "AGAIN_S", 0.0)
    async with Database(database_url) as database, LiveCache(valkey.url, "kraken") as cache:
        await database.wait_until_up()
        btc = (await database.instruments("kraken", ["BTC/USD"]))["BTC/USD"]
        async with writing(database) as writer:
            writer.add_candles(btc, [candle(0)])
            assert await writer.drain(30)
        comparing = CatchingUp("kraken", cache, database)
        await comparing.step([btc], NOW_US + MINUTE_US, 10.0)
        async with writing(database) as writer:
            writer.add_candles(btc, [candle(1)])
            assert await writer.drain(30)
        valkey.signal(signal.SIGSTOP)
        beating = asyncio.create_task(cache.heartbeat({}))
        publishing = asyncio.create_task(cache.publish(Commit(candles={btc: [candle(1)]})))
        await asyncio.sleep(0.18)  # so long that what waits for its turn is given up, and the connection is not
        valkey.signal(signal.SIGCONT)
        await asyncio.gather(beating, publishing)
        assert cache.dropped == 1
        async with asyncio.timeout(30), CacheReader(valkey.url) as reader:
            while len(await reader.candles("kraken", "BTC/USD")) < 2:
                await cache.heartbeat({})
                await comparing.step([btc], NOW_US + 2 * MINUTE_US, 10.0)
                await asyncio.sleep(0.05)


async def test_the_lists_for_fullon_programs(valkey: Valkey) -> None:
    async with LiveCache(valkey.url, "kraken", fullon_keys=True) as cache:
        await cache.publish(Commit(candles={BTC: [candle(1), candle(0)]}, trades={BTC: [trade(1), trade(2)]}))
        await cache.publish(
            Commit(candles={BTC: [candle(1), candle(2)]}, trades={BTC: [trade(2), trade(3, NOW_US + 1)]})
        )
        await cache.publish(Commit(candles={ETH: []}, trades={ETH: []}))
    bars = [json.loads(text) for text in list_of(valkey, "ohlcv:BTC/USD:1m")]
    first_s = NOW_US // 1_000_000
    assert bars == [[first_s + 60 * minute, 1.1, 1.3, 1.0, 1.2, 12.5] for minute in range(3)]
    trades = [json.loads(text) for text in list_of(valkey, "trades:kraken:BTCUSD")]
    assert [one["ex_trade_id"] for one in trades] == ["1", "2", "3"]
    assert (trades[0]["side"], trades[0]["price"], trades[0]["volume"]) == ("buy", 86000.1, 0.0001)
    assert datetime.fromisoformat(trades[0]["time"]).timestamp() == trades[0]["timestamp"] == first_s
    assert valkey.ask("KEYS", "*ETH*") == []
    async with LiveCache(valkey.url, "kraken") as cache:
        await cache.publish(Commit(candles={BTC: [candle(5)]}))
    assert len(list_of(valkey, "ohlcv:BTC/USD:1m")) == 3


async def test_the_lists_are_capped(valkey: Valkey) -> None:
    async with LiveCache(valkey.url, "kraken", fullon_keys=True) as cache:
        for start in range(0, 11_000, 1_000):
            await cache.publish(Commit(candles={BTC: [candle(minute) for minute in range(start, start + 1_000)]}))
            await asyncio.sleep(0.05)
    bars = list_of(valkey, "ohlcv:BTC/USD:1m")
    assert len(bars) == 10_000
    assert json.loads(bars[-1])[0] == NOW_US // 1_000_000 + 10_999 * 60


def list_of(valkey: Valkey, key: str) -> list[str]:
    found = valkey.ask("LRANGE", key, "0", "-1")
    assert isinstance(found, list)
    return found
