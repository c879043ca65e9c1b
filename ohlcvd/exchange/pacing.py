"""When to reconnect, and when a silent connection or subscription is dead. Pure: time and randomness are arguments."""

from collections import deque

from ohlcvd.exchange.venue import Silence

# A connection that does not come about is tried again within this, for the first minutes: an outage of seconds is
# repaired soon after its end. Venues count attempts by address (Binance 300 in five minutes, Kraken some 150 in ten):
# so the longer it lasts the rarer they are, a twentieth of its length and not more than LONGEST_PAUSE_S apart, and each
# of several connections tries that much less often.
QUICK_PAUSE_S = 5.0
LONGEST_PAUSE_S = 30.0
_PART_OF_OUTAGE = 20.0
SPREAD_S = 0.1  # between connections of one process to one exchange that open at the same moment
_LONGEST_REFUSED_S = 300.0
_STABLE_S = 10.0
_FLOW_WINDOW_S = 60.0
_FLOW_KNOWN_AFTER_S = 3.0
_GAPS = 15  # data is missed when it stays away this many mean gaps: a chance of 3e-7 for random arrivals


# A subscription is suspected after so many times its mean gap, which counts as FLOW_GAP_S at least; FLOW_MOMENTS gaps
# have to be known.
FLOW_GAPS = 30.0
FLOW_GAP_S = 1.0
FLOW_MOMENTS = 20
_MOST_GAPS = 1_000.0


class Backoff:
    """The pause before the next connection: hardly any after a stable one, then random between 0 and a growing limit.

    The randomness keeps the connections of many processes, cut at the same moment, from coming back at the same moment.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._since_s = 0.0
        self._away_s = 0.0

    def ended(self, was_live: bool, lived_s: float, now_s: float) -> None:
        """A connection ended. One that was live but short counts as one failure, however often it happens."""
        if was_live:
            self.failures = 0 if lived_s >= _STABLE_S else 1
            self._since_s = now_s
        else:
            if self.failures == 0:
                self._since_s = now_s
            self.failures += 1
        self._away_s = now_s - self._since_s

    def pause_s(self, chance: float, together: int = 1, *, spread_s: float = SPREAD_S) -> float:
        """`chance` is in [0, 1). So many connections may have ended `together`: even at once they come one by one,
        `spread_s` apart."""
        if self.failures == 0:
            return chance * spread_s * (together - 1)
        bound_s = together * max(QUICK_PAUSE_S, self._away_s / _PART_OF_OUTAGE)
        return chance * min(LONGEST_PAUSE_S, bound_s, 0.25 * 2.0 ** min(self.failures, 10))


def refused_pause_s(refusals: int, chance: float) -> float:
    """Until a subscription refused so many times is asked again; `chance` is in [0, 1).

    A market that is parked at the venue costs one request in five minutes.
    """
    return min(_LONGEST_REFUSED_S, 2.0 ** min(refusals, 10)) * (0.75 + chance / 4)


class SilenceWatch:
    """Judges one connection by the rules in `Silence`, looked at once in a while ("tick")."""

    def __init__(self, rule: Silence, now_s: float) -> None:
        self._rule = rule
        self._began_s = now_s
        self._data_s = now_s
        self._data_frames = 0
        self._with_data: deque[float] = deque()  # ticks since which there was data

    def fault(self, now_s: float, data_frames: int, last_frame_s: float, excused_until_s: float) -> str | None:
        """Why the connection is dead, or None. `excused_until_s`: until then we did not read ourselves."""
        if data_frames != self._data_frames:
            self._data_frames, self._data_s = data_frames, now_s
            self._with_data.append(now_s)
            while now_s - self._with_data[0] > _FLOW_WINDOW_S:
                self._began_s = self._with_data.popleft()
        silent_s = now_s - max(last_frame_s, excused_until_s)
        if silent_s > self._rule.any_s:
            return f"nothing received for {silent_s:.1f} s"
        no_data_s = now_s - max(self._data_s, excused_until_s)
        if no_data_s > self._data_limit_s():
            return f"no data received for {no_data_s:.1f} s"
        return None

    def _data_limit_s(self) -> float:
        if self._rule.quiet_s is None:
            return self._rule.data_s
        flow_s = self._data_s - self._began_s
        if flow_s < _FLOW_KNOWN_AFTER_S:
            return self._rule.quiet_s
        # By ticks, not by frames: a thousand trades at once say nothing about when the next one is due.
        return min(self._rule.quiet_s, max(self._rule.data_s, _GAPS * flow_s / len(self._with_data)))


class FlowWatch:
    """Whether one subscription has fallen silent while its connection goes on: by its own usual gaps between data.

    A quiet market has long gaps, so nothing is said before many of them are known. An alarm costs a new subscription
    and a look into the venue's history; after one, it takes twice as long to the next.
    """

    __slots__ = ("_last_s", "_mean_s", "_moments", "_patience")

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._mean_s = 0.0
        self._moments = 0
        self._patience = FLOW_GAPS

    def data(self, now_s: float) -> None:
        """There was some. What comes within half a second is one moment."""
        if self._last_s is None:
            self._last_s = now_s
            return
        gap_s = now_s - self._last_s
        if gap_s < 0.5:
            return
        self._last_s = now_s
        self._moments += 1
        self._mean_s += (gap_s - self._mean_s) / min(self._moments, 32)

    def silent_s(self, now_s: float, excused_until_s: float) -> float | None:
        """For how long it has been silent, when that is too long; None while all is well."""
        if self._last_s is None or self._moments < FLOW_MOMENTS:
            return None
        silent_s = now_s - max(self._last_s, excused_until_s)
        return silent_s if silent_s > self._patience * max(FLOW_GAP_S, self._mean_s) else None

    def resumed(self, now_s: float) -> None:
        """It was subscribed anew: the silence begins again."""
        if self._last_s is not None:
            self._last_s = now_s

    def alarmed(self) -> None:
        """An alarm was raised."""
        self._patience = min(_MOST_GAPS, self._patience * 2.0)
