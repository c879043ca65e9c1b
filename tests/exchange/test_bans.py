"""A venue that has banned us is not asked before the ban ends: not by this process, and not by the next one."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.errors import ExchangeUnavailable
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.bans import Bans
from ohlcvd.exchange.priority import PriorityLock, background
from ohlcvd.log import get_component_logger
from ohlcvd.simulator.server import Simulator
from tests.exchange.support import BOTH, Recorder, simulator, streaming, until

LOG = get_component_logger("ohlcvd.exchange.kraken")


def handler_of(running: Simulator, name: str, folder: Path) -> ExchangeHandler:
    return ExchangeHandler(ExchangeConfig(name, (), running.rest_url(name), running.ws_url(name), bans=str(folder)))


@pytest.mark.parametrize("name", ["kraken", "binance"])
async def test_418_means_silence_until_it_ends_in_every_process(name: str, tmp_path: Path) -> None:
    recorder = Recorder()
    async with simulator(symbols=3, rate=50) as running:
        venue = running.venue(name)
        first = handler_of(running, name, tmp_path)
        await first.connect()
        symbols = list(first.symbols())
        running.fault("rest-418", exchange=name, value="9")
        banned_s = time.monotonic()
        with pytest.raises(ExchangeUnavailable) as caught:
            await first.get_trades(symbols[0])
        assert caught.value.retry_after_s == pytest.approx(9, abs=2)
        asked = venue.requests.total()
        with pytest.raises(ExchangeUnavailable, match="wants to be left alone"):
            await first.get_ohlcv(symbols[0])
        await first.close()
        second = handler_of(running, name, tmp_path)  # as after kill -9
        for _ in range(3):
            with pytest.raises(ExchangeUnavailable, match="wants to be left alone") as caught:
                await second.connect()
            assert caught.value.retry_after_s is not None
            await asyncio.sleep(0.3)
        await second.connect([dict(market) for market in markets_of(symbols)])
        async with streaming(second, symbols, recorder, BOTH):
            while time.monotonic() < banned_s + 7:
                assert venue.requests.total() == asked
                assert not recorder.live
                await asyncio.sleep(0.1)
            await until(lambda: recorder.live, "streaming when the ban is over", 30)
            assert time.monotonic() >= banned_s + 8.5
        await second.close()


def markets_of(symbols: list[str]) -> list[dict[str, object]]:
    return [
        {"id": symbol.replace("/", ""), "symbol": symbol, "base": symbol.split("/")[0], "quote": symbol.split("/")[1],
         "baseId": "", "quoteId": "", "type": "spot", "spot": True, "active": True, "precision": {}, "limits": {},
         "info": {}}
        for symbol in symbols
    ]  # fmt: skip


def test_a_ban_outlives_the_process_and_only_grows(tmp_path: Path) -> None:
    one, other = (Bans(str(tmp_path / "bans"), "kraken", LOG) for _ in range(2))
    assert one.left_s() <= 0
    one.note(100.0)
    assert other.left_s() == pytest.approx(100, abs=2)
    other.note(50.0)
    assert one.left_s() == pytest.approx(100, abs=2)
    other.note(200.0)
    assert one.left_s() == pytest.approx(200, abs=2)
    assert [file.name for file in (tmp_path / "bans").iterdir()] == ["kraken.json"]
    one.note(1.0)
    assert Bans(None, "kraken", LOG).left_s() <= 0


def test_a_short_pause_is_not_written_down_and_a_spoilt_file_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Bans(str(tmp_path), "kraken", LOG)
    one.note(1.0)
    assert one.left_s() > 0
    assert not list(tmp_path.iterdir())
    (tmp_path / "kraken.json").write_text('{"until')
    assert one.left_s() > 0
    assert "kraken.json cannot be read" in caplog.text
    (tmp_path / "kraken.json").write_text(json.dumps({"until_s": time.time() + 30}))
    os.utime(tmp_path / "kraken.json", (1, 1))
    assert one.left_s() == pytest.approx(30, abs=2)


async def test_live_questions_go_before_those_of_history() -> None:
    lock, order = PriorityLock(), list[str]()

    async def ask(name: str) -> None:
        async with lock:
            order.append(name)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(ask(f"history {n}"), context=background()) for n in range(3)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(ask(f"live {n}")) for n in range(2)]
    gone = asyncio.create_task(ask("cancelled"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(*tasks, gone, return_exceptions=True)
    assert order == ["history 0", "live 0", "live 1", "history 1", "history 2"]
    async with lock:
        pass
