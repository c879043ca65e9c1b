"""What time it is at the venue.

An invented market runs with this machine's clock. A replay runs with the recording's: it stands still until the first
client has subscribed, then runs at a speed of its own, and never passes a frame that has not been sent yet.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Nanoseconds since 1970-01-01 UTC, as the venue sees them."""

    def now_ns(self) -> int: ...


class SystemClock:
    """This machine's time, plus what a fault adds to it."""

    def __init__(self) -> None:
        self.offset_ns = 0

    def now_ns(self) -> int:
        return time.time_ns() + self.offset_ns


class ReplayClock:
    """Stands at start_ns until run(); afterwards `speed` seconds pass in one, up to the `ceiling_ns` of the moment."""

    def __init__(self, start_ns: int, speed: float) -> None:
        self.start_ns = start_ns
        self.speed = speed
        self.ceiling_ns: int | None = None  # the next frame's time; None when all are sent
        self._anchor_ns = start_ns
        self._anchor_mono_ns: int | None = None

    @property
    def running(self) -> bool:
        return self._anchor_mono_ns is not None

    def run(self) -> None:
        if self._anchor_mono_ns is None:
            self._anchor_mono_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        paced = self._paced_ns()
        return paced if self.ceiling_ns is None else min(paced, max(self.ceiling_ns, self._anchor_ns))

    def wait_s(self, ts_ns: int) -> float:
        """How long until the clock shows ts_ns; 0 or less when it does."""
        return (ts_ns - self._paced_ns()) / self.speed / 1e9

    def hold(self) -> None:
        """Forgets the time that was lost while a client could not take more, instead of racing to catch up."""
        now_ns = self.now_ns()
        self._anchor_ns, self._anchor_mono_ns = now_ns, time.monotonic_ns()

    def _paced_ns(self) -> int:
        if self._anchor_mono_ns is None:
            return self._anchor_ns
        return self._anchor_ns + int((time.monotonic_ns() - self._anchor_mono_ns) * self.speed)
