"""Values at the edge: digits stay as they were sent, nonsense is named."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ohlcvd.market import (
    Candle,
    Candles,
    Trade,
    are_faultless_candles,
    candle_fault,
    minute_of,
    plain_digits,
    times_of,
    trade_fault,
)

NOW = 1_800_000_000_000_000
TRADE = Trade(NOW, "1", "1.5", "2", "buy")
CANDLE = Candle(minute_of(NOW), "10", "12", "9", "11", "0", 0, "venue")


@pytest.mark.parametrize(
    ("text", "plain"),
    [("1.50E-7", "0.000000150"), ("1e-18", "0.000000000000000001"), ("5", "5"), ("0.10", "0.10"), ("2E3", "2000")],
)
def test_exponents_are_expanded_digit_for_digit(text: str, plain: str) -> None:
    assert plain_digits(text) == plain


@pytest.mark.parametrize("text", ["", "nan", "-1", "1_0", "٣", "0x1", "1.", ".5", " 1", "inf", "1e9999", "1\n"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal number"):
        plain_digits(text)


@given(st.decimals(min_value=0, max_value=10**20, allow_nan=False, allow_infinity=False))
def test_plain_digits_keep_the_value(number: Decimal) -> None:
    assert Decimal(plain_digits(str(number))) == number


@pytest.mark.parametrize(
    "bad",
    [
        TRADE._replace(price="-1"),
        TRADE._replace(price="0.000"),
        TRADE._replace(amount="1e5"),
        TRADE._replace(id=""),
        TRADE._replace(ts_us=NOW + 10_000_001),
        TRADE._replace(ts_us=0),
        TRADE._replace(side="Buy"),  # type: ignore[arg-type]
    ],
)
def test_bad_trades_are_named(bad: Trade) -> None:
    assert trade_fault(TRADE, NOW) is None
    assert trade_fault(bad, NOW)


@pytest.mark.parametrize(
    "bad",
    [
        CANDLE._replace(ts_us=CANDLE.ts_us + 1_000_000),
        CANDLE._replace(open="13"),
        CANDLE._replace(close="8"),
        CANDLE._replace(high="0"),
        CANDLE._replace(volume="-1"),
        CANDLE._replace(ts_us=CANDLE.ts_us + 120_000_000),
    ],
)
def test_bad_candles_are_named(bad: Candle) -> None:
    assert candle_fault(CANDLE, NOW) is None
    assert are_faultless_candles([CANDLE, CANDLE], NOW)
    assert candle_fault(bad, NOW)
    assert not are_faultless_candles([CANDLE, bad, CANDLE], NOW)


@given(st.lists(st.sampled_from([CANDLE, CANDLE._replace(trades=None), CANDLE._replace(close="9", source="trades")])))
def test_candles_by_columns_are_the_same_candles(rows: list[Candle]) -> None:
    page = Candles.of(rows)
    assert (len(page), [*page], times_of(page)) == (len(rows), rows, tuple(times_of(rows)))
    assert page == rows
    assert page != [*rows, CANDLE]
    assert not rows or page != [*rows[:-1], CANDLE._replace(open="8")]
    assert page[1:] == rows[1:]
    assert all(page[place] == row for place, row in enumerate(rows))
    assert Candles.joined([page[:2], page[2:]]) == rows == Candles.of(page)


prices = st.sampled_from(
    [
        "1",
        "1.0",
        "0.9",
        "1.000000000000000001",
        "1,1",
        "0",
        "",
        "-1",
        "nan",
        "1e1",
        "2" * 40,
        ".90",
        "90.",
        "1..",
        "٣.0",
    ]
)


@given(st.lists(st.tuples(prices, prices, prices, prices, prices), max_size=3))
@example([("0.9", "1.0", "0.9", "1.0", "٣.0")])
@example([(".90", ".90", ".90", ".90", "1")])
@example([("90.", "90.", "90.", "90.", "1")])
@example([("٣.0", "٣.0", "٣.0", "٣.0", "1")])
@example([("1,0", "1,0", "1,0", "1,0", "1")])
def test_candles_are_judged_alike_together_and_one_by_one(rows: list[tuple[str, str, str, str, str]]) -> None:
    candles = [
        CANDLE._replace(open=first, high=high, low=low, close=last, volume=volume)
        for first, high, low, last, volume in rows
    ]
    assert are_faultless_candles(candles, NOW) == all(candle_fault(one, NOW) is None for one in candles)


def test_a_low_of_zero_is_seen_where_all_have_as_many_digits() -> None:
    good = CANDLE._replace(low="09")
    assert are_faultless_candles([good], NOW)
    assert not are_faultless_candles([good, good._replace(low="00")], NOW)
