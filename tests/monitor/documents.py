"""What a supervisor and Redis say, for tests of what the monitor makes of it."""

from typing import Any

COUNTERS = {
    "frames": 100, "trades": 50, "candles": 2, "commits": 40, "duplicates": 1, "corrections": 0, "differences": 0,
    "rejected": 0, "quarantined": 0, "reconnects": 0, "requests": 3, "repaired": 1, "unfillable": 0, "backlog": 4,
    "spool_bytes": 0, "streams": 4, "streams_live": 4, "database_up": 1, "redis_up": 1, "lag_us": 8_000,
    "lag_max_us": 41_000, "lag_rows": 50, "lag_total_us": 400_000, "recent_ms": 10_000, "recent_trades": 25,
    "recent_candles": 1, "recent_frames": 60,
}  # fmt: skip


def child(
    name: str, pid: int | None = 11, restarts: int = 0, state: str = "streaming", **counters: int
) -> dict[str, Any]:
    """A child's row in the supervisor's answer."""
    return {
        "name": name,
        "pid": pid,
        "state": state,
        "since": "2026-01-02T03:04:05.000Z",
        "uptime_s": 125.0 if pid else None,
        "restarts": restarts,
        "failures": 0,
        "starts_in_s": None if pid else 1.5,
        "last_exit": None if pid else "killed by SIGKILL",
        "counters": {**COUNTERS, **counters} if pid else {},
        "beat_age_s": 0.4 if pid else None,
    }


def answer(*children: dict[str, Any], pid: int = 7) -> dict[str, Any]:
    """The supervisor's answer to `status`."""
    return {
        "pid": pid,
        "started_at": f"2026-01-02T03:04:0{pid % 10}.000Z",
        "version": "0.1.0",
        "service": "both",
        "children": list(children),
        "servers": [],
    }


def market(**facts: object) -> dict[str, object]:
    """What a child says of one market."""
    return {
        "collecting": True, "down_reason": None, "down_since_us": None, "refused": None, "missing_s": 0, "trades": 9,
        "last_trade_us": 1_767_323_045_000_000, "last_price": "50000.10", "last_candle_us": 1_767_322_980_000_000,
        "received_until_us": 1_767_323_035_000_000, "covered_until_us": 1_767_323_035_000_000, "compared": 57,
        "differences": 0, **facts,
    }  # fmt: skip
