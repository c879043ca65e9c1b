"""Whose heartbeat in Redis is stale although Redis works. Pure: `now_s` is the monotonic clock.

A child that beats over its pipe but not in Redis has a dead task, and only this finds it. Redis being away, or taking
no writes, must not look like that. So nobody is stale unless somebody's beat is fresh: the monitor's own, written the
same way, or another child's. A beat is fresh while it changes (`beats` counts them, `pid` tells processes apart).
"""

from collections.abc import Collection, Mapping

# A quiet child beats in Redis every third second.
STALE_S = 7.0
# How long a child may take to write its first beat, and everybody after Redis has come back.
GRACE_S = 10.0


class Staleness:
    """Call `judge` once a second."""

    def __init__(self) -> None:
        self._last: dict[str, object] = {}
        self._changed_s: dict[str, float] = {}
        self._since_s: dict[str, float] = {}
        self._answers_since_s: float | None = None

    def judge(
        self, expected: Collection[str], beats: Mapping[str, Mapping[str, object]] | None, now_s: float
    ) -> tuple[str, ...]:
        """The names out of `expected` (children that beat over their pipes) that are stale. `beats` is what Redis
        holds, the monitor's own among them; None when it did not answer."""
        if beats is None:
            self._answers_since_s = None
            return ()
        if self._answers_since_s is None:
            self._answers_since_s = now_s
        for name, beat in beats.items():
            mark = (beat.get("pid"), beat.get("beats"))
            if self._last.get(name) != mark:
                self._last[name], self._changed_s[name] = mark, now_s
        self._since_s = {name: self._since_s.get(name, now_s) for name in expected}
        if now_s - self._answers_since_s < GRACE_S:
            return ()
        stale = [name for name in expected if self._is_stale(name, beats, now_s)]
        if not any(self._is_fresh(name, now_s) for name in beats if name not in stale):
            return ()
        return tuple(sorted(stale))

    def _is_stale(self, name: str, beats: Mapping[str, object], now_s: float) -> bool:
        if now_s - self._since_s[name] < GRACE_S:
            return False
        return name not in beats or not self._is_fresh(name, now_s)

    def _is_fresh(self, name: str, now_s: float) -> bool:
        return now_s - self._changed_s.get(name, -STALE_S) < STALE_S
