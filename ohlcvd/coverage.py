"""Which stretches of time are known complete: sets of half-open ranges of microseconds. Pure.

A set is a list of `(lower, upper)` with lower < upper, sorted, none touching another (what `normalise` gives): the same
form that PostgreSQL's multirange has, so that two equal sets are equal lists. Every function takes sets in that form
and returns a new one; `normalise`, `add` and `missing` also take ranges as they come, empty and overlapping ones too.

What everything hangs on: missing = wanted - covered.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

Range = tuple[int, int]


def normalise(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, empty ones dropped, overlapping and adjacent ones joined. ValueError where one ends too early."""
    result: list[Range] = []
    for lower, upper in sorted(ranges):
        if upper < lower:
            raise ValueError(f"range ends before it begins: [{lower}, {upper})")
        if upper == lower:
            continue
        if result and lower <= result[-1][1]:
            result[-1] = (result[-1][0], max(upper, result[-1][1]))
        else:
            result.append((lower, upper))
    return result


def add(covered: Sequence[Range], *ranges: Range) -> list[Range]:
    """`covered` and all of `ranges`."""
    return normalise([*covered, *ranges])


def subtract(covered: Sequence[Range], removed: Sequence[Range]) -> list[Range]:
    """What is in `covered` and not in `removed`."""
    result: list[Range] = []
    holes = iter(removed)
    hole = next(holes, None)
    for lower, upper in covered:
        at = lower
        while hole is not None and hole[1] <= at:
            hole = next(holes, None)
        while hole is not None and hole[0] < upper:
            if at < hole[0]:
                result.append((at, hole[0]))
            at = hole[1]
            if at >= upper:
                break  # this hole may reach into the next range: keep it
            hole = next(holes, None)
        if at < upper:
            result.append((at, upper))
    return result


def intersect(one: Sequence[Range], other: Sequence[Range]) -> list[Range]:
    """What is in both."""
    return subtract(one, subtract(one, other))


def contains(covered: Sequence[Range], lower: int, upper: int) -> bool:
    """Whether every moment of [lower, upper) is in `covered`; true of an empty range."""
    if lower >= upper:
        return True
    i = bisect_right(covered, lower, key=lambda r: r[0]) - 1
    return i >= 0 and upper <= covered[i][1]


def missing(wanted: Iterable[Range], covered: Sequence[Range]) -> list[Range]:
    """What is wanted and not covered, oldest first."""
    return subtract(normalise(wanted), covered)


def duration(ranges: Sequence[Range]) -> int:
    """Microseconds in all."""
    return sum(upper - lower for lower, upper in ranges)
