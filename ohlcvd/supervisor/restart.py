"""When a process that ended may start again. Pure: `now` is monotonic seconds, chance is passed in.

The first restart comes within 0.3 s: most deaths are single accidents. Then full jitter: a wait drawn evenly from
0..min(60, 2^n) s after the n-th further failure, for ever. Full jitter, because children that die together (a venue's
maintenance) must not come back together (AWS Architecture Blog, "Exponential Backoff And Jitter"). Two stable minutes
with commits moving end the count. Whatever the waits say, at most 4 crashed children start in any second.
"""

from collections import deque
from collections.abc import Callable

Chance = Callable[[], float]  # 0.0 <= x < 1.0, as random.random

FIRST_RESTART_S = 0.3
LONGEST_WAIT_S = 60.0
STABLE_S = 120.0
COMMITS_MOVING_S = 60.0  # quiet markets too: coverage is committed at least every 20 s

STARTS = 4
# A little over the second that is promised, so that it also holds on the clocks of the children that are started.
STARTS_WINDOW_S = 1.2

MANY_DEATHS = 5
MANY_DEATHS_WINDOW_S = 600.0


def wait_bound_s(failures: int) -> float:
    """The longest wait after this many failures in a row (1 or more)."""
    if failures <= 1:
        return FIRST_RESTART_S * 0.6  # the rest is for noticing the death and for the fork
    return min(LONGEST_WAIT_S, 2.0 ** min(failures - 1, 30))


def wait_s(failures: int, chance: Chance) -> float:
    """How long to wait before the next start, given the number of failures in a row."""
    return chance() * wait_bound_s(failures)


class StartLimiter:
    """At most STARTS starts in any second, over all crashed children together."""

    def __init__(self, starts: int = STARTS, window_s: float = STARTS_WINDOW_S) -> None:
        self._times: deque[float] = deque(maxlen=starts)
        self._window_s = window_s

    def allowed_at(self, now: float) -> float:
        """`now` if a start is allowed now, else the moment from which it will be."""
        if len(self._times) < (self._times.maxlen or 0):
            return now
        return max(now, self._times[0] + self._window_s)

    def record(self, now: float) -> None:
        """A crashed child was started now."""
        self._times.append(now)


class Deaths:
    """The recent deaths of one process, to say once per MANY_DEATHS of them that something is really wrong."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, str]] = deque(maxlen=MANY_DEATHS)
        self._since_alarm = 0

    def record(self, reason: str, now: float) -> list[str] | None:
        """The last reasons, oldest first, if this death is one too many; else None."""
        self._recent.append((now, reason))
        self._since_alarm += 1
        if self._since_alarm < MANY_DEATHS or now - self._recent[0][0] > MANY_DEATHS_WINDOW_S:
            return None
        self._since_alarm = 0
        return [reason for _, reason in self._recent]
