"""The table of `ohlcvd status` and of the demo. Pure: a report in, text out. Times are UTC."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ohlcvd.terminal import safe, table

if TYPE_CHECKING:
    from ohlcvd.supervisor.report import ChildStatus, MarketStatus, ServerStatus, StatusReport

# Columns of a child that are counters of its heartbeat.
_COUNTERS = ("trades", "candles", "commits", "backlog", "reconnects", "rejected")


def render(report: "StatusReport") -> str:
    """What runs, each process, each market, and what else there is to say."""
    blocks = [[_headline(report)]]
    if report.children or report.servers:
        header = ["PROCESS", ">PID", "STATE", ">UP", ">RESTARTS", *(f">{name.upper()}" for name in _COUNTERS)]
        rows = [*(_child_row(child) for child in report.children), *(_server_row(server) for server in report.servers)]
        blocks.append(table(header, rows))
    if report.markets:
        header = ["MARKET", ">TRADES", "LAST TRADE", ">LAST PRICE", "LAST CANDLE", ">MISSING", "STATE"]
        rows = [_market_row(market) for market in sorted(report.markets, key=lambda m: (m.exchange, m.symbol))]
        blocks.append(table(header, rows))
    remarks = [*_troubles(report), *report.notes]
    if remarks:
        blocks.append([safe(remark) for remark in remarks])
    return "\n\n".join("\n".join(block) for block in blocks)


def duration(seconds: float) -> str:
    """The two largest units: `3d 4h`, `5m 2s`, `7s`."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts or name == "s":
            parts.append(f"{count}{name}")
    return " ".join(parts[:2])


def _headline(report: "StatusReport") -> str:
    words = [f"ohlcvd {report.version}" if report.version else "ohlcvd", report.state]
    if report.pid is not None and report.state != "not running":
        words.append(f"pid {report.pid}")
    if report.service:
        words.append(f"service {report.service}")
    if report.started_at and report.state == "running":
        words.append(f"since {report.started_at}")
    return safe(f"{words[0]}: {', '.join(words[1:])}")


def _child_row(child: "ChildStatus") -> list[str]:
    counters = [str(child.counters.get(name, "-")) for name in _COUNTERS]
    return [*_process(child), *counters]


def _server_row(server: "ServerStatus") -> list[str]:
    return [*_process(server), *("" for _ in _COUNTERS)]


def _process(process: "ChildStatus | ServerStatus") -> list[str]:
    up = duration(process.uptime_s) if process.uptime_s is not None else "-"
    return [process.name, str(process.pid or "-"), process.state.replace("_", " "), up, str(process.restarts)]


def _market_row(market: "MarketStatus") -> list[str]:
    facts = market.facts
    return [
        f"{market.exchange} {market.symbol}",
        _text(facts, "trades"),
        _moment(facts.get("last_trade_us"), "%Y-%m-%d %H:%M:%S"),
        _text(facts, "last_price"),
        _moment(facts.get("last_candle_us"), "%Y-%m-%d %H:%M"),
        _missing(facts.get("missing_s")),
        _market_state(facts),
    ]


def _missing(seconds: object) -> str:
    """How much of what is wanted is not known complete."""
    if not isinstance(seconds, int):
        return "-"
    return duration(seconds) if seconds else "nothing"


def _market_state(facts: Mapping[str, object]) -> str:
    if facts.get("refused"):
        return f"refused: {facts['refused']}"
    waiting = [kind for kind in ("trades", "candles") if facts.get(f"{kind}_live") is False]
    return f"waiting for {' and '.join(waiting)}" if waiting else "live"


def _troubles(report: "StatusReport") -> list[str]:
    """What the tables have no room for: why a process is not there, and when it will be."""
    said = []
    for child in report.children:
        if child.pid is None:
            again = f", starts again in {duration(child.starts_in_s)}" if child.starts_in_s is not None else ""
            last = f"; last end: {child.last_exit}" if child.last_exit else ""
            said.append(f"{child.name}: {child.state.replace('_', ' ')} since {child.since}{again}{last}")
        elif child.beat_age_s is not None and child.beat_age_s > 5:
            said.append(f"{child.name}: no heartbeat for {duration(child.beat_age_s)}")
    return said


def _text(facts: Mapping[str, object], name: str) -> str:
    value = facts.get(name)
    return "-" if value is None else str(value)


def _moment(time_us: object, form: str) -> str:
    return time.strftime(form, time.gmtime(time_us // 1_000_000)) if isinstance(time_us, int) else "-"
