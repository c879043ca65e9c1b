"""History, markets and time over REST against the local exchange, and every way in which a venue fails to answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import pytest_asyncio

from ohlcvd.config import ExchangeConfig
from ohlcvd.errors import ConfigError, ExchangeUnavailable, MalformedAnswer, UnknownSymbol
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.market import MINUTE_US, SECOND_US, Trade, minute_of
from ohlcvd.simulator.server import Simulator
from tests.exchange.support import connected, simulator

VENUES = ["kraken", "binance"]


@pytest_asyncio.fixture(params=VENUES)
async def venue(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Simulator, ExchangeHandler]]:
    async with simulator(rate=100) as running, connected(running, request.param) as handler:
        yield running, handler


async def test_symbols(venue: tuple[Simulator, ExchangeHandler]) -> None:
    running, handler = venue
    assert dict(handler.symbols()) == dict.fromkeys(running.venue(handler.name).listings, True)


async def test_pages_of_trades_are_the_truth(venue: tuple[Simulator, ExchangeHandler]) -> None:
    running, handler = venue
    (symbol, *_) = handler.symbols()
    await running.freeze()
    start_us = time.time_ns() // 1000 - 250 * SECOND_US
    truth = running.venue(handler.name).true_trades(symbol, start_us, time.time_ns() // 1000)
    assert len(truth) > 1000
    size = len(truth) // 3 + 1
    page = await handler.get_trades(symbol, since_us=start_us, limit=size)
    found: dict[str, Trade] = {trade.id: trade for trade in page.trades}
    pages = 1
    while page.next_cursor is not None:
        page = await handler.get_trades(symbol, from_id=page.next_cursor, limit=size)
        assert {trade.id: trade for trade in page.trades if trade.id in found}.items() <= found.items()
        found |= {trade.id: trade for trade in page.trades}
        pages += 1
    assert [exact(trade) for trade in found.values()] == [exact(trade) for trade in truth]
    assert 3 <= pages <= 5  # Kraken's repeat some rows
    latest = await handler.get_trades(symbol, limit=5)
    assert [exact(trade) for trade in latest.trades] == [exact(trade) for trade in truth[-5:]]


def exact(trade: Trade) -> tuple[int, str, Decimal, Decimal, str]:
    """Kraken's REST writes zeros behind the point that its WebSocket leaves out."""
    return trade.ts_us, trade.id, Decimal(trade.price), Decimal(trade.amount), trade.side


async def test_candles_are_the_truth(venue: tuple[Simulator, ExchangeHandler]) -> None:
    running, handler = venue
    (symbol, *_) = handler.symbols()
    now_us = time.time_ns() // 1000
    start_us = minute_of(now_us) - 60 * MINUTE_US
    candles = await handler.get_ohlcv(symbol, since_us=start_us)
    truth = running.venue(handler.name).true_candles(symbol, start_us, minute_of(now_us))
    assert [candle for candle in candles if candle.trades and candle.ts_us < minute_of(now_us)] == truth
    assert candles[0].ts_us == start_us
    assert minute_of(now_us) <= candles[-1].ts_us <= minute_of(now_us) + MINUTE_US
    assert (await handler.get_ohlcv(symbol, start_us, 3))[:3] == candles[:3]
    latest = [candle.ts_us for candle in await handler.get_ohlcv(symbol, limit=2)]
    assert latest[1] - latest[0] == MINUTE_US
    assert 0 <= latest[1] - candles[-1].ts_us <= MINUTE_US  # a minute may have begun between the two requests
    moment = datetime.fromtimestamp(start_us / SECOND_US, UTC)
    assert (await handler.get_ohlcv(symbol, since=moment, limit=3))[:3] == candles[:3]
    assert (await handler.get_ohlcv(symbol, since=start_us // 1000, limit=3))[:3] == candles[:3]


async def test_time_feeds_the_clock(venue: tuple[Simulator, ExchangeHandler]) -> None:
    running, handler = venue
    running.fault("clock", exchange=handler.name, value="100")
    venue_us = await handler.venue_time_us()
    assert venue_us - time.time_ns() // 1000 == pytest.approx(100 * SECOND_US, abs=2 * SECOND_US)
    clock_us = handler.clock.now_us(time.monotonic())
    assert clock_us is not None
    assert venue_us <= clock_us < venue_us + SECOND_US


async def test_unknown_symbol(venue: tuple[Simulator, ExchangeHandler]) -> None:
    running, handler = venue
    with pytest.raises(UnknownSymbol, match="does not list NO/SUCH"):
        await handler.get_ohlcv("NO/SUCH")
    (symbol, *_) = handler.symbols()
    running.fault("delist", exchange=handler.name, symbol=symbol)
    with pytest.raises(UnknownSymbol, match=symbol):
        await handler.get_trades(symbol)


@pytest.mark.parametrize("kind", ["429", "418", "500", "503"])
async def test_overloaded_venue_is_unavailable(venue: tuple[Simulator, ExchangeHandler], kind: str) -> None:
    running, handler = venue
    (symbol, *_) = handler.symbols()
    running.fault(f"rest-{kind}", exchange=handler.name, value="30")
    with pytest.raises(ExchangeUnavailable) as caught:
        await handler.get_trades(symbol)
    asked = running.venue(handler.name).requests.total()
    with pytest.raises(ExchangeUnavailable):
        await handler.venue_time_us()
    running.fault("rest-ok", exchange=handler.name)
    if kind in ("429", "418"):  # it wants to be left alone for a time, and is
        assert caught.value.retry_after_s is not None
        assert 0 < caught.value.retry_after_s <= 60
        with pytest.raises(ExchangeUnavailable):
            await handler.get_trades(symbol)
        assert running.venue(handler.name).requests.total() == asked
    else:
        assert (await handler.get_trades(symbol)).trades


@pytest.mark.parametrize("kind", ["html", "cut-body"])
async def test_what_is_no_answer_is_never_taken_for_an_empty_one(
    venue: tuple[Simulator, ExchangeHandler], kind: str
) -> None:
    running, handler = venue
    (symbol, *_) = handler.symbols()
    running.fault(f"rest-{kind}", exchange=handler.name, value="30")
    for call in (handler.get_trades, handler.get_ohlcv):
        with pytest.raises(MalformedAnswer, match=symbol):
            await call(symbol)
    with pytest.raises(MalformedAnswer, match="time"):
        await handler.venue_time_us()


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize("kind", ["html", "cut-body", "503", "gone"])
async def test_connect_to_a_venue_that_does_not_list_its_markets(name: str, kind: str) -> None:
    async with simulator() as running:
        handler = ExchangeHandler(ExchangeConfig(name, (), running.rest_url(name), running.ws_url(name)))
        if kind == "gone":
            await running.stop()
        else:
            running.fault(f"rest-{kind}", exchange=name, value="30")
        with pytest.raises(ExchangeUnavailable, match=f"cannot load the markets: {name}"):
            await handler.connect()
        with pytest.raises(ExchangeUnavailable, match="is not connected"):
            handler.symbols()
        await handler.close()


async def test_connect_again_after_a_failure_and_after_close() -> None:
    async with simulator() as running:
        handler = ExchangeHandler(ExchangeConfig("kraken", (), running.rest_url("kraken"), running.ws_url("kraken")))
        running.fault("rest-503", exchange="kraken", value="30")
        with pytest.raises(ExchangeUnavailable):
            await handler.connect()
        running.fault("rest-ok", exchange="kraken")
        for _ in range(2):
            await handler.connect()
            await handler.connect()
            assert len(handler.symbols()) == 20
            await handler.close()
            await handler.close()
        assert len(asyncio.all_tasks()) < 10


async def test_sandbox_is_swapped_in_before_the_urls_are_moved() -> None:
    async with simulator() as running:
        handler = ExchangeHandler(ExchangeConfig("binance", (), running.rest_url("binance"), running.ws_url("binance")))
        handler.config.use_sandbox = True
        await handler.connect()
        assert len(handler.symbols()) == 20
        await handler.close()
    with pytest.raises(ConfigError, match="kraken has no sandbox"):
        await ExchangeHandler(ExchangeConfig("kraken", (), sandbox=True)).connect()
