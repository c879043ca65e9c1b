"""IdRanges against a plain set."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.simulator.sent import IdRanges

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=30)


@given(RANGES, st.integers(0, 70), st.integers(0, 70))
def test_ranges_are_a_set(parts: list[tuple[int, int]], start: int, end: int) -> None:
    ranges, model = IdRanges(), set[int]()
    for first, count in parts:
        ranges.add(first, first + count)
        model |= set(range(first, first + count))
    assert [number for part in ranges for number in range(*part)] == sorted(model)
    assert len(ranges) == len(model)
    assert all((number in ranges) == (number in model) for number in range(80))
    without = [number for part in ranges.without(start, end) for number in range(*part)]
    assert without == [number for number in range(start, end) if number not in model]


@given(RANGES)
def test_ranges_never_touch(parts: list[tuple[int, int]]) -> None:
    ranges = IdRanges()
    for first, count in parts:
        ranges.add(first, first + count)
    kept = list(ranges)
    assert all(one[1] < two[0] for one, two in pairwise(kept))
