"""What `status` knows, as plain typed values. Pure: puts together what the lock, the supervisor and Redis said."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

from ohlcvd.errors import Exit
from ohlcvd.supervisor.lock import LockState

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

    def as_dict(self) -> dict[str, object]:
        """For JSON: plain lists, dicts, strings and numbers."""
        document: dict[str, object] = asdict(self)
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
) -> StatusReport:
    """The report. `document` is the supervisor's answer, None if it gave none."""
    notes = list(notes)
    if document is None:
        state: Running = "unknown" if lock.held else "died" if lock.left_over else "not running"
        if state == "died":
            notes.append("the supervisor died without clearing its lock; `start` works")
        holder = lock.holder
        pid, since = (holder.pid, holder.since) if holder else (None, None)
        return StatusReport(state, _EXIT[state], pid, since, None, None, notes=tuple(notes))
    return StatusReport(
        "running",
        _EXIT["running"],
        cast("int", document.get("pid")),
        _text(document.get("started_at")),
        _text(document.get("version")),
        _text(document.get("service")),
        tuple(_child(row) for row in _rows(document, "children")),
        tuple(_server(row) for row in _rows(document, "servers")),
        tuple(
            _market(child, symbol, facts)
            for child, rows in markets.items()
            for symbol, facts in rows.items()
            if not _is_unlisted(facts)
        ),
        (*notes, *_listed_nowhere(markets)),
        {name: str(document[name]) for name in ("postgres", "redis") if document.get(name)},
    )


def _is_unlisted(facts: object) -> bool:
    return isinstance(facts, Mapping) and bool(facts.get("unlisted"))


def _listed_nowhere(markets: Mapping[str, Mapping[str, object]]) -> list[str]:
    """One exchange lists what another does not; what none of them lists is a mistake in the configuration."""
    listed = {symbol for rows in markets.values() for symbol, facts in rows.items() if not _is_unlisted(facts)}
    unlisted = {symbol for rows in markets.values() for symbol, facts in rows.items() if _is_unlisted(facts)}
    return [f"ERROR: no exchange that answers lists {symbol}" for symbol in sorted(unlisted - listed)]


def _rows(document: Mapping[str, object], key: str) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", document.get(key, []))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _child(row: Mapping[str, object]) -> ChildStatus:
    return ChildStatus(**cast("dict[str, Any]", {name: row.get(name) for name in ChildStatus.__slots__}))


def _server(row: Mapping[str, object]) -> ServerStatus:
    return ServerStatus(**cast("dict[str, Any]", {name: row.get(name) for name in ServerStatus.__slots__}))


def _market(child: str, symbol: str, facts: object) -> MarketStatus:
    exchange = child.partition("/")[0]
    return MarketStatus(child, exchange, symbol, dict(facts) if isinstance(facts, Mapping) else {"value": facts})
