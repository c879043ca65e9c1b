"""What the streams leave undecided is asked over REST: once where it helps, with pauses where it does not."""

import asyncio

import pytest

from ohlcvd.errors import ExchangeUnavailable
from ohlcvd.market import MINUTE_US, Candle, Instrument
from ohlcvd.ohlcv import manager as manager_module
from ohlcvd.ohlcv.manager import OhlcvManager
from tests.ledger import Ledger

T0 = 1_700_000_040_000_000
SYMBOLS = ("BTC/USD", "ETH/USD")


class Venue:
    """Answers for candles from a list, and counts the questions."""

    def __init__(self, rows: list[Candle]) -> None:
        self.rows = rows
        self.asked: list[tuple[str, int | None]] = []
        self.failing: set[str] = set()

    async def get_ohlcv(self, symbol: str, since_us: int | None = None, limit: int | None = None) -> list[Candle]:
        self.asked.append((symbol, since_us))
        if symbol in self.failing:
            raise ExchangeUnavailable("down for a while")
        return [row for row in self.rows if since_us is None or row.ts_us >= since_us]


def candle(minute: int) -> Candle:
    return Candle(T0 + minute * MINUTE_US, "1", "1", "1", "1", "2", 1, "venue")


async def until(condition: "asyncio.Event", manager: OhlcvManager, finals: list[tuple[str, Candle]]) -> None:
    def on_final(symbol: str, final: Candle) -> None:
        finals.append((symbol, final))
        if len(finals) >= 2:
            condition.set()

    asking = asyncio.create_task(manager.ask_forever(on_final))
    try:
        await asyncio.wait_for(condition.wait(), 20)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def manager_of(venue: Venue, ledger: Ledger) -> OhlcvManager:
    instruments = {symbol: Instrument(n, "kraken", symbol) for n, symbol in enumerate(SYMBOLS)}
    manager = OhlcvManager(
        "kraken",
        instruments,
        ledger,
        finality="ask",
        sends_empty=True,
        fetch=venue.get_ohlcv,
        venue_now_us=lambda: T0 + 3 * MINUTE_US + 5_000_000,
    )
    for collector in manager.collectors.values():
        collector.subscribed(T0 + 2 * MINUTE_US)
    return manager


async def test_each_market_is_asked_once_when_the_answer_decides() -> None:
    venue, ledger, finals = Venue([candle(n) for n in range(4)]), Ledger(), list[tuple[str, Candle]]()
    await until(asyncio.Event(), manager_of(venue, ledger), finals)
    assert [symbol for symbol, _ in venue.asked] == list(SYMBOLS)
    assert {since_us for _, since_us in venue.asked} == {T0 + MINUTE_US}
    assert [final for _, final in finals] == [candle(2), candle(2)]
    assert ledger.candles == [candle(2), candle(2)]


async def test_decided_minutes_are_asked_for_once_more_and_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (manager_module.CONFIRM_S, manager_module.CONFIRM_GAP_S) == (240.0, 4.0)
    monkeypatch.setattr(manager_module, "CONFIRM_S", 0.2)
    monkeypatch.setattr(manager_module, "CONFIRM_GAP_S", 0.2)
    venue, ledger, finals = Venue([candle(n) for n in range(4)]), Ledger(), list[tuple[str, Candle]]()
    manager = manager_of(venue, ledger)
    asking = asyncio.create_task(manager.ask_forever(lambda symbol, final: finals.append((symbol, final))))
    async with asyncio.timeout(20):
        while len(finals) < 2:
            await asyncio.sleep(0.05)
        revised = candle(2)._replace(volume="3", trades=2)
        venue.rows[2] = revised
        while ledger.candles.count(revised) < 2:
            await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert [collector.corrections for collector in manager.collectors.values()] == [1, 1]


async def test_a_failing_market_waits_and_does_not_hold_up_the_others() -> None:
    venue, ledger, finals = Venue([candle(n) for n in range(4)]), Ledger(), list[tuple[str, Candle]]()
    venue.failing = {"BTC/USD"}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await until(asyncio.Event(), manager_of(venue, ledger), finals)
    asked = [symbol for symbol, _ in venue.asked]
    assert [symbol for symbol, _ in finals] == ["ETH/USD"]
    assert 1 <= asked.count("BTC/USD") <= 2
    assert asked.count("ETH/USD") == 1
