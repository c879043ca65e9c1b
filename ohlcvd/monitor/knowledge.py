"""What the monitor knows: put together from what the supervisor and Redis last said. No I/O; times are arguments.

A silent supervisor is believed for BELIEVED_S. What a child last said of its markets is kept as long as the supervisor
has that child, because the record in Redis goes away half a minute after the child: an exchange that is cut off, or a
Redis that is away, must not make the series vanish that an alert looks at. For the same reason a process that has just
started, and knows nothing yet, does not make forgotten what the one before it said.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ohlcvd.monitor.metrics import COUNTERS, LAG, Service, families
from ohlcvd.monitor.totals import Totals
from ohlcvd.problems import WORKING
from ohlcvd.supervisor.lock import LockState
from ohlcvd.supervisor.report import MONITOR, StatusReport, listed_nowhere, report_of

BELIEVED_S = 5.0
KEPT = ("last_trade_us", "last_candle_us", "received_until_us", "covered_until_us")

Told = Mapping[str, Mapping[str, object]]


class Knowledge(Collector):
    """One per monitor. `report` and `supervisor_fault` are those of the last `look`."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self.redis_fault: str | None = "not asked yet"
        self.supervisor_fault: str | None = "not asked yet"
        self.beats: Told | None = None
        self._document: Mapping[str, Any] | None = None
        self._heard_s = -math.inf
        self._fault = "not asked yet"
        self._markets: dict[str, Mapping[str, object]] = {}
        self._memory: Mapping[int, int | None] = {}
        self._monitor_pid = 0
        self._database_up: dict[str, int | None] = {}
        self.report: StatusReport = self._made(0)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def supervisor_said(self, document: Mapping[str, Any], now_s: float) -> None:
        """Its answer to `status`."""
        self._document, self._heard_s = (
            {**document, "children": list(map(self._completed, document["children"]))},
            now_s,
        )
        names = {row["name"] for row in document["children"]}
        self._markets = {child: rows for child, rows in self._markets.items() if child in names}
        self._count(document)

    def _completed(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A process that has not beaten yet does not know whether the database is there: the one before it did."""
        name, said = row["name"], row["counters"] or {}
        if said:
            self._database_up[name] = said.get("database_up")
        up = self._database_up.get(name)
        return row if said or up is None else {**row, "counters": {"database_up": up}}

    @property
    def is_whole(self) -> bool:
        """Whether the supervisor and Redis have both spoken."""
        return self._document is not None and self.redis_fault is None

    def supervisor_silent(self, reason: str) -> None:
        """It did not answer."""
        self._fault = reason

    def redis_said(self, beats: Told, markets: Told) -> None:
        """What is in Redis."""
        self.beats, self.redis_fault = beats, None
        for child, rows in markets.items():
            before = self._markets.get(child, {})
            self._markets[child] = {symbol: _kept(before.get(symbol), facts) for symbol, facts in rows.items()}

    def redis_silent(self, reason: str) -> None:
        """It did not answer."""
        self.beats, self.redis_fault = None, reason

    def weighed(self, memory: Mapping[int, int | None], monitor_pid: int) -> None:
        """Memory by pid."""
        self._memory, self._monitor_pid = memory, monitor_pid

    def pids(self) -> list[int]:
        """The supervisor and its children."""
        if self._document is None:
            return []
        return [self._document["pid"], *(row["pid"] for row in self._document["children"] if row["pid"])]

    def expected(self) -> list[str]:
        """Children that work, and know of nothing that keeps them from beating in Redis."""
        rows = self._document["children"] if self._document is not None else []
        return [
            row["name"]
            for row in rows
            if row["name"] != MONITOR and row["state"] in WORKING and (row["counters"] or {}).get("redis_up") == 1
        ]

    def listed_nowhere(self) -> list[str] | None:
        """Symbols that no exchange lists; None while not every child has said which ones it knows."""
        names = {row["name"] for row in self._document["children"]} - {MONITOR} if self._document else set()
        return listed_nowhere(self._markets) if names and names <= self._markets.keys() else None

    def look(self, now_us: int, now_s: float) -> None:
        """Make the report anew."""
        silent_s = now_s - self._heard_s
        self.supervisor_fault = None if silent_s < BELIEVED_S else f"the supervisor does not answer: {self._fault}"
        self.report = self._made(now_us)

    def _made(self, now_us: int) -> StatusReport:
        notes = [f"redis cannot be read: {self.redis_fault}"] if self.redis_fault else []
        notes += [self.supervisor_fault] if self.supervisor_fault else []
        return report_of(
            LockState(held=True, left_over=False, holder=None),
            None if self.supervisor_fault else self._document,
            self._markets,
            notes,
            beats=self.beats,
            memory=self._memory,
            now_us=now_us,
        )

    # --- metrics

    def _count(self, document: Mapping[str, Any]) -> None:
        life = f"{document['pid']} {document['started_at']}"
        for row in document["children"]:
            name = row["name"]
            if name == MONITOR:
                continue
            exchange = name.partition("/")[0]
            self.totals.observe(f"{name} starts", exchange, life, {"restarts": row["restarts"]})
            said = row["counters"] or {}
            counted = {key: said[key] for key in (*COUNTERS, *LAG) if key in said}
            if row["pid"] and counted:
                self.totals.observe(name, exchange, f"{row['pid']} {row['restarts']} {life}", counted)

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client."""
        memory = self._memory.get(self._monitor_pid)
        service = Service(self.supervisor_fault is None, self.redis_fault is None, memory)
        yield from families(self.report, self.totals, service)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """The text for Prometheus in the form that the client accepts, and its content type."""
        encode, content_type = exposition.choose_encoder(accept)
        return encode(self._registry), content_type


def _kept(before: object, facts: object) -> object:
    """A process that has just started does not know the last trade of a quiet market: the one before it did."""
    if not isinstance(before, Mapping) or not isinstance(facts, Mapping):
        return facts
    return {**facts, **{name: before.get(name) for name in KEPT if facts.get(name) is None}}
