"""What `status` knows, as plain typed values. Pure: puts together what the lock, the supervisor and Redis said.

`status --json` and the monitor's `/status` are `StatusReport.as_dict()`. The fields of that document stay; new ones may
come. Times named `*_us` are microseconds since 1970, all others are ISO, UTC.

    state, exit_code  running, died, not running, unknown; the code of the `status` command
    pid, started_at, version, service, memory_bytes     of the supervisor
    at                when this was put together
    healthy           whether `problems` is empty
    problems          what is not well: subject, what, since, reason, action, next_try
    not_collecting    markets that are not being collected: exchange, symbol (null: all of them), since, reason
    children          name, pid, state, since, uptime_s, restarts, failures, starts_in_s, last_exit, counters,
                      beat_age_s, memory_bytes, trades_per_s, candles_per_s, frames_per_s, lag_ms and lag_max_ms (from
                      wire to COMMIT: mean and longest of the last 10 s), trouble (reason, connections, since_us,
                      retry_us; null while every connection is there)
    monitor           the same of the monitoring child, or null
    servers           embedded PostgreSQL and Valkey: name, pid, state, since, uptime_s, restarts, last_exit, address
    markets           exchange, symbol, child, collecting, down_since_us, down_reason, refused, parked (why nobody can
                      collect it), trades, last_trade_us, last_price, last_candle_us (its open time), corrections,
                      missing_s (seconds wanted and not known complete), compared and differences (minutes held against
                      their trades, and those that differ), covered_until_us (stored and complete), received_until_us
                      (nothing missed on the live streams)
    notes, addresses
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from ohlcvd.errors import Exit
from ohlcvd.problems import Idle, Problem, idle_markets, problems_of
from ohlcvd.supervisor.lock import LockState

MONITOR = "monitor"  # the child that collects nothing

Running = Literal["running", "died", "not running", "unknown"]

# The codes of the Linux Standard Base for init scripts' `status`.
_EXIT: dict[Running, int] = {
    "running": Exit.OK,
    "died": Exit.NO,
    "not running": Exit.NOT_RUNNING,
    "unknown": Exit.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One child. `beat_age_s` is None before its first beat, `uptime_s` while there is no process."""

    name: str
    pid: int | None
    state: str
    since: str
    uptime_s: float | None
    restarts: int
    failures: int
    starts_in_s: float | None
    last_exit: str | None
    counters: dict[str, int]
    beat_age_s: float | None
    memory_bytes: int | None = None
    trades_per_s: float | None = None
    candles_per_s: float | None = None
    frames_per_s: float | None = None
    lag_ms: float | None = None
    lag_max_ms: float | None = None
    trouble: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One embedded server."""

    name: str
    pid: int | None
    state: str
    since: str
    uptime_s: float | None
    restarts: int
    last_exit: str | None
    address: str


@dataclass(frozen=True, slots=True)
class MarketStatus:
    """One market as its child reported it; `facts` is what the child wrote."""

    child: str
    exchange: str
    symbol: str
    facts: dict[str, object]

    @property
    def is_parked(self) -> bool:
        """Whether it is wanted, and not traded any more: nobody can collect it."""
        return bool(self.facts.get("parked"))

    @property
    def is_collected(self) -> bool:
        """Whether all its streams are subscribed and unbroken, as its child said."""
        return self.facts.get("collecting") is True


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Everything. `exit_code` is that of the `status` command."""

    state: Running
    exit_code: int
    pid: int | None
    started_at: str | None
    version: str | None
    service: str | None
    children: tuple[ChildStatus, ...] = ()
    servers: tuple[ServerStatus, ...] = ()
    markets: tuple[MarketStatus, ...] = ()
    notes: tuple[str, ...] = ()
    addresses: dict[str, str] = field(default_factory=dict)
    at: str | None = None
    memory_bytes: int | None = None
    monitor: ChildStatus | None = None
    problems: tuple[Problem, ...] = ()
    not_collecting: tuple[Idle, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON: plain lists, dicts, strings and numbers."""
        document: dict[str, object] = asdict(self)
        document["healthy"] = self.state == "running" and not self.problems
        document["markets"] = [
            {**market.facts, "child": market.child, "exchange": market.exchange, "symbol": market.symbol}
            for market in self.markets
        ]
        return document


def report_of(
    lock: LockState,
    document: Mapping[str, object] | None,
    markets: Mapping[str, Mapping[str, object]],
    notes: Sequence[str],
    *,
    beats: Mapping[str, Mapping[str, object]] | None = None,
    memory: Mapping[int, int | None] | None = None,
    now_us: int = 0,
) -> StatusReport:
    """The report. `document` is the supervisor's answer, None if it gave none; `beats` and `markets` are Redis's;
    `memory` is bytes by pid."""
    notes, memory, at = list(notes), memory or {}, _iso(now_us)
    said = beats or {}
    if document is None:
        state: Running = "unknown" if lock.held else "died" if lock.left_over else "not running"
        if state == "died":
            notes.append("the supervisor died without clearing its lock; `start` works")
        rows = [_child_by_beat(name, beat) for name, beat in said.items()]
    else:
        state = "running"
        rows = [_child(row, said, memory) for row in _rows(document, "children")]
    answer = document or {}
    children = tuple(child for child in rows if child.name != MONITOR)
    servers = tuple(_server(row) for row in _rows(answer, "servers"))
    collected = tuple(
        _market(child, symbol, facts)
        for child, symbols in markets.items()
        for symbol, facts in symbols.items()
        if not _is_unlisted(facts)
    )
    holder = lock.holder
    pid = cast("int | None", answer.get("pid", holder.pid if holder else None))
    return StatusReport(
        state,
        _EXIT[state],
        pid,
        _text(answer.get("started_at", holder.since if holder else None)),
        _text(answer.get("version")),
        _text(answer.get("service")),
        children,
        servers,
        collected,
        (
            *notes,
            *_guarantees(said),
            *(f"ERROR: no exchange that answers lists {symbol}" for symbol in listed_nowhere(markets)),
        ),
        {name: str(answer[name]) for name in ("postgres", "redis") if answer.get(name)},
        at,
        memory.get(pid) if pid is not None else None,
        next((child for child in rows if child.name == MONITOR), None),
        tuple(problems_of(children, servers, collected, now_us)),
        tuple(idle_markets(children, collected)),
    )


def _is_unlisted(facts: object) -> bool:
    return isinstance(facts, Mapping) and bool(facts.get("unlisted"))


def listed_nowhere(markets: Mapping[str, Mapping[str, object]]) -> list[str]:
    """One exchange lists what another does not; what none of them lists is a mistake in the configuration."""
    listed = {symbol for rows in markets.values() for symbol, facts in rows.items() if not _is_unlisted(facts)}
    unlisted = {symbol for rows in markets.values() for symbol, facts in rows.items() if _is_unlisted(facts)}
    return sorted(unlisted - listed)


def _rows(document: Mapping[str, object], key: str) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", document.get(key, []))


def _guarantees(beats: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Children that say that what they collect is proved less well than elsewhere."""
    return [f"{name}: {beat['guarantees']}" for name, beat in sorted(beats.items()) if beat.get("guarantees")]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _iso(time_us: int) -> str:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _child(
    row: Mapping[str, object], beats: Mapping[str, Mapping[str, object]], memory: Mapping[int, int | None]
) -> ChildStatus:
    fields = cast("dict[str, Any]", {name: row.get(name) for name in ChildStatus.__slots__})
    fields["memory_bytes"] = memory.get(fields["pid"])
    if fields["pid"] is not None:
        fields |= _measures(fields["counters"] or {})
        trouble = beats.get(str(fields["name"]), {}).get("trouble")
        fields["trouble"] = trouble if isinstance(trouble, dict) else None
    return ChildStatus(**fields)


def _child_by_beat(name: str, beat: Mapping[str, object]) -> ChildStatus:
    """As far as it is known while the supervisor does not answer."""
    counters = {key: value for key, value in beat.items() if type(value) is int and key != "pid"}
    row = {"name": name, "pid": beat.get("pid"), "state": str(beat.get("state")), "since": "", "restarts": 0}
    return _child({**row, "failures": 0, "counters": counters}, {name: beat}, {})


def _measures(counters: Mapping[str, int]) -> dict[str, float | None]:
    """Rates and lags from the levels of a beat; None where it does not have them."""
    recent_s = counters.get("recent_ms", 0) / 1000
    measures: dict[str, float | None] = {}
    for name in ("trades", "candles", "frames"):
        moved = counters.get(f"recent_{name}")
        measures[f"{name}_per_s"] = None if moved is None or not recent_s else round(moved / recent_s, 2)
    for name in ("lag", "lag_max"):
        lag_us = counters.get(f"{name}_us")
        measures[f"{name}_ms"] = None if lag_us is None else round(lag_us / 1000, 1)
    return measures


def _server(row: Mapping[str, object]) -> ServerStatus:
    return ServerStatus(**cast("dict[str, Any]", {name: row.get(name) for name in ServerStatus.__slots__}))


def _market(child: str, symbol: str, facts: object) -> MarketStatus:
    exchange = child.partition("/")[0]
    return MarketStatus(child, exchange, symbol, dict(facts) if isinstance(facts, Mapping) else {"value": facts})
