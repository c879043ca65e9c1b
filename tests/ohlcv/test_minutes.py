"""A venue's minute is decided once, in order, and only on proof."""

from ohlcvd.market import MINUTE_US, Candle
from ohlcvd.ohlcv.minutes import DEFAULT_GRACE_US, Decision, Finality, MinuteBook

T0 = 1_700_000_040_000_000
SECOND = 1_000_000


def candle(minute: int, volume: str = "1", trades: int | None = 1, close: str = "10") -> Candle:
    return Candle(T0 + minute * MINUTE_US, "10", "12", "9", close, volume, trades, "venue")


def end(minute: int, extra_us: int = 0) -> int:
    return T0 + (minute + 1) * MINUTE_US + DEFAULT_GRACE_US + extra_us


def book(finality: Finality, subscribed_us: int | None = T0, *, sends_empty: bool = True) -> MinuteBook:
    made = MinuteBook(finality, sends_empty=sends_empty)
    if subscribed_us is not None:
        made.subscribed(subscribed_us)
    return made


def minutes(decision: Decision | None) -> list[int]:
    return [] if decision is None else [(row.ts_us - T0) // MINUTE_US for row in decision.candles]


def test_the_flag_closes_a_minute_at_once() -> None:
    made = book("flag")
    made.seen(candle(0), closed=False)
    assert made.decide(end(0)) is None
    assert made.asks(end(0)) == T0
    made.seen(candle(0, "2", 2), closed=True)
    decision = made.decide(T0 + MINUTE_US)
    assert decision is not None
    assert (decision.upper_us, decision.candles) == (T0 + MINUTE_US, [candle(0, "2", 2)])


def test_a_stale_partial_after_the_flag_changes_nothing() -> None:
    made = book("flag")
    made.seen(candle(0, "2", 2), closed=True)
    made.seen(candle(0, "1", 1), closed=False)
    decision = made.decide(end(0))
    assert decision is not None
    assert decision.candles == [candle(0, "2", 2)]
    assert made.seen(candle(0, "1", 1), closed=False) is None


def test_a_stream_minute_waits_for_the_grace() -> None:
    made = book("stream")
    made.seen(candle(0), closed=False)
    assert made.decide(end(0, -1)) is None
    assert minutes(made.decide(end(0))) == [0]


def test_an_idle_minute_of_an_unbroken_stream_is_known_empty() -> None:
    made = book("stream")
    decision = made.decide(end(2))
    assert decision == Decision(T0, T0 + 3 * MINUTE_US, [])


def test_the_minute_in_which_the_stream_began_is_asked_unless_a_state_of_it_was_seen() -> None:
    made = book("stream", T0 + 30 * SECOND)
    assert made.decide(end(0)) is None
    assert made.asks(end(0)) == T0
    made.seen(candle(0), closed=False)
    assert minutes(made.decide(end(0))) == [0]


def test_after_an_interruption_open_states_are_worth_nothing() -> None:
    made = book("stream")
    made.seen(candle(0), closed=False)
    made.interrupted()
    made.subscribed(T0 + 50 * SECOND)
    assert made.decide(end(0)) is None
    assert made.asks(end(0)) == T0
    assert minutes(made.answered([candle(0, "5", 5), candle(1)], end(0))) == [0]
    assert made.next_us == T0 + MINUTE_US


def test_an_unknown_venue_is_asked_for_every_minute() -> None:
    made = book("ask")
    made.seen(candle(0), closed=False)
    assert made.decide(end(0)) is None
    assert made.asks(end(0, -1)) is None
    assert made.asks(end(0)) == T0


def test_an_answer_without_a_later_row_proves_no_emptiness() -> None:
    made = book("ask", sends_empty=False)
    assert made.answered([candle(0)], end(1)) == Decision(T0, T0 + MINUTE_US, [candle(0)])
    assert made.answered([], end(2)) is None
    decision = made.answered([candle(3)], end(3))
    assert decision is not None
    assert decision.lower_us == T0 + MINUTE_US
    assert minutes(decision) == [3]


def test_the_running_minute_of_an_answer_is_not_final() -> None:
    made = book("ask")
    assert minutes(made.answered([candle(0), candle(1)], end(0))) == [0]


def test_a_zero_volume_row_is_an_empty_minute() -> None:
    made = book("flag")
    made.seen(candle(0, "0.00000000", 0), closed=True)
    assert made.decide(end(0)) == Decision(T0, T0 + MINUTE_US, [])


def test_minutes_that_the_venue_no_longer_has_are_skipped_and_named() -> None:
    made = book("stream")
    made.interrupted()
    decision = made.answered([candle(5), candle(6)], end(6))
    assert made.skipped == [(T0, T0 + 5 * MINUTE_US)]
    assert decision is not None
    assert decision.lower_us == T0 + 5 * MINUTE_US


def test_a_later_bigger_state_corrects_and_a_smaller_one_does_not() -> None:
    made = book("stream")
    made.seen(candle(0, "2", 2), closed=False)
    made.decide(end(0))
    assert made.seen(candle(0, "1", 1), closed=False) is None
    assert made.seen(candle(0, "3", 3, close="11"), closed=False) == candle(0, "3", 3, close="11")
    assert made.seen(candle(0, "3", 3, close="11"), closed=False) is None


def test_a_rest_answer_corrects_whatever_it_has_otherwise() -> None:
    made = book("stream")
    made.seen(candle(0, "2", 2), closed=False)
    made.decide(end(1))
    assert made.confirmed([candle(0, "2.0", 2), candle(5)]) == []
    smaller = candle(0, "1.5", 1)
    assert made.confirmed([smaller]) == [smaller]
    assert made.confirmed([smaller]) == []
    late = candle(1, "1", 1)
    assert made.confirmed([smaller, late]) == [late]


def test_a_revision_at_five_seconds_and_at_ten_minutes_then_a_stale_partial() -> None:
    made = book("stream")
    made.seen(candle(0, "2", 2), closed=False)
    made.decide(end(0))
    first, second = candle(0, "3", 3), candle(0, "4", 4, close="11")
    assert made.seen(first, closed=True) == first
    made.decide(end(10))
    assert made.seen(second, closed=True) == second
    assert made.seen(candle(0, "1", 1), closed=False) is None
