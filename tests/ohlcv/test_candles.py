"""Candles built from trades are exact, whatever the order and number of the trades."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.market import MINUTE_US, Candle, Trade
from ohlcvd.ohlcv.candles import KEPT_MINUTES, CandleBuilder

T0 = 1_700_000_040_000_000  # on a minute


def trade(offset_us: int, number: int, price: str = "10", amount: str = "1") -> Trade:
    return Trade(T0 + offset_us, str(number), price, amount, "buy")


def build(trades: list[Trade], until_us: int, from_us: int = T0) -> list[Candle]:
    builder = CandleBuilder()
    builder.restart_from(from_us)
    for item in trades:
        builder.add(item)
    return builder.close(until_us)


def test_open_and_close_follow_the_id_within_one_time_stamp() -> None:
    trades = [trade(5, 1000, "3"), trade(5, 998, "1"), trade(5, 1001, "4"), trade(5, 999, "2")]
    (candle,) = build(trades, T0 + MINUTE_US)
    assert (candle.open, candle.high, candle.low, candle.close, candle.trades) == ("1", "4", "1", "4", 4)


def test_open_and_close_follow_the_arrival_where_ids_are_no_numbers() -> None:
    rows = (("x9", "3"), ("x10", "1"), ("x8", "4"), ("x2", "2"))
    trades = [Trade(T0 + 5, id, price, "1", "buy") for id, price in rows]
    (candle,) = build(trades, T0 + MINUTE_US)
    assert (candle.open, candle.high, candle.low, candle.close) == ("3", "4", "1", "2")


def test_volume_is_not_rounded_where_decimal_would_round() -> None:
    amounts = ["123456789012345678901234567890.000000000000000001", "0.000000000000000001"]
    (candle,) = build([trade(n, n, amount=amount) for n, amount in enumerate(amounts, 1)], T0 + MINUTE_US)
    assert candle.volume == "123456789012345678901234567890.000000000000000002"


def test_a_minute_that_began_before_the_stream_is_not_given_out() -> None:
    trades = [trade(59_000_000, 1), trade(61_000_000, 2)]
    candles = build(trades, T0 + 2 * MINUTE_US, from_us=T0 + 30_000_000)
    assert [candle.ts_us for candle in candles] == [T0 + MINUTE_US]


def test_a_minute_is_given_once_and_again_only_when_a_late_trade_changes_it() -> None:
    builder = CandleBuilder()
    builder.restart_from(T0)
    builder.add(trade(1, 1))
    assert len(builder.close(T0 + MINUTE_US)) == 1
    assert builder.close(T0 + MINUTE_US) == []
    builder.add(trade(2, 2, price="11"))
    (corrected,) = builder.close(T0 + MINUTE_US)
    assert (corrected.close, corrected.trades) == ("11", 2)


def test_a_late_trade_corrects_its_minute_also_when_others_came_before_it() -> None:
    builder = CandleBuilder()
    builder.restart_from(T0)
    builder.add(trade(1, 1))
    assert len(builder.close(T0 + MINUTE_US)) == 1
    builder.add(trade(MINUTE_US, 3), trade(2, 2, price="9"), trade(MINUTE_US + 1, 4))
    (corrected,) = builder.close(T0 + MINUTE_US)
    assert (corrected.ts_us, corrected.low, corrected.trades) == (T0, "9", 2)
    (following,) = builder.close(T0 + 2 * MINUTE_US)
    assert following.trades == 2


@pytest.mark.parametrize(
    ("texts", "low", "high"),
    [
        (["10.5", "10.4", "10.6"], "10.4", "10.6"),
        (["9.5", "10.4", "1.06"], "1.06", "10.4"),
        (["9", "10", "11"], "9", "11"),
        (["1.50", "1.5", "1.500"], "1.50", "1.50"),
    ],
)
def test_prices_are_compared_as_numbers_and_keep_their_digits(texts: list[str], low: str, high: str) -> None:
    (candle,) = build([trade(n, n, price) for n, price in enumerate(texts, 1)], T0 + MINUTE_US)
    assert (candle.low, candle.high) == (low, high)


def test_minutes_open_at_an_interruption_are_not_given_out() -> None:
    builder = CandleBuilder()
    builder.restart_from(T0)
    builder.add(trade(1, 1))
    builder.restart_from(T0 + 30_000_000)
    builder.add(trade(40_000_000, 5))
    builder.add(trade(MINUTE_US, 6))
    assert [candle.ts_us for candle in builder.close(T0 + 2 * MINUTE_US)] == [T0 + MINUTE_US]


def test_old_trades_of_a_snapshot_make_no_forming_candle() -> None:
    builder = CandleBuilder()
    builder.add(trade(-90_000_000, 1))
    builder.restart_from(T0)
    assert builder.forming() is None
    builder.add(trade(1, 2))
    forming = builder.forming()
    assert forming is not None
    assert forming.ts_us == T0


def test_memory_is_bounded() -> None:
    builder = CandleBuilder()
    builder.restart_from(T0)
    for minute in range(200):
        builder.add(trade(minute * MINUTE_US, minute + 1))
        builder.close(T0 + minute * MINUTE_US)
    assert len(builder._minutes) <= KEPT_MINUTES + 2


prices = st.decimals(min_value="0.00000001", max_value="1e6", places=8).map(lambda price: format(price, "f"))
trade_lists = st.lists(st.tuples(st.integers(0, 5 * MINUTE_US - 1), prices, prices), min_size=1, max_size=60).map(
    lambda rows: [trade(at, n, price, amount) for n, (at, price, amount) in enumerate(sorted(rows), 1)]
)


@given(trade_lists, st.randoms(use_true_random=False))
def test_candles_do_not_depend_on_the_order_of_arrival(trades: list[Trade], random: object) -> None:
    shuffled = list(trades)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected: dict[int, list[Trade]] = {}
    for item in trades:
        expected.setdefault(item.ts_us - item.ts_us % MINUTE_US, []).append(item)
    candles = build(shuffled, T0 + 5 * MINUTE_US)
    assert [candle.ts_us for candle in candles] == sorted(expected)
    for candle in candles:
        rows = expected[candle.ts_us]
        assert (candle.open, candle.close, candle.trades) == (rows[0].price, rows[-1].price, len(rows))
        assert Decimal(candle.high) == max(Decimal(row.price) for row in rows)
        assert Decimal(candle.low) == min(Decimal(row.price) for row in rows)
        assert Decimal(candle.volume) == sum(Decimal(row.amount) for row in rows)


@pytest.mark.parametrize("late_by", [KEPT_MINUTES + 3])
def test_a_trade_later_than_the_memory_changes_nothing(late_by: int) -> None:
    builder = CandleBuilder()
    builder.restart_from(T0)
    builder.add(trade(late_by * MINUTE_US, 2))
    builder.close(T0 + late_by * MINUTE_US)
    builder.add(trade(0, 1))
    assert builder.close(T0 + late_by * MINUTE_US) == []
