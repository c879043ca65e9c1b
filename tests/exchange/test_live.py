"""Symbols join and leave live streams; those that stay never notice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from ohlcvd.exchange import ExchangeHandler, pacing
from ohlcvd.exchange.live import LiveStreams
from ohlcvd.simulator.server import Simulator
from tests.exchange.support import BOTH, Recorder, connected, simulator, until

VENUES = ["kraken", "binance"]


@asynccontextmanager
async def running_streams(
    handler: ExchangeHandler, symbols: Sequence[str], recorder: Recorder
) -> AsyncIterator[LiveStreams]:
    live = handler.live(BOTH, recorder)
    live.add(symbols)
    task = asyncio.create_task(live.run())
    try:
        yield live
    finally:
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(result, asyncio.CancelledError), result


def subscribed(running: Simulator, name: str) -> int:
    return sum(len(connection.subscriptions) for connection in running.venue(name).connections.values())


@pytest.mark.parametrize("name", VENUES)
async def test_symbols_join_and_leave_a_running_connection(name: str) -> None:
    async with simulator(symbols=10, rate=100) as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with running_streams(handler, symbols[:5], recorder) as live:
            await until(lambda: len(recorder.live) == 10, "five are live")
            live.add(symbols[3:8])
            await until(lambda: len(recorder.live) == 16, "eight are live")
            live.remove(symbols[:2])
            await until(lambda: subscribed(running, name) == 12, "two have left")
            counts = [len(recorder.trades.get(symbol, [])) for symbol in symbols[:2]]
            for symbol in symbols[:2]:
                recorder.live.pop((symbol, "trades"))
                recorder.live.pop((symbol, "candles"))
            live.add(symbols[8:])
            await until(lambda: len(recorder.live) == 16, "the others are live")
            assert counts == [len(recorder.trades.get(symbol, [])) for symbol in symbols[:2]]
            live.add(symbols[:1])
            await until(lambda: len(recorder.live) == 18 and subscribed(running, name) == 18, "one is back")
            await until(lambda: len(recorder.trades[symbols[0]]) > counts[0], "its trades")
            _, flushed = await running.freeze()
            assert flushed
            stayed = symbols[2:]
            sent = {symbol: running.sent(name, symbol) for symbol in stayed}
            await until(lambda: all(len(recorder.trades.get(s, [])) >= len(sent[s]) for s in stayed), "all arrives")
            assert {symbol: recorder.trades.get(symbol, []) for symbol in stayed} == sent
            assert not recorder.interruptions
            assert not recorder.refusals
        assert running.venue(name).connected_ever == 1
        assert handler.counters.reconnects == handler.counters.rejected == 0


async def test_a_new_symbol_gets_a_connection_where_there_is_no_room_and_an_empty_one_is_closed() -> None:
    async with simulator(symbols=101, rate=100) as running, connected(running, "binance") as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with running_streams(handler, symbols[:100], recorder) as live:
            await until(lambda: len(recorder.live) == 200, "a hundred are live")
            assert len(running.venue("binance").connections) == 1
            live.add(symbols)
            await until(lambda: len(recorder.live) == 202, "all are live")
            assert len(running.venue("binance").connections) == 2
            live.remove(symbols[100:])
            await until(lambda: len(running.venue("binance").connections) == 1, "the empty one is closed")
            assert not recorder.interruptions
            live.remove(symbols)
            await until(lambda: not running.venue("binance").connections, "all are closed")
            recorder.live.clear()
            live.add(symbols[:1])
            await until(lambda: len(recorder.live) == 2, "from nothing to one")
        assert handler.counters.reconnects == 0


@pytest.mark.parametrize("name", VENUES)
async def test_one_that_alone_falls_silent_is_doubted_and_asked_anew(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "FLOW_GAPS", 4.0)
    monkeypatch.setattr(pacing, "FLOW_MOMENTS", 3)
    async with simulator(symbols=3, rate=100) as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with running_streams(handler, symbols, recorder):
            await until(lambda: all(len(recorder.trades.get(symbol, ())) > 20 for symbol in symbols), "trades")
            await asyncio.sleep(4)  # several moments apart
            running.fault("mute", exchange=name, symbol=symbols[1])
            # whichever of its two streams is doubted first: the venue remembers both when one is asked anew
            await until(lambda: recorder.doubts, "doubted")
            before = len(recorder.trades[symbols[1]])
            await until(lambda: len(recorder.trades[symbols[1]]) > before, "its trades again")
            await until(lambda: (symbols[1], "trades") in recorder.live, "announced again")
            assert {symbol for symbol, _, _ in recorder.doubts} == {symbols[1]}
        assert running.venue(name).connected_ever == 1
        assert handler.counters.reconnects == 0
