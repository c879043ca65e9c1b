"""What is not well, since when, why, and what is being done about it. Pure: judges the parts of a status report.

The same judgement stands behind `status`, `/readyz` and the metrics. A market is collected when its child's process
lives and says that all of the market's streams are subscribed and unbroken. What its child last said in Redis is
believed only while the process lives: the record outlives it by half a minute. A market that the venue does not trade
any more is neither collected nor a problem.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ohlcvd.supervisor.report import ChildStatus, MarketStatus, ServerStatus

# States of a child that may be collecting.
WORKING = ("ready", "streaming")
ACTIONS = {
    "starting": "it is starting",
    "backing_off": "it is started again",
    "parked": "it waits for a changed configuration: ohlcvd reload",
    "hung": "it is ended and started again",
    "draining": "it stores what it has read, and ends",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not well. `since` and `next_try` are ISO times in UTC, None where nobody knows them."""

    subject: str  # a child, a market, a server
    what: str
    since: str | None = None
    reason: str | None = None
    action: str | None = None
    next_try: str | None = None


@dataclass(frozen=True, slots=True)
class Idle:
    """A market that is not collected. `symbol` is None for a child that has not said yet which markets it has."""

    exchange: str
    symbol: str | None
    since: str | None
    reason: str


def problems_of(
    children: "Sequence[ChildStatus]",
    servers: "Sequence[ServerStatus]",
    markets: "Sequence[MarketStatus]",
    now_us: int,
) -> list[Problem]:
    """All of them, the gravest first: processes, connections, services, markets."""
    found = [problem for child in children for problem in _of_child(child, now_us)]
    found += [
        Problem(server.name, server.state.replace("_", " "), server.since, server.last_exit, "it is started again")
        for server in servers
        if server.state not in ("ready", "streaming", "starting")
    ]
    found += _of_services(children, now_us)
    cut = {child.name for child in children if not is_working(child) or _is_cut_off(child)}
    there = [market for market in markets if market.child not in cut and not market.is_parked]
    found += [problem for market in there for problem in _of_market(market)]
    return found


def idle_markets(children: "Sequence[ChildStatus]", markets: "Sequence[MarketStatus]") -> list[Idle]:
    """The markets that are not collected."""
    found: list[Idle] = []
    for child in children:
        own = [market for market in markets if market.child == child.name and not market.is_parked]
        exchange = child.name.partition("/")[0]
        if not is_working(child):
            reason = _why_no_process(child)
            found += [Idle(exchange, market.symbol, child.since, reason) for market in own]
            if not own:
                found.append(Idle(exchange, None, child.since, reason))
        elif own:
            found += [_idle(market, child) for market in own if not market.is_collected or _is_cut_off(child)]
        elif not _all_streams_live(child):  # Redis does not say; the pipe does
            found.append(Idle(exchange, None, child.since, _why_not_yet(child)))
    return found


def is_working(child: "ChildStatus") -> bool:
    """Whether there is a process that may collect."""
    return child.pid is not None and child.state in WORKING


def _idle(market: "MarketStatus", child: "ChildStatus | None" = None) -> Idle:
    facts = market.facts
    reason = facts.get("down_reason") or facts.get("refused") or (child and _why_not_yet(child)) or "not subscribed yet"
    since = _iso(facts.get("down_since_us")) or (child.since if child else None)
    return Idle(market.exchange, market.symbol, since, _plain(reason))


def _plain(reason: object) -> str:
    """Without ccxt's name for it."""
    return str(reason).replace("NetworkError: ", "")


def _all_streams_live(child: "ChildStatus") -> bool:
    streams = child.counters.get("streams", 0)
    return _has_no_symbol(child) or (streams > 0 and child.counters.get("streams_live", 0) >= streams)


def _has_no_symbol(child: "ChildStatus") -> bool:
    """It works, and none of the exchange's symbols is its own: a shard, or all are removed or not traded any more."""
    return child.state == "streaming" and child.counters.get("streams") == 0


def _is_cut_off(child: "ChildStatus") -> bool:
    """Nothing of it is live, as it says over its pipe: one line tells of all its markets."""
    return child.counters.get("streams_live") == 0 and not _has_no_symbol(child)


def _why_no_process(child: "ChildStatus") -> str:
    last = f", last end: {child.last_exit}" if child.last_exit else ""
    return f"the process of {child.name} is {child.state.replace('_', ' ')}{last}"


def _why_not_yet(child: "ChildStatus") -> str:
    if child.trouble:
        return _plain(child.trouble.get("reason"))
    if child.counters.get("database_up") == 0:
        return "postgresql is away"
    return "not connected yet" if not child.counters.get("streams") else "not all streams are live"


def _of_child(child: "ChildStatus", now_us: int) -> Iterator[Problem]:
    if not is_working(child):
        again = None if child.starts_in_s is None else _iso(now_us + round(child.starts_in_s * 1e6))
        action = ACTIONS.get(child.state)
        yield Problem(child.name, child.state.replace("_", " "), child.since, child.last_exit, action, again)
        return
    if child.beat_age_s is not None and child.beat_age_s > 5:
        since = _iso(now_us - round(child.beat_age_s * 1e6))
        yield Problem(child.name, "no heartbeat", since, None, "it is ended if it stays silent")
    if child.trouble:
        live, streams = child.counters.get("streams_live", 0), child.counters.get("streams", 0)
        what = "cut off" if not live else f"{live} of {streams} streams live"
        since, again = _iso(child.trouble.get("since_us")), _iso(child.trouble.get("retry_us"))
        yield Problem(child.name, what, since, _plain(child.trouble.get("reason")), "connecting again", again)
    elif _is_cut_off(child) or "streams_live" not in child.counters:
        waits = child.counters.get("database_up") == 0
        action = "it begins when that is back and fetches what it missed" if waits else "it goes on trying"
        yield Problem(child.name, "not collecting yet", child.since, _why_not_yet(child), action)


def _of_services(children: "Sequence[ChildStatus]", now_us: int) -> Iterator[Problem]:
    working = [child for child in children if is_working(child)]
    away = [child for child in working if child.counters.get("database_up") == 0]
    if away:
        rows = sum(child.counters.get("backlog", 0) for child in away)
        spool = sum(child.counters.get("spool_bytes", 0) for child in away)
        waiting = f"{rows:,} rows wait" + (f", {spool:,} bytes of them on disk" if spool else "")
        names = ", ".join(child.name for child in away)
        since = _away_since(away, "database_away_s", now_us)
        yield Problem("postgresql", f"away for {names}", since, None, f"{waiting}, tried again until it answers")
    deaf = [child for child in working if child.counters.get("redis_up") == 0]
    if deaf:
        names, since = ", ".join(child.name for child in deaf), _away_since(deaf, "redis_away_s", now_us)
        yield Problem("redis", f"away for {names}", since, None, "collection goes on without it")


def _away_since(children: "Sequence[ChildStatus]", counter: str, now_us: int) -> str | None:
    longest_s = max(child.counters.get(counter, 0) for child in children)
    return _iso(now_us - longest_s * 1_000_000) if longest_s else None


def _of_market(market: "MarketStatus") -> Iterator[Problem]:
    name = f"{market.exchange} {market.symbol}"
    if not market.is_collected:
        idle = _idle(market)
        yield Problem(name, "not collected", idle.since, idle.reason, "it is asked for again")
    differences = market.facts.get("differences")
    if isinstance(differences, int) and differences > 0:
        what = f"{differences} of {market.facts.get('compared')} candles differ from their trades"
        yield Problem(name, what, None, None, f"ohlcvd verify {name} shows them")


def _iso(time_us: object) -> str | None:
    """As the supervisor writes times, `2026-01-31T12:00:00.000Z`; None for what is not one."""
    if not isinstance(time_us, int):
        return None
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
