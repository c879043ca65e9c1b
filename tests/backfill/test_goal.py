"""What an order means, and what of it is missing."""

import pytest

from ohlcvd.backfill.goal import Order, goal_of, lost_candles, reach, standing
from ohlcvd.errors import UsageError
from ohlcvd.exchange.limits import rules_of
from ohlcvd.market import MINUTE_US, SECOND_US, Kind

NOW_US = 1_772_366_400 * SECOND_US  # 2026-03-01 12:00
HOUR_US = 60 * MINUTE_US
KRAKEN = rules_of("kraken")


def order(since_us: int, until_us: int | None = None, kind: Kind | None = None) -> Order:
    return Order("kraken", "BTC/USD", since_us, until_us, kind)


def test_it_is_whole_minutes_and_ends_where_candles_are_final() -> None:
    goal = goal_of(order(NOW_US - HOUR_US + 1), "both", NOW_US + 19 * SECOND_US)
    assert (goal.lower_us, goal.upper_us) == (NOW_US - HOUR_US, NOW_US - MINUTE_US)
    goal = goal_of(order(NOW_US - HOUR_US, NOW_US - 30 * MINUTE_US + 1), "both", NOW_US)
    assert goal.upper_us == NOW_US - 29 * MINUTE_US
    assert goal.ending_before(NOW_US - 40 * MINUTE_US).upper_us == NOW_US - 41 * MINUTE_US


@pytest.mark.parametrize(
    ("asked", "service", "sentence"),
    [
        (order(NOW_US - 30 * SECOND_US), "both", "--since is less than a minute ago"),
        (order(NOW_US - HOUR_US, NOW_US - HOUR_US), "both", "--until is not after --since"),
        (order(NOW_US - HOUR_US, kind="trades"), "ohlcv", "trades are not collected: service is ohlcv"),
    ],
)
def test_what_means_nothing_is_refused(asked: Order, service: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        goal_of(asked, service, NOW_US)


@pytest.mark.parametrize(
    ("kind", "service", "kinds", "repairs"),
    [
        (None, "both", ("trades", "candles"), ("trades", "candles")),
        (None, "ohlcv", ("candles",), ("candles",)),
        (None, "trade", ("trades", "candles"), ("trades",)),
        ("trades", "both", ("trades",), ("trades",)),
        ("candles", "both", ("candles",), ("candles",)),
        # there is nothing but trades to build them from
        ("candles", "trade", ("candles",), ("trades",)),
    ],
)
def test_what_is_asked_for_is_wanted_and_nothing_else(
    kind: Kind | None, service: str, kinds: tuple[Kind, ...], repairs: tuple[Kind, ...]
) -> None:
    goal = goal_of(order(NOW_US - 99 * HOUR_US, kind=kind), service, NOW_US)
    assert (goal.kinds, goal.repairs) == (kinds, repairs)


def test_what_the_venue_does_not_give_is_not_missing_unless_it_came() -> None:
    goal = goal_of(order(0, 100), "both", NOW_US)
    assert (goal.lower_us, goal.upper_us) == (0, MINUTE_US)
    found = standing(goal, "trades", [(-5, 10), (50, MINUTE_US + 5)], [(8, 20), (30, 40), (35, 60)])
    assert found.covered == [(0, 10), (50, MINUTE_US)]
    assert found.lost == [(10, 20), (30, 50)]
    assert found.missing == [(20, 30)]
    assert found.settled_us == MINUTE_US - 10


def test_candles_are_lost_with_their_trades_only_where_they_are_built() -> None:
    trades, candles = [(90 * SECOND_US, 121 * SECOND_US), (10 * MINUTE_US, 10 * MINUTE_US + 1)], [(0, HOUR_US)]
    assert lost_candles(candles, trades, 5 * MINUTE_US) == [(MINUTE_US, 3 * MINUTE_US), (5 * MINUTE_US, HOUR_US)]
    assert lost_candles(candles, trades, 0) == candles
    everything = reach(KRAKEN, "trade", NOW_US)
    assert lost_candles(candles, trades, everything) == [(MINUTE_US, 3 * MINUTE_US), (10 * MINUTE_US, 11 * MINUTE_US)]
