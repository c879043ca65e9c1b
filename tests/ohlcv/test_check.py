"""The venue's candle against the one built from its trades."""

from ohlcvd.market import MINUTE_US, Candle
from ohlcvd.ohlcv.check import KEPT_MINUTES, CandleCheck


def candle(minute: int, close: str = "10.0", trades: int | None = 3) -> Candle:
    return Candle(minute * MINUTE_US, "10", "12", "9", close, "1.50", trades, "venue")


def test_equal_values_with_other_digits_are_equal() -> None:
    check = CandleCheck()
    assert check.venue(candle(1)) is None
    assert check.built(candle(1, "10")) is None
    assert (check.equal, check.different) == (1, 0)


def test_a_difference_shows_both_sides_whichever_comes_first() -> None:
    check = CandleCheck()
    check.built(candle(1))
    difference = check.venue(candle(1, "11"))
    assert difference == (candle(1, "11"), candle(1))
    assert check.different == 1


def test_trade_counts_are_compared_where_the_venue_tells_them() -> None:
    check = CandleCheck()
    check.built(candle(1))
    check.venue(candle(1, trades=None))
    check.built(candle(2))
    check.venue(candle(2, trades=4))
    assert (check.equal, check.different) == (1, 1)


def test_counts_are_left_out_where_the_venue_counts_other_trades() -> None:
    check = CandleCheck(counts_agree=False)
    check.built(candle(2))
    check.venue(candle(2, trades=4))
    assert (check.equal, check.different) == (1, 0)


def test_minutes_without_another_side_are_forgotten() -> None:
    check = CandleCheck()
    for minute in range(1000):
        check.built(candle(minute))
    assert len(check._built) <= KEPT_MINUTES
