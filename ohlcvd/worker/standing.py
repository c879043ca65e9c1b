"""What a child says of itself beside its counters: its pace, how each market stands; and how often. Pure: times are
arguments.

A market is collected while every stream that is wanted of it is subscribed and unbroken. Since when and why it is not,
and until when nothing of it was missed, are kept here, so that whoever asks later still learns it.
"""

from collections import deque
from collections.abc import Mapping

from ohlcvd.exchange.sink import Trouble

RECENT_S = 10.0
# Longer than the time after which a silent connection is found dead: until then it may have missed something already.
CERTAIN_US = 10_000_000


class Pace:
    """Counters over the last RECENT_S seconds: `recent_<name>`, and `recent_ms`, how long that stretch is."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._past: deque[tuple[float, tuple[int, ...]]] = deque()

    def note(self, counters: Mapping[str, int], now_s: float) -> dict[str, int]:
        """The pace up to now. Called about once a second."""
        values = tuple(counters[name] for name in self._names)
        self._past.append((now_s, values))
        while len(self._past) > 2 and self._past[1][0] <= now_s - RECENT_S:
            self._past.popleft()
        then_s, before = self._past[0]
        moved = {f"recent_{name}": new - old for name, new, old in zip(self._names, values, before, strict=True)}
        return {"recent_ms": round((now_s - then_s) * 1000), **moved}


class Retelling:
    """Whether it is time to tell what is known: at once when it is new, else only at every so many beats."""

    def __init__(self, beats: int) -> None:
        self._every = beats
        self._told: object = None
        self._beats = 0

    def is_due(self, known: object) -> bool:
        """Called at each beat; whoever asks tells it then."""
        self._beats += 1
        if known == self._told and self._beats < self._every:
            return False
        self._told, self._beats = known, 0
        return True


class Standing:
    """Since when each market is not collected, and until when it was received whole."""

    def __init__(self) -> None:
        self._down_since_us: dict[str, int] = {}
        self._received_until_us: dict[str, int] = {}

    def facts(self, symbol: str, why_not: str | None, now_us: int, venue_now_us: int | None) -> dict[str, object]:
        """`why_not` is None while the market is collected. `now_us` is the local clock, seen about once a second."""
        if why_not is None:
            self._down_since_us.pop(symbol, None)
            if venue_now_us is not None:
                self._received_until_us[symbol] = venue_now_us - CERTAIN_US
            since_us = None
        else:
            since_us = self._down_since_us.setdefault(symbol, now_us)
        return {
            "collecting": why_not is None,
            "down_reason": why_not,
            "down_since_us": since_us,
            "received_until_us": self._received_until_us.get(symbol),
        }


def trouble_of(troubles: Mapping[object, Trouble]) -> dict[str, object] | None:
    """What is wrong with the connections: the reason of the last, since the first, and the next try of any."""
    if not troubles:
        return None
    newest = max(troubles.values(), key=lambda trouble: trouble.retry_us)
    return {
        "reason": newest.reason,
        "connections": len(troubles),
        "since_us": min(trouble.since_us for trouble in troubles.values()),
        "retry_us": min(trouble.retry_us for trouble in troubles.values()),
    }


def summary(
    now: Mapping[str, int], before: Mapping[str, int], missing_s: int, minutes: int
) -> tuple[str, dict[str, object]]:
    """The message and the fields of the line that says how the last minutes were. Both are a child's counters."""

    def grown(name: str) -> int:
        return now.get(name, 0) - before.get(name, 0)

    rows = grown("lag_rows")
    fields: dict[str, object] = {
        name: grown(name)
        for name in ("trades", "candles", "frames", "reconnects", "rejected", "repaired", "differences")
    }
    fields |= {
        "lag_ms": round(grown("lag_total_us") / rows / 1000, 1) if rows else None,
        "streams": now.get("streams", 0),
        "streams_live": now.get("streams_live", 0),
        "missing_s": missing_s,
        "backlog": now.get("backlog", 0),
    }
    time = "the last minute" if minutes == 1 else f"the last {minutes} minutes"
    return f"collected {fields['trades']} trades and {fields['candles']} candles in {time}", fields
