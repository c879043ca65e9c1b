"""Whether the venue's history answers at all. Pure: the time is an argument.

One question that fails says something about its market; many, over a long time, with no right answer between them, are
the venue's own trouble. From then on what is missing is told to be so because of it, again every TELL_AGAIN_S, and no
market waits long for itself: the venue as a whole is asked now and then, and the first right answer ends it all.
"""

from typing import NamedTuple

# A venue that has answered nothing for so long is said to be out of order.
OUTAGE_S = 60.0
TELL_AGAIN_S = 60.0
# After so many failures in a row the venue is left alone, longer each time.
_IN_A_ROW = 4
# What an outage of seconds left missing is not kept waiting: a longer rest is at most a twentieth of the outage.
_QUICK_REST_S = 5.0
_LONGEST_REST_S = 30.0
_PART_OF_OUTAGE = 20.0


class Silence(NamedTuple):
    """An outage, as it is recorded."""

    since_us: int  # the first question that failed
    last_us: int
    attempts: int
    asked: str
    answered: str
    next_in_s: float


class VenueHealth:
    """Fed with how every question went. Times of day (`now_us`) are only told on."""

    def __init__(self) -> None:
        self.is_told = True  # an outage may be on record, by this process or the one before
        self._since_s = 0.0
        self._told_s = float("-inf")
        self._silence: Silence | None = None

    def answered(self) -> bool:
        """A right answer. Returns whether it ends a time of failures of the venue as a whole."""
        ends = self._silence is not None and self._silence.attempts >= _IN_A_ROW
        self._silence = None
        return ends

    def failed(self, asked: str, answered: str, now_s: float, now_us: int) -> float:
        """No right answer. Returns for how long the venue is not to be asked anything."""
        before = self._silence
        if before is None:
            self._since_s = now_s
        attempts = 1 if before is None else before.attempts + 1
        bound_s = min(_LONGEST_REST_S, max(_QUICK_REST_S, (now_s - self._since_s) / _PART_OF_OUTAGE))
        rest_s = 0.0 if attempts < _IN_A_ROW else min(bound_s, 2.0 ** min(attempts - _IN_A_ROW, 10))
        since_us = now_us if before is None else before.since_us
        self._silence = Silence(since_us, now_us, attempts, asked, answered, rest_s)
        return rest_s

    def to_tell(self, now_s: float) -> Silence | None:
        """What is to be recorded now of what is missing."""
        silence = self._silence
        if silence is None or silence.attempts < _IN_A_ROW or now_s < self._since_s + OUTAGE_S:
            return None
        if self.is_told and now_s < self._told_s + TELL_AGAIN_S:
            return None
        self.is_told, self._told_s = True, now_s
        return silence
