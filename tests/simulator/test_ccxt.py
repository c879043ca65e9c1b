"""Unmodified ccxt works against it: markets, time, candles, trades, and what watch_* returns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ccxt
import ccxt.pro
import pytest

from ohlcvd.simulator.server import Simulator
from tests.simulator.clients import PATIENCE_S


@asynccontextmanager
async def client(simulator: Simulator, name: str, **options: object) -> AsyncIterator[Any]:
    """ccxt's own class with nothing but its URLs changed."""
    exchange = getattr(ccxt.pro, name)({"options": options})
    rest, ws = simulator.rest_url(name), simulator.ws_url(name)
    if name == "kraken":
        exchange.urls["api"]["public"] = rest
        exchange.urls["api"]["ws"]["publicV2"] = f"{ws}/v2"
    else:
        exchange.urls["api"] |= {"public": f"{rest}/api/v3", "fapiPublic": f"{rest}/fapi/v1"}
        exchange.urls["api"]["dapiPublic"] = f"{rest}/dapi/v1"
        exchange.urls["api"]["ws"]["spot"] = f"{ws}/stream"
    try:
        yield exchange
    finally:
        await exchange.close()


SYMBOLS = {"kraken": "BTC/USD", "binance": "BTC/USDT"}


@pytest.mark.parametrize("name", SYMBOLS)
@pytest.mark.parametrize("options", [{}, {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}])
async def test_markets(name: str, options: dict[str, object], simulator: Simulator) -> None:
    async with client(simulator, name, **options) as exchange:
        markets = await exchange.load_markets()
        assert list(markets) == list(simulator.venue(name).listings)
        for symbol, listing in simulator.venue(name).listings.items():
            market = markets[symbol]
            assert (market["id"], market["active"], market["spot"]) == (listing.id, True, True)
            assert market["precision"]["price"] == pytest.approx(10**-listing.decimals)
        simulator.fault("delist", exchange=name, symbol=SYMBOLS[name])
        later = await exchange.load_markets(True)
        assert SYMBOLS[name] not in later or not later[SYMBOLS[name]]["active"]


@pytest.mark.parametrize("name", SYMBOLS)
async def test_history(name: str, simulator: Simulator) -> None:
    symbol, venue = SYMBOLS[name], simulator.venue(name)
    async with client(simulator, name) as exchange:
        end_us, _ = await simulator.freeze()
        assert abs(await exchange.fetch_time() - end_us // 1000) < 60_000
        truth = venue.true_candles(symbol, end_us - 600_000_000, end_us)
        rows = {row[0]: row for row in await exchange.fetch_ohlcv(symbol, "1m", since=end_us // 1000 - 660_000)}
        assert len(truth) >= 9
        for candle in truth:
            assert rows[candle.ts_us // 1000][1:] == [float(text) for text in candle[1:6]]
        trades = venue.true_trades(symbol, end_us - 60_000_000, end_us)
        start = {"fromId": trades[0].id} if name == "binance" else {"since": str(trades[0].ts_us * 1000 - 1)}
        fetched = await exchange.fetch_trades(symbol, limit=100, params=start)
        assert [(one["id"], one["side"], one["price"], one["amount"]) for one in fetched] == [
            (one.id, one.side, float(one.price), float(one.amount)) for one in trades[:100]
        ]
        with pytest.raises(ccxt.BadSymbol):
            await exchange.fetch_trades("NO/PE")


@pytest.mark.parametrize("name", SYMBOLS)
async def test_streams(name: str, simulator: Simulator) -> None:
    """With one symbol and a cache that is large enough, watch_trades loses nothing: ids follow each other."""
    symbol = SYMBOLS[name]
    async with client(simulator, name, tradesLimit=100_000) as exchange:
        params = {"name": "aggTrade"} if name == "binance" else {}
        async with asyncio.timeout(PATIENCE_S):
            ids: list[int] = []
            while len(ids) < 100:
                cache = await exchange.watch_trades(symbol, params=params)
                ids += [int(one["id"]) for one in cache if not ids or int(one["id"]) > ids[-1]]
            candle = (await exchange.watch_ohlcv(symbol, "1m"))[-1]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        minute = simulator.venue(name).tape(symbol).minute(candle[0] * 1000, 2**62)
        assert minute is not None
        assert candle[1] == float(minute.open)
        sent = {int(one.id) for one in simulator.venue(name).sent_trades(symbol, snapshots=True)}
        assert set(ids) <= sent


async def test_refusals_reach_the_caller(simulator: Simulator) -> None:
    async with client(simulator, "binance") as exchange:
        await exchange.load_markets()
        simulator.fault("refuse", symbol="BTC/USDT")
        with pytest.raises(ccxt.BadSymbol):
            async with asyncio.timeout(PATIENCE_S):
                await exchange.watch_trades("BTC/USDT")


@pytest.mark.parametrize("name", SYMBOLS)
async def test_bans_reach_the_caller(name: str, simulator: Simulator) -> None:
    async with client(simulator, name) as exchange:
        await exchange.load_markets()
        for kind, error in (
            ("rest-429", ccxt.DDoSProtection),
            ("rest-418", ccxt.DDoSProtection),
            ("rest-500", ccxt.NetworkError),
        ):
            simulator.fault(kind, exchange=name, value="1x")
            with pytest.raises((error, ccxt.RateLimitExceeded)):
                await exchange.fetch_time()
        assert await exchange.fetch_time() > 0
