"""What repair has handed to the store and is not committed yet. Pure; times are of the monotonic clock.

What is fetched and not committed is fetched again after a crash, so it must stay little. Only what repair itself has
handed over counts, however much live data waits beside it: rows are committed in the order in which they were added,
so those that were added before the oldest one that still waits are stored. A database that is far behind is not given
more to do.
"""

from collections import deque

# Less than a page of most venues, so the next waits for the COMMIT of the one before: five kills on the way through a
# history of days fetch a few rows in a hundred again.
UNSTORED_ROWS = 900
BEHIND_S = 5.0


class Handed:
    """Of one scheduler."""

    def __init__(self) -> None:
        self._pages: deque[tuple[float, int]] = deque()

    def add(self, rows: int, now_s: float) -> None:
        """So many rows were given to the store."""
        self._pages.append((now_s, rows))

    def is_much(self, waiting_since_s: float | None) -> bool:
        """Whether the next page had better wait for the COMMIT of those before. `waiting_since_s`: of the oldest row
        of all that waits, live ones included; None: all is committed."""
        while self._pages and (waiting_since_s is None or self._pages[0][0] < waiting_since_s):
            self._pages.popleft()
        return sum(rows for _, rows in self._pages) > UNSTORED_ROWS


def is_behind(waiting_since_s: float | None, now_s: float) -> bool:
    """Whether the database has enough to do without repair."""
    return waiting_since_s is not None and now_s - waiting_since_s > BEHIND_S
