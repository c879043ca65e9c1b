"""Whether a child that beats does its work. Pure: `now` is the parent's monotonic clock.

A beat proves that the loop turns, not that anything comes of it. Three things are looked for, each only while what a
child cannot help is known to be in order, because a restart mends neither an exchange nor a database nor Redis:

- reconnecting in vain: its connections are opened again and again, and in all that time no stream became live. While
  an exchange is away no connection is opened, and waiting is right.
- data stalled: rows wait, nothing is committed, and the database answers (`database_up`).
- its beat in Redis is stale, says the monitor, whose own is not, while Redis answers and others are fresh. A monitor
  that is away says nothing, and every child at once is not the fault of each.
"""

from collections.abc import Collection, Mapping

from ohlcvd.supervisor.heartbeat import Beat, BeatHistory

IN_VAIN_S = 120.0
IN_VAIN_RECONNECTS = 3
STALLED_S = 60.0
STALE_S = 15.0
SETTLED_S = 30.0  # a child younger than this may not have reached Redis yet


class Health:
    """What has been seen of one process."""

    def __init__(self) -> None:
        self._reconnects = 0
        self._in_vain_since: float | None = None  # the first connection of those that came to nothing
        self._in_vain = 0
        self._rows_wait_since: float | None = None

    def judge(self, history: BeatHistory, now: float) -> str | None:
        """After each beat: why the child is unhealthy, or None."""
        beat = history.beat
        if beat is None:
            return None
        return self._reconnects_in_vain(beat, now) or self._is_stalled(beat, history, now)

    def _reconnects_in_vain(self, beat: Beat, now: float) -> str | None:
        before, self._reconnects = self._reconnects, beat.counters.get("reconnects", 0)
        if beat.state != "ready":
            self._in_vain_since, self._in_vain = None, 0
        elif self._reconnects > before:  # several at once count once: an exchange that is back is no failure
            self._in_vain_since = self._in_vain_since if self._in_vain else now
            self._in_vain += 1
        if self._in_vain < IN_VAIN_RECONNECTS or self._in_vain_since is None or now - self._in_vain_since < IN_VAIN_S:
            return None
        return f"it reconnects in vain: {self._in_vain} times in {now - self._in_vain_since:.0f} s, and no stream"

    def _is_stalled(self, beat: Beat, history: BeatHistory, now: float) -> str | None:
        rows = beat.counters.get("backlog", 0)
        if rows == 0 or beat.counters.get("database_up", 0) == 0:
            self._rows_wait_since = None
            return None
        if self._rows_wait_since is None:
            self._rows_wait_since = now
        stalled_s = min(now - self._rows_wait_since, history.unchanged_s("commits", now))
        if stalled_s < STALLED_S:
            return None
        return f"its data is stalled: {rows} rows wait, no commit for {stalled_s:.0f} s, and the database answers"

    def postpone(self, gap_s: float) -> None:
        """The parent was not there for so long: nothing of that counts."""
        if self._in_vain_since is not None:
            self._in_vain_since += gap_s
        if self._rows_wait_since is not None:
            self._rows_wait_since += gap_s


class StaleBeats:
    """For how long the monitor has called each child's beat in Redis stale."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def observe(self, stale: Collection[str], now: float) -> None:
        """The monitor's newest word."""
        self._since = {name: self._since.get(name, now) for name in stale}

    def forget(self) -> None:
        """The monitor is gone, or nobody listened to it: whatever it said is no longer known."""
        self._since.clear()

    def judge(self, ready_at: Mapping[str, float], now: float) -> dict[str, str]:
        """Children that are unhealthy, and why. `ready_at`: every child that is ready or streaming, and since when."""
        if len(ready_at) > 1 and ready_at.keys() <= self._since.keys():
            return {}
        return {
            name: f"its beat in redis is stale for {now - since:.0f} s, says the monitor, and others are not"
            for name, since in self._since.items()
            if now - since >= STALE_S and name in ready_at and now - ready_at[name] >= SETTLED_S
        }
