"""When to reconnect, and when a silent connection is dead. Pure: time and randomness are arguments."""

from collections import deque

from ohlcvd.exchange.venue import Silence

_LONGEST_PAUSE_S = 30.0
_STABLE_S = 10.0
_FLOW_WINDOW_S = 60.0
_FLOW_KNOWN_AFTER_S = 3.0
_GAPS = 15  # data is missed when it stays away this many mean gaps: a chance of 3e-7 for random arrivals


class Backoff:
    """The pause before the next connection: none after a stable one, then random between 0 and a doubling limit.

    The randomness keeps the connections of many processes, cut at the same moment, from coming back at the same moment.
    """

    def __init__(self) -> None:
        self.failures = 0

    def ended(self, was_live: bool, lived_s: float) -> None:
        """A connection ended. One that was live but short counts as one failure, however often it happens."""
        if was_live:
            self.failures = 0 if lived_s >= _STABLE_S else 1
        else:
            self.failures += 1

    def pause_s(self, chance: float) -> float:
        """`chance` is in [0, 1)."""
        if self.failures == 0:
            return 0.0
        return chance * min(_LONGEST_PAUSE_S, 0.25 * 2.0 ** min(self.failures, 10))


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
