"""Exchanges that stream nothing are asked again and again, and what they say joins on or is told to have a gap."""

import asyncio
from typing import Any

import pytest

from ohlcvd.exchange import polling
from ohlcvd.market import SECOND_US, minute_of
from tests.exchange.support import BOTH, Recorder, simulator, streaming, until
from tests.exchange.test_generic import binanceus


def without_websocket(handler: Any) -> None:
    handler._ccxt.has["watchTrades"] = handler._ccxt.has["watchOHLCV"] = False


async def test_polled_trades_join_on_and_all_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    assert polling.POLL_S == 5.0
    monkeypatch.setattr(polling, "POLL_S", 0.5)
    recorder = Recorder()
    async with simulator(symbols=3, rate=30) as running, binanceus(running) as handler:
        without_websocket(handler)
        symbols = list(handler.symbols())
        async with streaming(handler, symbols, recorder, BOTH):
            await until(lambda: len(recorder.live) == 6, "trades and candles of 3 markets")
            await until(lambda: recorder.count > 150, "trades")
            assert not recorder.interruptions
            running.fault("rest-503", exchange="binance", value="3")
            await asyncio.sleep(3.5)
            reached = dict(recorder.reached)
            await until(lambda: all(recorder.reached[s] > reached[s] for s in symbols), "asked again")
        assert not recorder.interruptions
        for symbol in symbols:
            found = recorder.trades[symbol]
            last_us = recorder.reached[symbol] - SECOND_US
            truth = running.venue("binance").true_trades(symbol, found[0].ts_us + 1000, last_us)
            assert [t.id for t in found if truth[0].ts_us <= t.ts_us <= last_us] == [trade.id for trade in truth]
            assert recorder.live[symbol, "candles"] >= minute_of(found[0].ts_us)


async def test_an_answer_that_does_not_reach_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "POLL_S", 0.5)
    recorder = Recorder()
    async with simulator(symbols=1, rate=400) as running, binanceus(running) as handler:
        without_websocket(handler)
        (symbol,) = handler.symbols()
        async with streaming(handler, [symbol], recorder, ["trades"]):
            await until(lambda: recorder.reached, "known")
            running.fault("rest-503", exchange="binance", value="5")
            await until(lambda: recorder.interruptions, "told")
            await until(lambda: recorder.live, "live again")
    assert "do not reach back" in recorder.interruptions[0][2]


async def test_a_kind_that_an_exchange_does_not_give_is_refused() -> None:
    recorder = Recorder()
    async with simulator(symbols=1) as running, binanceus(running) as handler:
        without_websocket(handler)
        handler._ccxt.has["fetchTrades"] = False
        async with streaming(handler, list(handler.symbols()), recorder, BOTH):
            await until(lambda: recorder.live, "its candles")
    assert [(kind, reason) for _, kind, reason in recorder.refusals] == [
        ("trades", "binanceus gives no public trades")
    ]  # fmt: skip
