"""Venues without a file of their own, through the real ccxt.pro classes and real sockets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.errors import ExchangeError, ExchangeUnavailable, MalformedAnswer
from ohlcvd.exchange import ExchangeHandler, generic
from ohlcvd.market import Trade, candle_fault, trade_fault
from ohlcvd.simulator.server import Simulator
from tests.exchange.replayer import Replayer, replayer
from tests.exchange.support import BOTH, Recorder, simulator, streaming, until


def stub_market(market_id: str) -> dict[str, Any]:
    return {"id": market_id, "symbol": f"{market_id}/X", "base": market_id, "quote": "X", "baseId": market_id,
            "quoteId": "X", "type": "spot", "spot": True, "active": True, "contract": False, "swap": False,
            "future": False, "option": False, "precision": {}, "limits": {}, "info": {}}  # fmt: skip


@asynccontextmanager
async def generic_handler(name: str, server: Replayer, market_ids: list[str]) -> AsyncIterator[ExchangeHandler]:
    url = f"127.0.0.1:{server.port}"
    handler = ExchangeHandler(ExchangeConfig(name, (), f"http://{url}", f"ws://{url}"))
    await handler.connect([stub_market(market_id) for market_id in market_ids])
    # The recordings have no answer to the question for the time.
    handler._ccxt.has["fetchTime"] = False
    try:
        yield handler
    finally:
        await handler.close()


def okx_trade(number: int) -> dict[str, Any]:
    raw = (
        '{"arg":{"channel":"trades","instId":"A-X"},"data":[{"instId":"A-X","tradeId":"%d","px":"0.10","sz":"1",'
        '"side":"buy","ts":"1652459199000"}]}'
    )
    return {"raw": raw % number}


async def test_cut_is_told_and_everything_sent_afterwards_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert generic.TRUST_AFTER_S == 10
    monkeypatch.setattr(generic, "TRUST_AFTER_S", 0.5)
    recorder = Recorder()
    async with (
        replayer() as server,
        generic_handler("myokx", server, ["A-X", "B-X"]) as handler,
        streaming(handler, list(handler.symbols()), recorder, ["trades"]),
    ):
        await until(lambda: len(recorder.live) == 2, "trusted although quiet")
        await server.send(okx_trade(number) for number in range(5000))
        await until(lambda: recorder.count == 5000, "5000 trades through a cache of 1000")
        server.cut()
        await until(lambda: len(recorder.interruptions) == 2, "told", 2)
        await until(lambda: len(recorder.live) == 2, "live again")
        await server.send(okx_trade(number) for number in range(5000, 5010))
        await until(lambda: recorder.count == 5010, "trades after the cut")
        await server.send([{"raw": "garbage"}, {"raw": '{"cut'}, {"raw": okx_trade(1)["raw"].replace("0.10", "-1")}])
        await until(lambda: handler.counters.rejected >= 2, "rejected")
        await until(lambda: len(recorder.live) == 2, "announced anew")
        await server.send([okx_trade(5010)])
        await until(lambda: recorder.count == 5011, "the stream goes on")
        handler.pause_reading()
        await server.send(okx_trade(number) for number in range(6000, 6100))
        await asyncio.sleep(0.3)
        assert recorder.count == 5011
        handler.resume_reading()
        await until(lambda: recorder.count == 5111, "what had waited")
        assert handler.counters.reconnects == 1
    assert [trade.id for trade in recorder.trades["A-X/X"]][:5000] == [str(number) for number in range(5000)]


async def test_symbols_join_and_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generic, "TRUST_AFTER_S", 0.5)
    recorder = Recorder()
    async with replayer() as server, generic_handler("myokx", server, ["A-X", "B-X", "C-X"]) as handler:
        first, second, third = handler.symbols()
        live = handler.live(["trades"], recorder)
        live.add([first, second])
        task = asyncio.create_task(live.run())
        await until(lambda: len(recorder.live) == 2, "two are trusted")
        live.add([third])
        await until(lambda: len(recorder.live) == 3, "a third one, too")
        await server.send([okx_trade(1)])
        await until(lambda: recorder.count == 1, "a trade")
        live.remove([second])
        assert recorder.live.pop((second, "trades"))
        await asyncio.sleep(0.5)
        await server.send([okx_trade(2)])
        await until(lambda: recorder.count == 2, "the others go on")
        assert set(recorder.live) == {(first, "trades"), (third, "trades")}
        assert not recorder.interruptions
        assert not recorder.refusals
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    assert handler.counters.reconnects == 0


async def test_more_trades_in_a_millisecond_than_a_page_holds_are_told() -> None:
    """A cursor that is a time cannot get past them; saying "no more" there would be a lie."""
    async with simulator(rate=50, burst=300) as running, binanceus(running) as handler:
        venue = running.venue("binance")
        symbol = next(iter(handler.symbols()))
        counts = Counter(trade.ts_us for trade in venue.true_trades(symbol, 0, venue.clock.now_ns() // 1000))
        burst_us, size = counts.most_common(1)[0]
        assert size >= 100
        with pytest.raises(ExchangeError, match=f"more trades of {symbol} in one millisecond"):
            await handler.get_trades(symbol, since_us=burst_us, limit=50)
        page = await handler.get_trades(symbol, since_us=burst_us, limit=size + 10)
        assert page.next_cursor is not None


@asynccontextmanager
async def binanceus(running: Simulator) -> AsyncIterator[ExchangeHandler]:
    """A venue of the generic path that speaks a protocol of the local exchange."""
    url = running.rest_url("binance"), running.ws_url("binance")
    handler = ExchangeHandler(ExchangeConfig("binanceus", (), *url))
    await handler.connect()
    try:
        yield handler
    finally:
        await handler.close()


async def test_history_and_live_of_a_whole_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generic, "TRUST_AFTER_S", 1.0)
    recorder = Recorder()
    async with simulator(rate=50) as running, binanceus(running) as handler:
        symbols = list(handler.symbols())
        symbol = symbols[0]
        candles = await handler.get_ohlcv(symbol, limit=5)
        assert len(candles) == 5
        assert not any(candle_fault(candle, 4_000_000_000_000_000) for candle in candles)
        start_us = candles[0].ts_us
        page = await handler.get_trades(symbol, since_us=start_us)
        trades: dict[str, Trade] = {trade.id: trade for trade in page.trades}
        while page.next_cursor is not None:
            page = await handler.get_trades(symbol, from_id=page.next_cursor)
            trades |= {trade.id: trade for trade in page.trades}
        assert not any(trade_fault(trade, 4_000_000_000_000_000) for trade in trades.values())
        truth = running.venue("binance").true_trades(symbol, start_us, max(t.ts_us for t in trades.values()))
        assert [trades[trade.id] for trade in truth] == truth
        async with streaming(handler, symbols, recorder, BOTH):
            await until(lambda: len(recorder.live) == 40 and recorder.count > 50, "live")
            assert not recorder.interruptions
        running.fault("rest-html", exchange="binance", value="30")
        with pytest.raises(MalformedAnswer):
            await handler.get_trades(symbol)
        with pytest.raises(MalformedAnswer):
            await handler.get_ohlcv(symbol)
        running.fault("rest-503", exchange="binance", value="30")
        with pytest.raises(ExchangeUnavailable):
            await handler.get_trades(symbol)
