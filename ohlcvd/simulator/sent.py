"""Which trades have gone out, as ranges of ids. Pure."""

from bisect import bisect_right


class IdRanges:
    """A set of integers kept as disjoint, sorted, half-open ranges."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Adds start <= id < end."""
        if start >= end:
            return
        if self._ends and self._starts[-1] <= start <= self._ends[-1]:  # the common case: it goes on
            self._ends[-1] = max(self._ends[-1], end)
            return
        first = bisect_right(self._starts, start)
        if first and self._ends[first - 1] >= start:
            first -= 1
            start = self._starts[first]
        after = first
        while after < len(self._starts) and self._starts[after] <= end:
            end = max(end, self._ends[after])
            after += 1
        self._starts[first:after] = [start]
        self._ends[first:after] = [end]

    def __iter__(self) -> "zip[tuple[int, int]]":
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        """How many ids."""
        return sum(self._ends) - sum(self._starts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number)
        return at > 0 and number < self._ends[at - 1]

    def without(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of start <= id < end that are not in this set."""
        parts: list[tuple[int, int]] = []
        for have_start, have_end in self:
            if have_end <= start or have_start >= end:
                continue
            if have_start > start:
                parts.append((start, have_start))
            start = have_end
        if start < end:
            parts.append((start, end))
        return parts
