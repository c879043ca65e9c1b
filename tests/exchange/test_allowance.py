"""One limiter for all questions: evenly spaced, by market where the venue counts so, slower after a refusal."""

import asyncio
import time

import pytest

from ohlcvd.errors import ExchangeUnavailable
from ohlcvd.exchange import ExchangeHandler, allowance
from ohlcvd.exchange.allowance import Allowance, Charge
from ohlcvd.exchange.limits import UNKNOWN_VENUE, rules_of
from tests.exchange.support import connected, simulator

KRAKEN = rules_of("kraken")


async def departures(one: Allowance, charges: list[Charge], count: int) -> list[float]:
    """When `count` questions of each charge left, all of them asked at once, in seconds from now."""
    began_s, left = time.monotonic(), list[float]()

    async def ask(charge: Charge) -> None:
        for _ in range(count):
            await one.turn(charge)
            left.append(time.monotonic() - began_s)

    await asyncio.gather(*map(ask, charges))
    return left


async def test_the_limit_is_used_up_and_not_exceeded() -> None:
    one = Allowance("model", UNKNOWN_VENUE, 0.02)
    left = await departures(one, [one.charge("Time", {}, 1.0)] * 5, 20)
    for number, left_s in enumerate(left):
        assert left_s >= 0.02 * number - allowance.SLACK_S - 0.001
    assert left[-1] <= 0.02 * 99 * 1.05 + 1.0  # a busy machine


async def test_markets_that_are_counted_apart_do_not_wait_for_each_other() -> None:
    rules = KRAKEN._replace(requests_per_s=100.0, market_spacing_s=0.3)
    one = Allowance("kraken", rules, 1.0)
    charges = [one.charge("Trades", {"pair": pair}, 1.2) for pair in ("XBTUSD", "ETHUSD", "XBTEUR", "ETHEUR")]
    assert one.charge("OHLC", {"pair": "XBTUSD"}, 1.2) == charges[0]
    assert one.charge("Time", {}, 1.0).market is None
    left = await departures(one, charges, 5)
    assert left[-1] < 20 * 0.3 / 2
    for number, left_s in enumerate(left):  # of each market one after the other
        assert left_s >= 0.3 * (number // 4) - 0.001


async def test_the_rate_after_a_refusal_is_what_passed_before_it_and_grows_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (allowance.LOOK_BACK_S, allowance.GROWS_EVERY_S) == (10.0, 5.0)
    monkeypatch.setattr(allowance, "LOOK_BACK_S", 1.0)
    monkeypatch.setattr(allowance, "GROWS_EVERY_S", 0.5)
    one = Allowance("model", UNKNOWN_VENUE, 0.01)
    charge = one.charge("Time", {}, 1.0)
    await departures(one, [charge], 75)
    one.refused(0.1)
    began_s = time.monotonic()
    slow = await departures(one, [charge], 20)
    assert slow[0] >= 0.1
    assert slow[-1] - slow[0] >= 19 * 0.01 / 0.8 - allowance.SLACK_S - 0.001
    assert one._share < 1.0
    await asyncio.sleep(max(0.0, began_s + 3.0 - time.monotonic()))
    for _ in range(5):
        await one.turn(charge)
        await asyncio.sleep(0.5)
    assert one._share == 1.0


async def test_a_venue_that_wants_to_be_left_alone_for_long_is_not_waited_for() -> None:
    one = Allowance("model", UNKNOWN_VENUE, 0.01)
    one.refused(60.0)
    with pytest.raises(ExchangeUnavailable, match="wants to be left alone for 60 s more") as caught:
        await one.turn(one.charge("Time", {}, 1.0))
    assert caught.value.retry_after_s == pytest.approx(60.0, abs=1.0)


async def test_a_venue_with_a_lower_limit_than_it_states_is_used_up_all_the_same() -> None:
    async with simulator(symbols=4) as running, connected(running, "binance") as handler:
        running.fault("requests", exchange="binance", value="5")
        began_s, answered = time.monotonic(), list[float]()

        async def ask(symbol: str) -> None:
            while time.monotonic() < began_s + 15:
                if await answers(handler, symbol):
                    answered.append(time.monotonic() - began_s)

        await asyncio.gather(*map(ask, handler.symbols()))
        venue = running.venue("binance")
        # 50 in the first ten seconds, and five in each second after
        allowed = 50 + 5 * 4.5
        assert len(answered) >= 0.8 * allowed, answered
        assert venue.requests["klines"] < 1.5 * len(answered), "too much is asked in vain"


async def answers(handler: ExchangeHandler, symbol: str) -> bool:
    try:
        return bool(await handler.get_ohlcv(symbol, limit=5))
    except ExchangeUnavailable as error:
        await asyncio.sleep(error.retry_after_s or 0.5)
        return False
