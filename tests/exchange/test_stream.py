"""Live streams against the local exchange, through the real ccxt classes, with real connections that really break."""

import asyncio
import gc
import time
from collections.abc import Sequence

import pytest

from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.registry import FAST_VENUES
from ohlcvd.market import MINUTE_US, Candle, Kind, Trade
from ohlcvd.simulator.server import Simulator
from tests.exchange.support import BOTH, Recorder, connected, simulator, streaming, until

VENUES = ["kraken", "binance"]


def live(recorder: Recorder, symbols: Sequence[str]) -> bool:
    return len(recorder.live) == 2 * len(symbols)


async def complete(running: Simulator, name: str, recorder: Recorder, symbols: Sequence[str]) -> None:
    """The market ends; everything sent has arrived, once, in order, digit for digit."""
    _, flushed = await running.freeze()
    assert flushed
    sent = {symbol: running.sent(name, symbol) for symbol in symbols}
    await until(
        lambda: all(ids(recorder.trades.get(s, [])) >= ids(sent[s]) for s in symbols), "everything sent arrives"
    )
    for symbol in symbols:
        assert recorder.trades.get(symbol, []) == sent[symbol]


def ids(trades: Sequence[Trade]) -> set[str]:
    return {trade.id for trade in trades}


@pytest.mark.parametrize("name", VENUES)
async def test_every_trade_of_twenty_symbols_once_in_order_and_candles_too(name: str) -> None:
    async with simulator() as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        assert len(symbols) == 20
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols) and recorder.count > 400, "400 trades")
            await until(lambda: len(recorder.candles) > 10, "candles; quiet symbols have none yet")
            await complete(running, name, recorder, symbols)
            assert not recorder.interruptions
            assert not recorder.refusals
            venue_us = handler.clock.now_us(time.monotonic())
        assert venue_us is not None
        assert abs(venue_us - time.time_ns() // 1000) < 3_000_000
        assert len(recorder.interruptions) == 40
        assert {reason for _, _, reason in recorder.interruptions} == {"the stream was stopped"}
        assert handler.counters.rejected == 0
        assert handler.counters.frames > 50


@pytest.mark.parametrize("name", VENUES)
async def test_announced_time_is_later_than_all_that_was_missed(name: str) -> None:
    """What the venue did before the announced time and we did not see is older than the announcement."""
    async with simulator() as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols) and recorder.count > 400, "400 trades")
            announced = dict(recorder.live)
            end_us, _ = await running.freeze()
            venue = running.venue(name)
            for symbol in symbols:
                truth = venue.true_trades(symbol, announced[symbol, "trades"], end_us)
                await until(lambda s=symbol, t=truth: ids(recorder.trades.get(s, [])) >= ids(t), f"all of {symbol}")  # type: ignore[misc]


@pytest.mark.parametrize("fault", ["cut", "close", "deaf"])
@pytest.mark.parametrize("name", VENUES)
async def test_ended_connection_is_told_at_once_and_comes_back_within_ten_seconds(name: str, fault: str) -> None:
    async with simulator() as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols) and recorder.count > 100, "100 trades")
            await asyncio.sleep(3.5)  # a flow is known after three seconds
            running.fault(fault, exchange=name)
            told_s = await until(lambda: len(recorder.interruptions) == 40, "told")
            back_s = await until(lambda: live(recorder, symbols), "subscribed again")
            assert told_s + back_s < 10
            if fault != "deaf":
                assert told_s < 0.5
            before = recorder.count
            await until(lambda: recorder.count > before + 100, "new trades")
            await complete(running, name, recorder, symbols)
        assert handler.counters.reconnects == 1


@pytest.mark.parametrize("name", VENUES)
async def test_silence_with_open_sockets_is_noticed(name: str) -> None:
    async with simulator() as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols) and recorder.count > 100, "100 trades")
            await asyncio.sleep(3.5)
            running.fault("silence", exchange=name, value="9")
            await until(lambda: len(recorder.interruptions) == 40, "told", 9)
            assert all("stale" in reason for _, _, reason in recorder.interruptions)
            await until(lambda: live(recorder, symbols), "subscribed again")


@pytest.mark.parametrize("name", VENUES)
async def test_refused_symbol_leaves_the_others_alone(name: str) -> None:
    async with simulator() as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        running.fault("refuse", exchange=name, symbol=symbols[7])
        async with streaming(handler, [*symbols, "NO/SUCH"], recorder):
            await until(lambda: len(recorder.live) == 38, "the others are live")
            await until(lambda: len(recorder.refusals) >= 4, "told")
            assert {symbol for symbol, _, _ in recorder.refusals} == {symbols[7], "NO/SUCH"}
            assert {kind for symbol, kind, _ in recorder.refusals if symbol == symbols[7]} == {"trades", "candles"}
            assert not recorder.interruptions
            running.fault("list", exchange=name, symbol=symbols[7])
            await until(lambda: live(recorder, symbols), "asked again")
            await until(lambda: recorder.trades.get(symbols[7]), "its trades")
            assert not recorder.interruptions


@pytest.mark.parametrize("name", VENUES)
async def test_wrong_frames_are_counted_and_the_stream_goes_on(name: str) -> None:
    async with simulator() as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols) and recorder.count > 100, "100 trades")
            sent = 0
            for fault in ("garbage", "cut-json", "missing-fields", "negative-price", "future-time"):
                recorder.interruptions.clear()
                sent += running.fault(fault, exchange=name)
                await until(lambda n=sent: handler.counters.rejected == n, f"{fault} rejected")  # type: ignore[misc]
                # What was in a frame that cannot be used is missing: told, and announced anew on the same connection.
                await until(lambda: recorder.interruptions and live(recorder, symbols), "announced anew")
            assert sent >= 5
            assert all(time_us < time.time_ns() // 1000 + 5_000_000 for time_us in recorder.live.values())
            before = recorder.count
            await until(lambda: recorder.count > before + 100, "new trades")
            await complete(running, name, recorder, symbols)
        assert handler.counters.reconnects == 0
        assert handler.counters.rejected == sent


class Teller(Recorder):
    """Writes down what it is told in the order in which it is told, once `story` is cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[str] = []

    def on_trades(self, symbol: str, trades: list[Trade], snapshot: bool) -> None:
        super().on_trades(symbol, trades, snapshot)
        self.story += [f"trade {trade.id}" for trade in trades]

    def on_candle(self, symbol: str, candle: Candle, closed: bool, snapshot: bool) -> None:
        super().on_candle(symbol, candle, closed, snapshot)
        self.story.append("candle")

    def on_interrupted(self, symbol: str, kind: Kind, reason: str) -> None:
        super().on_interrupted(symbol, kind, reason)
        self.story.append(f"{kind} interrupted")


@pytest.mark.parametrize("name", VENUES)
async def test_frames_that_came_together_are_told_in_their_order(name: str) -> None:
    async with simulator(symbols=1) as running, connected(running, name) as handler:
        (symbol,), teller = handler.symbols(), Teller()
        async with streaming(handler, [symbol], teller):
            await until(lambda: live(teller, [symbol]) and teller.count, "a trade")
            await complete(running, name, teller, [symbol])
            venue, (client,) = running.venue(name), handler._ccxt.clients.values()
            end = venue.visible(symbol)
            one, two, three, four = (
                venue.trade_frames(symbol, [old])[0] for old in venue.executions(symbol, end - 4, end)
            )
            minute = venue.minute(symbol, time.time_ns() // 60_000_000_000 * MINUTE_US - MINUTE_US, end)
            assert minute is not None
            candle = venue.candle_frame(symbol, minute, closed=False)
            teller.story.clear()
            for text in client.gather([one, two, candle, three, "{", four]):
                client._take(text)
            client._pause()
            trades = [f"trade {number}" for number in range(end - 4, end)]
            assert teller.story[:4] == [*trades[:2], "candle", trades[2]]
            assert sorted(teller.story[4:6]) == ["candles interrupted", "trades interrupted"]
            assert teller.story[6:] == trades[3:]


@pytest.mark.parametrize("name", VENUES)
async def test_pause_stops_the_venue_and_loses_nothing(name: str) -> None:
    async with simulator(rate=1000) as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols) and recorder.count > 300, "300 trades")
            handler.pause_reading()
            await asyncio.sleep(0.1)
            held = recorder.count
            await asyncio.sleep(FAST_VENUES[name][0].silence.any_s + 1.0)
            assert recorder.count == held
            handler.resume_reading()
            await until(lambda: recorder.count > held + 5000, "what had waited")
            await complete(running, name, recorder, symbols)
            assert not recorder.interruptions
        assert handler.counters.reconnects == 0


class SlowRecorder(Recorder):
    """Blocks the loop now and then, so that hundreds of frames wait in one segment; pauses when it has enough."""

    def __init__(self, handler: ExchangeHandler) -> None:
        super().__init__()
        self._handler = handler
        self._calls = 0

    def on_trades(self, symbol: str, trades: list[Trade], snapshot: bool) -> None:
        super().on_trades(symbol, trades, snapshot)
        self._calls += 1
        if self._calls % 500 == 0:
            time.sleep(0.2)
            self._handler.pause_reading()
            asyncio.get_running_loop().call_later(0.05, self._handler.resume_reading)


@pytest.mark.parametrize("name", VENUES)
async def test_bursts_of_three_hundred_symbols_and_a_slow_consumer(name: str) -> None:
    async with simulator(symbols=300, rate=1500, burst=400) as running, connected(running, name) as handler:
        symbols = list(handler.symbols())
        assert len(symbols) == 300
        recorder = SlowRecorder(handler)
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols) and recorder.count > 5000, "5000 trades", 120)
            await complete(running, name, recorder, symbols)
            assert not recorder.interruptions
        if name == "binance":
            assert running.venue(name).connected_ever == 3


@pytest.mark.parametrize("name", VENUES)
async def test_twenty_reconnects_leave_nothing_behind(name: str) -> None:
    async with simulator(symbols=2, rate=50) as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols), "live")
            await asyncio.sleep(0.2)
            before = len(asyncio.all_tasks())
            for number in range(1, 21):
                running.fault("cut", exchange=name)
                await until(lambda n=number: len(recorder.interruptions) == 4 * n, "told")  # type: ignore[misc]
                await until(lambda: live(recorder, symbols), "live again")
            await until(lambda: len(asyncio.all_tasks()) <= before, "no task more than at the start", 5)
        assert handler.counters.reconnects == 20
        gc.collect()


@pytest.mark.parametrize("name", VENUES)
async def test_venue_that_is_away_comes_back_without_a_storm(name: str) -> None:
    async with simulator(symbols=2) as running, connected(running, name) as handler:
        symbols, recorder = list(handler.symbols()), Recorder()
        async with streaming(handler, symbols, recorder):
            await until(lambda: live(recorder, symbols), "live")
            port = running.port
            await running.stop()
            await until(lambda: len(recorder.interruptions) == 4, "told")
            await asyncio.sleep(2)
            async with Simulator(running.settings) as again_on_another_port:
                assert again_on_another_port.port != port
            again = Simulator(running.settings)
            await again.start(port)
            try:
                await until(lambda: live(recorder, symbols), "live again", 90)
            finally:
                await again.stop()


async def test_two_streams_of_one_exchange_do_not_disturb_each_other() -> None:
    async with simulator() as running, connected(running, "kraken") as handler:
        symbols = list(handler.symbols())
        first, second = Recorder(), Recorder()
        async with streaming(handler, symbols[:10], first), streaming(handler, symbols[10:], second, BOTH[:1]):
            await until(lambda: len(first.live) == 20 and len(second.live) == 10, "both live")
            await until(lambda: first.count > 50 and second.count > 50, "trades in both")
            assert not first.interruptions
            assert not second.interruptions
            assert set(first.trades) <= set(symbols[:10])
            assert set(second.trades) <= set(symbols[10:])
            assert not second.candles
        async with streaming(handler, symbols, again := Recorder()):
            await until(lambda: live(again, symbols), "a later stream")


async def test_stream_of_nothing_that_is_listed_goes_on_quietly() -> None:
    async with simulator(symbols=2) as running, connected(running, "kraken") as handler:
        recorder = Recorder()
        async with streaming(handler, ["NO/SUCH", "NO/SUCH"], recorder) as task:
            await until(lambda: recorder.refusals, "refused")
            assert not task.done()
        assert [(symbol, kind) for symbol, kind, _ in recorder.refusals] == [("NO/SUCH", kind) for kind in BOTH]


async def test_cancelling_in_every_phase_is_quiet() -> None:
    async with simulator(symbols=2) as running:
        for pause_s in (0, 0.001, 0.005, 0.02, 0.1, 0.3):
            async with connected(running, "kraken") as handler:
                task = asyncio.create_task(handler.stream(list(handler.symbols()), BOTH, Recorder()))
                await asyncio.sleep(pause_s)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            gc.collect()
