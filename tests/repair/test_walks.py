"""The walks' single decisions, where the model does not reach: candles, limits, evidence."""

import pytest

from ohlcvd.exchange.limits import UNKNOWN_VENUE, rules_of
from ohlcvd.exchange.sink import TradePage
from ohlcvd.market import MINUTE_US, SECOND_US, Candle, Trade
from ohlcvd.repair.candles_walk import CandleWalk
from ohlcvd.repair.lost import ATTEMPTS, LostGaps, pause_after_s
from ohlcvd.repair.walk import DOUBTS_ALLOWED, PROOF_LAG_US, Lost, TradeWalk
from tests.repair.venues import NOON_US

BINANCE = rules_of("binance")
LATE_US = NOON_US + 86_400 * SECOND_US


def minute(number: int, trades: int | None = 3) -> Candle:
    return Candle(NOON_US + number * MINUTE_US, "1", "2", "1", "2", "5" if trades != 0 else "0", trades, "venue")


def trade(number: int, seconds: float) -> Trade:
    return Trade(NOON_US + int(seconds * SECOND_US), str(number), "1", "2", "buy")


def hole(first: int, last: int) -> tuple[int, int]:
    return NOON_US + first * MINUTE_US, NOON_US + last * MINUTE_US


def test_empty_minutes_that_the_venue_sends_are_covered_and_have_no_row() -> None:
    walk = CandleWalk(hole(0, 3), BINANCE)
    assert walk.ask() == (NOON_US - MINUTE_US, 5)
    step = walk.take([minute(-1), minute(0), minute(1, 0), minute(2), minute(3)], LATE_US)
    assert step.is_done
    assert step.candles == [minute(0), minute(2)]
    assert step.claims == [hole(0, 3)]


def test_a_minute_left_out_by_a_venue_that_sends_all_is_lost() -> None:
    walk = CandleWalk(hole(0, 3), BINANCE)
    walk.ask()
    step = walk.take([minute(-1), minute(0), minute(2), minute(3)], LATE_US)
    assert step.claims == [hole(0, 1), hole(2, 3)]
    assert [(one.gap, one.reason) for one in step.lost] == [(hole(1, 2), "unfillable")]


def test_minutes_before_the_first_row_are_older_than_the_venue() -> None:
    walk = CandleWalk(hole(0, 3), BINANCE)
    walk.ask()
    step = walk.take([minute(2), minute(3)], LATE_US)
    assert step.claims == [hole(2, 3)]
    assert [(one.gap, one.reason) for one in step.lost] == [(hole(0, 2), "venue has no history")]


def test_a_minute_left_out_is_empty_when_a_later_row_proves_it() -> None:
    walk = CandleWalk(hole(0, 5), UNKNOWN_VENUE)
    assert walk.ask() == (NOON_US - MINUTE_US, None)
    step = walk.take([minute(0, None), minute(2, None)], LATE_US)
    assert step.claims == [hole(0, 3)]
    assert not step.is_done
    assert walk.ask().since_us == NOON_US + 2 * MINUTE_US
    assert walk.take([minute(2, None)], LATE_US).doubt == f"rows up to {NOON_US + 2 * MINUTE_US} us only"
    assert walk.take([minute(2, None), minute(7, None)], LATE_US).claims == [hole(3, 5)]


def test_a_minute_that_is_not_over_is_not_taken() -> None:
    walk = CandleWalk(hole(0, 2), BINANCE)
    walk.ask()
    step = walk.take([minute(0), minute(1)], NOON_US + MINUTE_US + PROOF_LAG_US)
    assert step.claims == [hole(0, 1)]
    assert not step.is_done


@pytest.mark.parametrize("rows", [[], [minute(-1)]])
def test_candles_that_prove_nothing_are_lost_in_the_end(rows: list[Candle]) -> None:
    walk = CandleWalk(hole(0, 2), BINANCE)
    for _ in range(DOUBTS_ALLOWED - 1):
        walk.ask()
        assert walk.take(rows, LATE_US).doubt
    walk.ask()
    step = walk.take(rows, LATE_US)
    assert step.is_done
    assert [one.gap for one in step.lost] == [hole(0, 2)]
    assert step.claims == []


def test_an_empty_answer_is_never_no_trades() -> None:
    walk = TradeWalk((NOON_US, NOON_US + 10 * SECOND_US), BINANCE, near=trade(1, -1))
    for _ in range(DOUBTS_ALLOWED):
        walk.ask()
        step = walk.take(TradePage([], None), LATE_US)
        assert step.claims == []
        assert step.doubt == "no rows at all"
    assert step.is_done
    assert [one.gap for one in step.lost] == [(NOON_US, NOON_US + 10 * SECOND_US)]


def test_nothing_after_a_known_row_proves_no_trades_when_asked_late_enough() -> None:
    upper = NOON_US + 10 * SECOND_US
    for asked_us, claims in ((upper + PROOF_LAG_US, [(NOON_US, upper)]), (upper + PROOF_LAG_US - 1, [])):
        walk = TradeWalk((NOON_US, upper), BINANCE, near=trade(1, -1))
        assert walk.ask().from_id == "1"
        step = walk.take(TradePage([trade(1, -1)], None), asked_us)
        assert step.is_done
        assert step.claims == claims


def test_a_page_is_claimed_up_to_its_last_moment_and_not_with_it() -> None:
    walk = TradeWalk((NOON_US, NOON_US + 60 * SECOND_US), BINANCE, near=trade(1, -1))
    walk.ask()
    rows = [trade(1, -1), *(trade(number, number / 1000) for number in range(2, 1001))]
    step = walk.take(TradePage(rows, "1001"), LATE_US)
    assert step.claims == [(NOON_US, NOON_US + SECOND_US)]
    assert not step.is_done
    assert walk.ask().from_id == "1000"


def test_the_last_page_asks_for_as_many_rows_as_are_missing() -> None:
    walk = TradeWalk((NOON_US, NOON_US + 60 * SECOND_US), BINANCE, near=trade(1, -1), far=trade(300, 61))
    assert walk.ask().limit == 304
    near_by = TradeWalk((NOON_US, NOON_US + SECOND_US), BINANCE, near=trade(1, -1), far=trade(3, 2))
    assert near_by.ask().limit == 50


def test_a_jump_of_ids_stays_out_of_the_claims_with_evidence() -> None:
    walk = TradeWalk((NOON_US, NOON_US + 60 * SECOND_US), BINANCE, near=trade(1, -1))
    walk.ask()
    step = walk.take(TradePage([trade(1, -1), trade(2, 5), trade(6, 9), trade(7, 60)], None), LATE_US)
    assert step.claims == [(NOON_US, trade(2, 5).ts_us), (trade(6, 9).ts_us + 1, NOON_US + 60 * SECOND_US)]
    (lost,) = step.lost
    assert lost == Lost((trade(2, 5).ts_us, trade(6, 9).ts_us + 1), "3-5", "trades from 1, limit 1000", "2 and then 6")


def test_ids_missing_where_the_stretch_begins_are_found_although_nothing_below_is_known() -> None:
    walk = TradeWalk((NOON_US, NOON_US + 600 * SECOND_US), BINANCE, trusts_lower=True)
    assert walk.ask() == (None, NOON_US - 10 * SECOND_US, 1000)
    rows = [trade(9, 100), trade(10, 200), trade(11, 601)]
    assert walk.take(TradePage(rows, None), LATE_US) == ([], [], [], False, None), "nothing from before the stretch"
    assert walk.ask() == (None, NOON_US - 2515 * SECOND_US, 50), "ten trades further back"
    step = walk.take(TradePage([trade(5, -1700), trade(6, -20), *rows], None), LATE_US)
    assert step.is_done
    assert step.claims == [(trade(9, 100).ts_us + 1, NOON_US + 600 * SECOND_US)]
    assert [(one.gap, one.ids) for one in step.lost] == [((trade(6, -20).ts_us, trade(9, 100).ts_us + 1), "7-8")]


@pytest.mark.parametrize(("first", "questions"), [(1, 1), (9, 4)])
def test_a_stretch_that_nothing_lies_before_is_believed_after_a_few_questions(first: int, questions: int) -> None:
    walk = TradeWalk((NOON_US, NOON_US + 600 * SECOND_US), BINANCE, trusts_lower=True)
    for _ in range(questions):
        walk.ask()
        step = walk.take(TradePage([trade(first, 100), trade(first + 1, 601)], None), LATE_US)
    assert step.is_done
    assert step.claims == [(NOON_US, NOON_US + 600 * SECOND_US)]
    assert not step.lost


def test_a_venue_with_recent_trades_only_is_believed_for_what_it_gives() -> None:
    walk = TradeWalk((NOON_US, NOON_US + 60 * SECOND_US), UNKNOWN_VENUE, trusts_lower=True)
    walk.ask()
    step = walk.take(TradePage([trade(1, 30), trade(2, 61)], None), LATE_US)
    assert step.claims == [(trade(1, 30).ts_us + 1, NOON_US + 60 * SECOND_US)]
    assert [(one.gap, one.reason) for one in step.lost] == [((NOON_US, trade(1, 30).ts_us + 1), "venue has no history")]


def test_what_is_lost_is_asked_for_soon_and_later_rarely() -> None:
    gaps, lost, whole = LostGaps(), Lost((5, 9), "3", "this", "that"), (0, 20)
    assert gaps.found([lost], whole, now_s=100.0) == []
    assert gaps.set_aside(101.0) == [(5, 9)]
    assert gaps.set_aside(100.0 + pause_after_s(1)) == []
    assert gaps.found([lost], (5, 9), now_s=102.0) == []
    (record,) = gaps.found([lost], (5, 9), now_s=110.0)
    assert (record.gap, record.ids, record.attempts, record.new_attempts) == ((5, 9), "3", ATTEMPTS, ATTEMPTS)
    assert record.next_in_s >= 6 * 3600
    (again,) = gaps.found([lost], (5, 9), now_s=110.0 + record.next_in_s)
    assert (again.attempts, again.new_attempts) == (ATTEMPTS + 1, 1)
    assert pause_after_s(50) == 7 * 86_400
    gaps.settle([(0, 20)])
    assert gaps.set_aside(110.0) == []


def test_losses_of_one_moment_are_told_as_one() -> None:
    gaps = LostGaps()
    for _ in range(ATTEMPTS):
        records = gaps.found([Lost((5, 9), "3", "this", "x"), Lost((8, 12), "5", "this", "y")], (0, 20), 0.0)
    assert [(record.gap, record.ids, record.answered) for record in records] == [((5, 12), "3, 5", "x; y")]


def test_what_an_earlier_process_recorded_is_left_alone_until_its_time() -> None:
    gaps, earlier = LostGaps(), LostGaps()
    for _ in range(ATTEMPTS):
        records = earlier.found([Lost((5, 9), "3", "this", "that")], (0, 20), 0.0)
    gaps.load(records, now_s=1000.0)
    assert gaps.set_aside(1001.0) == [(5, 9)]
    assert gaps.set_aside(1000.0 + records[0].next_in_s) == []
