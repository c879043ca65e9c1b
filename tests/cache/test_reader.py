"""Reading back what children wrote, and saying so when that is impossible."""

import signal

import pytest

from ohlcvd.cache import CacheReader, LiveCache, link
from ohlcvd.errors import ServiceUnavailable
from tests.cache.samples import BTC, NOW_US, Commit, candle, trade
from tests.cache.valkey import Valkey


async def test_an_empty_redis(redis_url: str) -> None:
    async with CacheReader(redis_url) as reader:
        assert await reader.heartbeats() == {}
        assert await reader.markets() == {}
        assert await reader.forming() == {}
        assert await reader.trades("kraken", "BTC/USD") == []
        assert await reader.candles("kraken", "BTC/USD") == []


async def test_what_children_wrote_is_read_back(redis_url: str) -> None:
    async with LiveCache(redis_url, "binance/2") as first, LiveCache(redis_url, "kraken") as second:
        for cache in (first, second):
            forming = {"BTC/USD": candle(3), "BTC/USDT:USDT": candle(4)}
            await cache.heartbeat({"state": "streaming"}, forming, {"BTC/USD": {"last_trade_us": NOW_US}})
        for number in range(5):
            await first.publish(Commit({BTC: [trade(2 * number), trade(2 * number + 1)]}, {BTC: [candle(number)]}))
    async with CacheReader(redis_url) as reader:
        assert await reader.heartbeats() == {"binance/2": {"state": "streaming"}, "kraken": {"state": "streaming"}}
        assert (await reader.markets())["kraken"] == {"BTC/USD": {"last_trade_us": NOW_US}}
        assert await reader.forming() == {
            ("binance", "BTC/USD"): candle(3),
            ("binance", "BTC/USDT:USDT"): candle(4),
            ("kraken", "BTC/USD"): candle(3),
            ("kraken", "BTC/USDT:USDT"): candle(4),
        }
        assert await reader.trades("kraken", "BTC/USD") == [trade(number) for number in range(10)]
        assert await reader.trades("kraken", "BTC/USD", entries=1) == [trade(8), trade(9)]
        assert await reader.candles("kraken", "BTC/USD", entries=2) == [candle(3), candle(4)]


async def test_more_keys_than_one_page_of_a_scan(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "LIMIT_S", 20.0)  # a busy machine is no outage
    async with LiveCache(redis_url, "kraken") as cache, CacheReader(redis_url) as reader:
        await cache.heartbeat({}, {f"S{number}/USD": candle(number) for number in range(2500)})
        assert len(await reader.forming()) == 2500


async def test_a_redis_that_is_away_or_deaf_is_reported_and_used_again(valkey: Valkey) -> None:
    async with CacheReader(valkey.url, timeout_s=0.5) as reader:
        assert await reader.heartbeats() == {}
        valkey.signal(signal.SIGSTOP)
        for _ in range(2):
            with pytest.raises(ServiceUnavailable, match="no answer within"):
                await reader.heartbeats()
        valkey.kill()
        with pytest.raises(ServiceUnavailable, match=f"redis at unix://{valkey.path} cannot be used: "):
            await reader.heartbeats()
        valkey.start()
        assert await reader.heartbeats() == {}


@pytest.mark.parametrize("value", ["", "[]", "{", '"x"'])
async def test_something_foreign_under_our_name_is_reported(valkey: Valkey, value: str) -> None:
    valkey.ask("SET", "ohlcvd:heartbeat:kraken", value)
    valkey.ask("SET", "ohlcvd:candle:kraken:BTC/USD", value)
    valkey.ask("XADD", "ohlcvd:trades:kraken:BTC/USD", "*", "other", value)
    valkey.ask("SET", "ohlcvd:candles:kraken:BTC/USD", value)
    async with CacheReader(valkey.url) as reader:
        for reading in (reader.heartbeats(), reader.forming(), reader.trades("kraken", "BTC/USD")):
            with pytest.raises(ServiceUnavailable, match="is not what ohlcvd writes there"):
                await reading
        with pytest.raises(ServiceUnavailable, match=r"refuses XREVRANGE: .*wrong kind of value"):
            await reader.candles("kraken", "BTC/USD")
