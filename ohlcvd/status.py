"""The table of `ohlcvd status` and of the demo. Pure: a report in, text out. Times are UTC.

First one sentence: is it well. Then what is not, since when, why, and what is being done. Then each process and each
market, those that are not collected first. A wide terminal gets more columns.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from ohlcvd.terminal import BOLD, DIM, GREEN, RED, YELLOW, coloured, safe, shortened, table

if TYPE_CHECKING:
    from ohlcvd.problems import Problem
    from ohlcvd.supervisor.report import ChildStatus, ServerStatus, StatusReport

WIDE = 110  # columns from which on there is room for the rest
_STREAMS = ("streams_live", "streams")
PROBLEMS = 12  # shown; more are counted


class _Line(NamedTuple):
    text: str
    colour: str | None = None


def render(report: "StatusReport", *, width: int | None = None, height: int | None = None, colour: bool = False) -> str:
    """What runs and how it is. No line is longer than `width`; with `height`, there are at most so many: what is well
    is cut off first. Without a width, as wide as it gets."""
    wide = width is None or width >= WIDE
    blocks = [_headlines(report), _problems(report), _processes(report, wide=wide), _markets(report, wide=wide)]
    notes = [_Line(safe(note), RED if note.startswith("ERROR") else YELLOW) for note in report.notes]
    if height is None:
        notes += [_Line(safe(f"{name}: {address}"), DIM) for name, address in report.addresses.items()]
    blocks = [block for block in (*blocks, notes) if block]
    if height is not None:
        blocks = _fitted(blocks, height)
    return "\n\n".join("\n".join(_painted(line, width, colour) for line in block) for block in blocks)


def duration(seconds: float) -> str:
    """The two largest units: `3d 4h`, `5m 2s`, `7s`."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts or name == "s":
            parts.append(f"{count}{name}")
    return " ".join(parts[:2])


def size(count: int | None) -> str:
    """`46 MB`, `1.2 GB`; `-` for what is not known."""
    if count is None:
        return "-"
    for name, unit in (("GB", 1 << 30), ("MB", 1 << 20)):
        if count >= unit:
            return f"{count / unit:.1f} {name}" if count < 10 * unit else f"{count / unit:.0f} {name}"
    return f"{count / 1024:.0f} kB"


def _painted(line: _Line, width: int | None, colour: bool) -> str:
    text = line.text if width is None else shortened(line.text, width)
    return coloured(text, line.colour) if colour and line.colour else text


def _fitted(blocks: list[list[_Line]], height: int) -> list[list[_Line]]:
    """Cut the longest block, then the next, until all fits: markets are many, and what is well stands last in each."""
    over = sum(map(len, blocks)) + len(blocks) - 1 - height
    for number in sorted(range(len(blocks)), key=lambda number: -len(blocks[number])):
        block = blocks[number]
        kept = max(2, len(block) - over - 1)
        if over > 0 and kept + 1 < len(block):
            blocks[number] = [*block[:kept], _Line(f"... and {len(block) - kept} more", DIM)]
            over -= len(block) - kept - 1
    return blocks


# --- is it well


def _headlines(report: "StatusReport") -> list[_Line]:
    words = [f"ohlcvd {report.version}" if report.version else "ohlcvd", report.state]
    if report.pid is not None and report.state != "not running":
        words.append(f"pid {report.pid}")
    if report.service:
        words.append(f"service {report.service}")
    if report.started_at and report.state == "running":
        words.append(f"since {_moment(report.started_at)}")
    lines = [_Line(safe(f"{words[0]}: {', '.join(words[1:])}"), BOLD)]
    if report.state == "running":
        lines.append(_verdict(report))
    return lines


def _verdict(report: "StatusReport") -> _Line:
    idle = {(one.exchange, one.symbol) for one in report.not_collecting}
    idle_whole = {one.exchange for one in report.not_collecting if one.symbol is None}
    markets = [(market.exchange, market.symbol) for market in report.markets if not market.is_parked]
    parked = len(report.markets) - len(markets)
    collected = sum(one not in idle and one[0] not in idle_whole for one in markets)
    missing = [market for market in report.markets if _count(market.facts.get("missing_s"))]
    said = f"{collected} of {len(markets)} markets are collected"
    if not markets:  # redis does not say; the pipes do
        live, streams = (sum(child.counters.get(name, 0) for child in report.children) for name in _STREAMS)
        said = f"{live} of {streams} streams are live"
    elif unknown := _unknown(report):
        said = f"{collected} of {len(markets)} known markets are collected; those of {unknown} are not known now"
    elif collected == len(markets):
        said = f"all {len(markets)} markets are collected"
    if parked:
        said += f"; {parked} {'is' if parked == 1 else 'are'} not traded any more"
    if missing:
        said += f"; {len(missing)} lack{'s' if len(missing) == 1 else ''} a part of the history"
    if not report.problems:
        return _Line(f"well: {said}", GREEN)
    count = len(report.problems)
    problems = f"{count} problem{'s' if count > 1 else ''}" + (", but" if said.startswith("all") else ":")
    return _Line(f"{problems} {said}", RED if collected < len(markets) else YELLOW)


def _unknown(report: "StatusReport") -> str:
    """The children of whose markets redis says nothing: their records go with them, or redis was away."""
    told = {market.child for market in report.markets}
    silent = [
        child.name
        for child in report.children
        if child.name not in told and not (child.state == "streaming" and child.counters.get("streams") == 0)
    ]
    return " and ".join(silent)


def _problems(report: "StatusReport") -> list[_Line]:
    lines = []
    for problem in report.problems[:PROBLEMS]:
        lines.append(_Line(safe(_what(problem, report.at)), RED))
        why = "; ".join(filter(None, (problem.reason, _action(problem, report.at))))
        if why:
            lines.append(_Line("  " + safe(why)))
    if len(report.problems) > PROBLEMS:
        lines.append(_Line(f"... and {len(report.problems) - PROBLEMS} more problems", RED))
    return lines


def _what(problem: "Problem", at: str | None) -> str:
    text = f"{problem.subject}: {problem.what}"
    if problem.since:
        ago = _between(problem.since, at)
        text += f" since {_moment(problem.since)}" + (f" ({duration(ago)})" if ago is not None else "")
    return text


def _action(problem: "Problem", at: str | None) -> str | None:
    left = _between(at, problem.next_try)
    if left is None:
        return problem.action
    return f"{problem.action or 'next try'} {f'in {duration(left + 0.999)}' if left > 0 else 'now'}"


# --- tables


class _Column(NamedTuple):
    header: str
    wide_only: bool
    child: "Callable[[ChildStatus], str]"


_CHILD_COLUMNS = (
    _Column(">TRADES/S", False, lambda child: _rate(child.trades_per_s)),
    _Column(">FRAMES/S", True, lambda child: _rate(child.frames_per_s)),
    _Column(">LAG", False, lambda child: _lag(child.lag_ms)),
    _Column(">LONGEST", True, lambda child: _lag(child.lag_max_ms)),
    _Column(">MEMORY", False, lambda child: size(child.memory_bytes)),
    _Column(">BACKLOG", True, lambda child: _number(child.counters.get("backlog"))),
    _Column(">RECONNECTS", True, lambda child: _number(child.counters.get("reconnects"))),
    _Column(">REJECTED", True, lambda child: _number(child.counters.get("rejected"))),
)


def _processes(report: "StatusReport", *, wide: bool) -> list[_Line]:
    if not report.children and not report.servers:
        return []
    columns = [column for column in _CHILD_COLUMNS if wide or not column.wide_only]
    header = ["PROCESS", ">PID", "STATE", ">UP", ">RESTARTS", *(column.header for column in columns)]
    rows, colours = [], []
    for child in report.children:
        rows.append([*_process(child), *(column.child(child) for column in columns)])
        colours.append(None if child.state == "streaming" else YELLOW if child.pid else RED)
    for server in report.servers:
        rows.append([*_process(server), *("" for _ in columns)])
        colours.append(None if server.state in ("ready", "streaming") else RED)
    if report.monitor is not None:
        rows.append(
            [*_process(report.monitor), *("" if c.header != ">MEMORY" else c.child(report.monitor) for c in columns)]
        )
        colours.append(None if report.monitor.pid else YELLOW)
    return _lines(header, rows, colours)


def _process(process: "ChildStatus | ServerStatus") -> list[str]:
    up = duration(process.uptime_s) if process.uptime_s is not None else "-"
    return [process.name, str(process.pid or "-"), process.state.replace("_", " "), up, str(process.restarts)]


def _markets(report: "StatusReport", *, wide: bool) -> list[_Line]:
    if not report.markets:
        return []
    idle = {(one.exchange, one.symbol): one for one in report.not_collecting}
    named = {problem.subject for problem in report.problems}  # their reasons stand above already
    ordered = sorted(report.markets, key=lambda m: ((m.exchange, m.symbol) not in idle, m.exchange, m.symbol))
    header = ["MARKET", ">LAST TRADE", ">LAST CANDLE", ">MISSING", ">VERIFIED", "STATE"]
    if wide:
        header[1:1] = [">TRADES", ">LAST PRICE"]
    rows, colours = [], []
    for market in ordered:
        one = idle.get((market.exchange, market.symbol))
        facts = market.facts
        state = "collected" if one is None else "refused" if facts.get("refused") else "not collected"
        if market.is_parked:
            state = "parked"
        row = [
            f"{market.exchange} {market.symbol}",
            _age(facts.get("last_trade_us"), report.at),
            _clock(facts.get("last_candle_us"), report.at),
            _missing(facts.get("missing_s")),
            _verified(facts),
            state if one is None or not wide or market.child in named else f"{state}: {one.reason}",
        ]
        if wide:
            row[1:1] = [_number(facts.get("trades")), _text(facts.get("last_price"))]
        rows.append(row)
        colours.append(RED if one is not None else YELLOW if _count(facts.get("differences")) else None)
    return _lines(header, rows, colours)


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str | None]) -> list[_Line]:
    texts = table(header, rows)
    return [_Line(texts[0], DIM), *(_Line(*pair) for pair in zip(texts[1:], colours, strict=True))]


# --- cells


def _rate(per_s: float | None) -> str:
    return "-" if per_s is None else f"{per_s:.0f}" if per_s >= 100 else f"{per_s:.1f}"


def _lag(lag_ms: float | None) -> str:
    if not lag_ms:  # nothing was stored of late
        return "-"
    return f"{lag_ms:.0f} ms" if lag_ms < 10_000 else duration(lag_ms / 1000)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _missing(seconds: object) -> str:
    """How much of what is wanted is not known complete."""
    if not isinstance(seconds, int):
        return "-"
    return duration(seconds) if seconds else "nothing"


def _verified(facts: Mapping[str, object]) -> str:
    """Minutes in which the venue's candle and the one built from its trades agree, of those held against each other."""
    compared = _count(facts.get("compared"))
    return f"{compared - _count(facts.get('differences'))}/{compared}" if compared else "-"


def _age(time_us: object, at: str | None) -> str:
    then, now = _from_us(time_us), _from_iso(at)
    if then is None:
        return "-"
    if now is None:
        return f"{then:%Y-%m-%d %H:%M:%S}"
    return f"{duration((now - then).total_seconds())} ago"


def _clock(time_us: object, at: str | None) -> str:
    """The time of day, and the day where it is another one."""
    then, now = _from_us(time_us), _from_iso(at)
    if then is None:
        return "-"
    return f"{then:%H:%M}" if now is not None and now.date() == then.date() else f"{then:%m-%d %H:%M}"


def _moment(text: str) -> str:
    then = _from_iso(text)
    return text if then is None else f"{then:%Y-%m-%d %H:%M:%S}"


def _between(earlier: str | None, later: str | None) -> float | None:
    first, second = _from_iso(earlier), _from_iso(later)
    return None if first is None or second is None else (second - first).total_seconds()


def _from_us(time_us: object) -> datetime | None:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us) if isinstance(time_us, int) else None


def _from_iso(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
