"""From the wire to the COMMIT: how long rows took. Pure: `now_s` is the monotonic clock.

A frame's rows are given to the writer in the call that reads the frame, so a row's arrival is the moment at which it is
added to a batch. Rows of a page of history count like live ones.
"""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

RECENT_S = 10.0


@dataclass(slots=True)
class Arrivals:
    """When the rows of one batch arrived."""

    rows: int = 0
    total_s: float = 0.0  # the sum of the rows' arrival times
    first_s: float = 0.0

    def add(self, rows: int, now_s: float) -> None:
        """So many rows, just now."""
        if not self.rows:
            self.first_s = now_s
        self.rows += rows
        self.total_s += rows * now_s


class _Committed(NamedTuple):
    at_s: float
    rows: int
    total_us: int
    longest_us: int


class CommitLag:
    """`rows` and `total_us` only grow: their quotient over any stretch is the mean of that stretch."""

    def __init__(self) -> None:
        self.rows = 0
        self.total_us = 0
        self._recent: deque[_Committed] = deque()

    def committed(self, arrivals: Arrivals, now_s: float) -> None:
        """A batch is committed."""
        if not arrivals.rows:
            return
        total_us = round((now_s * arrivals.rows - arrivals.total_s) * 1e6)
        self.rows += arrivals.rows
        self.total_us += total_us
        self._forget(now_s)
        self._recent.append(_Committed(now_s, arrivals.rows, total_us, round((now_s - arrivals.first_s) * 1e6)))

    def recent_us(self, now_s: float) -> tuple[int, int]:
        """The mean and the longest of the rows committed within the last RECENT_S; zeros if there are none."""
        self._forget(now_s)
        rows = sum(one.rows for one in self._recent)
        if not rows:
            return 0, 0
        return round(sum(one.total_us for one in self._recent) / rows), max(one.longest_us for one in self._recent)

    def _forget(self, now_s: float) -> None:
        while self._recent and self._recent[0].at_s < now_s - RECENT_S:
            self._recent.popleft()
