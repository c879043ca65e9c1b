"""Ranges against the plainest model there is: a set of integers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.coverage import Range, add, contains, duration, intersect, missing, normalise, subtract

points = st.integers(0, 40)
raw_ranges = st.lists(st.tuples(points, points).map(lambda p: (min(p), max(p))), max_size=8)


def moments(ranges: list[Range]) -> set[int]:
    return {m for lower, upper in ranges for m in range(lower, upper)}


def assert_normal(ranges: list[Range]) -> None:
    assert all(lower < upper for lower, upper in ranges)
    assert all(a[1] < b[0] for a, b in pairwise(ranges))


@given(raw_ranges)
def test_normalise_keeps_every_moment_and_is_canonical(ranges: list[Range]) -> None:
    result = normalise(ranges)
    assert_normal(result)
    assert moments(result) == moments(ranges)
    assert normalise(reversed(ranges)) == result
    assert normalise(result) == result
    assert duration(result) == len(moments(ranges))


@given(raw_ranges, raw_ranges)
def test_operations_are_those_of_sets(one: list[Range], other: list[Range]) -> None:
    a, b = normalise(one), normalise(other)
    for result, model in (
        (add(a, *other), moments(a) | moments(b)),
        (subtract(a, b), moments(a) - moments(b)),
        (intersect(a, b), moments(a) & moments(b)),
        (missing(one, b), moments(a) - moments(b)),
    ):
        assert_normal(result)
        assert moments(result) == model


@given(raw_ranges, points, points)
def test_contains_means_every_moment(ranges: list[Range], lower: int, upper: int) -> None:
    assert contains(normalise(ranges), lower, upper) == (set(range(lower, upper)) <= moments(ranges))


@given(raw_ranges, raw_ranges)
def test_what_is_missing_completes_the_coverage(wanted: list[Range], covered: list[Range]) -> None:
    have = normalise(covered)
    lacks = missing(wanted, have)
    assert intersect(lacks, have) == []
    assert missing(wanted, add(have, *lacks)) == []


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        normalise([(5, 3)])
