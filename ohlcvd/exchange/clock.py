"""What time it is at the venue, from what the venue itself says. Pure: the monotonic clock is an argument.

The venue's clock, not ours, decides when a minute has ended there. Every observed time (a trade's, an
acknowledgement's, a pong's, an answer to "what time is it") is a *lower bound* of the venue's present: it was
that time there before the message travelled. So the best estimate is the largest of all bounds, each moved on by the
monotonic time since it was observed, and the estimate never goes back. A replay of recorded data at a thousand times
its speed works too: its event times run ahead of the monotonic clock and each one moves the estimate forward.
"""


class VenueClock:
    """The venue's present in microseconds, as a lower bound; never goes back."""

    def __init__(self) -> None:
        self._venue_us: int | None = None
        self._mono_s = 0.0
        self.heard_s = float("-inf")  # when the venue last spoke of its time, by the monotonic clock

    def observe(self, venue_us: int, mono_s: float) -> None:
        """The venue spoke of `venue_us` at the monotonic time `mono_s`. An older time than known changes nothing."""
        self.heard_s = max(self.heard_s, mono_s)
        known_us = self.now_us(mono_s)
        if known_us is None or venue_us > known_us:
            self._venue_us = venue_us
            self._mono_s = mono_s

    def now_us(self, mono_s: float) -> int | None:
        """The venue's present at the monotonic time `mono_s`, or None before the first observation."""
        if self._venue_us is None:
            return None
        return self._venue_us + max(0, int((mono_s - self._mono_s) * 1_000_000))
