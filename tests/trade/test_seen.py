"""Each id is fresh once, however the frames overlap, and the memory for it is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.market import Trade
from ohlcvd.trade.seen import MOST_STRETCHES, REMEMBERED_IDS, SeenIds, SeenNumbers


def trade(number: int) -> Trade:
    return Trade(number, str(number), "1", "1", "buy")


def fresh(seen: SeenIds | SeenNumbers, *numbers: int) -> list[int]:
    return [int(one.id) for one in seen.fresh([trade(number) for number in numbers])]


@given(st.lists(st.integers(0, 60)))
def test_numbers_are_fresh_once_in_any_order(numbers: list[int]) -> None:
    seen = SeenNumbers()
    assert fresh(seen, *numbers) == list(dict.fromkeys(numbers))
    assert [number for lower, upper in seen.stretches for number in range(lower, upper)] == sorted(set(numbers))
    ends = [end for stretch in seen.stretches for end in stretch]
    assert ends == sorted(set(ends)), "what is next to another is one with it"


def test_only_the_numbers_right_after_the_highest_follow() -> None:
    seen = SeenNumbers()
    assert not seen.follow([trade(5)]), "of a market of which nothing is known"
    assert fresh(seen, 5) == [5]
    assert not seen.follow([trade(7), trade(8)])
    assert not seen.follow([trade(6), trade(8)])
    assert not seen.follow([trade(5), trade(6)])
    assert seen.follow([trade(6), trade(7)])
    assert seen.stretches == [[5, 8]]


def test_a_million_numbers_in_a_row_are_one_stretch() -> None:
    seen = SeenNumbers()
    for start in range(0, 1_000_000, 1000):
        assert len(fresh(seen, *range(start, start + 1000))) == 1000
    assert seen.stretches == [[0, 1_000_000]]
    assert fresh(seen, 0, 500_000, 999_999, 1_000_000) == [1_000_000]


def test_of_many_holes_the_latest_stretches_are_known() -> None:
    seen = SeenNumbers()
    numbers = range(0, 20 * MOST_STRETCHES, 2)
    assert fresh(seen, *numbers) == [*numbers]
    assert len(seen.stretches) == MOST_STRETCHES
    assert fresh(seen, *numbers[-MOST_STRETCHES:]) == []


def test_of_other_ids_the_latest_are_known_and_no_more_than_twice_as_many() -> None:
    seen = SeenIds()
    for number in range(5 * REMEMBERED_IDS):
        assert fresh(seen, number, number) == [number]
        assert len(seen._ids) + len(seen._before) <= 2 * REMEMBERED_IDS
    assert fresh(seen, *range(4 * REMEMBERED_IDS, 5 * REMEMBERED_IDS)) == []
