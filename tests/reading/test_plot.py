"""Candlesticks drawn as text: what fits, what the axes say, and which way a body points."""

import random
import unicodedata
from decimal import Decimal
from itertools import pairwise

import pytest

from ohlcvd.reading.plot import Stick, candlesticks, columns_for

NOON_S = 1_772_366_400  # 2026-03-01 12:00 UTC


def sticks(count: int, *, length_s: int = 3_600, scale: str = "1", skip: tuple[int, ...] = ()) -> list[Stick]:
    chance = random.Random(3)
    found, price = [], Decimal(30_000)
    for number in range(count):
        first, price = price, price + chance.randint(-50, 50)
        high, low = max(first, price) + chance.randint(0, 20), min(first, price) - chance.randint(0, 20)
        if number not in skip:
            prices = (one * Decimal(scale) for one in (first, high, low, price))
            found.append(Stick(NOON_S + number * length_s, *prices))
    return found


@pytest.mark.parametrize(("width", "height"), [(80, 23), (80, 24), (200, 50), (40, 10), (1, 1)])
@pytest.mark.parametrize("count", [1, 2, 30, 66, 500])
@pytest.mark.parametrize("scale", ["1", "0.00000001", "1000"])
def test_it_fits(width: int, height: int, count: int, scale: str) -> None:
    lines = candlesticks(sticks(count, scale=scale), 3_600, title="kraken BTC/USD 1h " * 9, width=width, height=height)
    assert len(lines) == max(8, height)
    for line in lines:
        assert len(line) <= max(30, width)
        assert all(unicodedata.east_asian_width(sign) != "W" for sign in line)
    assert sum("┤" in line for line in lines) >= 1
    assert "┬" in lines[-2] or count < 24 or width < 80


def test_the_axes_are_round_and_true() -> None:
    lines = candlesticks(sticks(60), 3_600, title="title", width=80, height=24)
    assert lines[0] == "title"
    labels = [Decimal(line.split("┤")[0].replace(",", "")) for line in lines if "┤" in line]
    steps = {before - after for before, after in pairwise(labels)}
    assert len(steps) == 1
    assert len(labels) >= 4
    assert "03-02 00:00" in lines[-1]
    column = lines[-1].index("03-02 00:00")
    assert lines[-2][column] == "┬"
    axis = lines[-2].index("└")
    assert column - axis - 1 == 12, "noon and twelve candles"


def test_what_is_missing_stays_empty() -> None:
    lines = candlesticks(sticks(60, skip=(10, 11, 12)), 3_600, title="", width=80, height=24)
    axis = lines[-2].index("└")
    for line in lines[1:-2]:
        assert line.ljust(80)[axis + 11 : axis + 14] == "   "


def test_bodies_tell_which_way_it_went() -> None:
    rose = Stick(NOON_S, *map(Decimal, (100, 110, 90, 105)))
    fell = Stick(NOON_S, *map(Decimal, (105, 110, 90, 100)))
    drawn = ["".join(candlesticks([one], 60, title="", width=60, height=20)[:-2]) for one in (rose, fell)]
    assert "┃" in drawn[0]
    assert "█" not in drawn[0]
    assert "█" in drawn[1]
    coloured = ["\n".join(candlesticks([one], 60, title="", width=60, height=20, colours=True)) for one in (rose, fell)]
    assert "\x1b[32m" in coloured[0]
    assert "\x1b[31m" in coloured[1]


def test_a_price_that_never_moved_is_drawn() -> None:
    still = [Stick(NOON_S + number * 60, *[Decimal("5.5")] * 4) for number in range(5)]
    assert any("5.5" in line for line in candlesticks(still, 60, title="", width=80, height=24))


def test_as_many_are_asked_for_as_fit() -> None:
    assert columns_for(80) == 66
    lines = candlesticks(sticks(columns_for(80)), 3_600, title="", width=80, height=24)
    assert len(lines[-2]) <= 80
