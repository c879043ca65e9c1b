"""What Prometheus is told. Pure: a status report and the totals in, metric families out.

Labels are exchange and symbol, nothing else: one series per exchange or per market, however often children start again.
The shards of an exchange are one: counters and bytes are added up, "up" means all of them. What nobody knows yet has no
series. `etc/prometheus/alerts.yml` and `etc/grafana/ohlcvd.json` use these names.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric

from ohlcvd.monitor.totals import Totals
from ohlcvd.supervisor.report import ChildStatus, StatusReport

# Counters of a beat: the metric's name (`ohlcvd_..._total`) and what it counts.
COUNTERS: Mapping[str, tuple[str, str]] = {
    "frames": ("frames", "Frames received over WebSockets."),
    "trades": ("trades_stored", "Trades committed that were not stored before."),
    "candles": ("candles_stored", "Candles committed, added or changed."),
    "commits": ("commits", "Transactions committed."),
    "duplicates": ("duplicate_trades", "Trades received that were stored already."),
    "corrections": ("candle_corrections", "Stored candles that the venue corrected."),
    "differences": ("candle_differences", "Minutes in which the venue's candle is not what its trades make."),
    "rejected": ("rejected", "Frames and rows that made no sense and were not stored."),
    "quarantined": ("quarantined", "Rows that the database refused for what they are, kept on disk."),
    "reconnects": ("reconnects", "WebSocket connections opened again."),
    "requests": ("history_requests", "Requests for history over REST."),
    "repaired": ("repaired_gaps", "Gaps that were closed."),
    "unfillable": ("unfillable_gaps", "Gaps that the venue has nothing for."),
    "restarts": ("restarts", "Starts of a child process beyond its first."),
}
_SECOND_US = 1_000_000
LAG = ("lag_rows", "lag_total_us")
# Facts of a market: the metric's name, its unit in the fact's, and what it says.
_FACTS: Mapping[str, tuple[str, int, str]] = {
    "missing_seconds": ("missing_s", 1, "Seconds that are wanted and not known complete."),
    "last_trade_timestamp_seconds": ("last_trade_us", _SECOND_US, "Time of the last live trade."),
    "last_candle_timestamp_seconds": ("last_candle_us", _SECOND_US, "Open time of the last candle closed live."),
    "received_until_timestamp_seconds": (
        "received_until_us",
        _SECOND_US,
        "Up to then the live streams brought everything since they were last whole.",
    ),
    "covered_until_timestamp_seconds": (
        "covered_until_us",
        _SECOND_US,
        "The end of what is stored and known complete.",
    ),
}
_STATES = {"starting": 1, "ready": 2, "streaming": 3, "draining": 4}


@dataclass(frozen=True, slots=True)
class Service:
    """What only the monitor knows."""

    supervisor_up: bool
    redis_up: bool
    monitor_memory_bytes: int | None


def families(report: StatusReport, totals: Totals, service: Service) -> Iterator[Metric]:
    """Every metric."""
    yield from _of_service(report, service)
    yield from _counted(totals)
    yield from _of_exchanges(report.children)
    yield from _of_markets(report)


def _of_service(report: StatusReport, service: Service) -> Iterator[Metric]:
    yield GaugeMetricFamily("ohlcvd_supervisor_up", "Whether the supervisor answers.", int(service.supervisor_up))
    yield GaugeMetricFamily("ohlcvd_redis_up", "Whether Redis answers the monitor.", int(service.redis_up))
    if report.memory_bytes is not None:
        text = "Memory of the supervisor, shared pages divided."
        yield GaugeMetricFamily("ohlcvd_supervisor_memory_bytes", text, report.memory_bytes)
    if service.monitor_memory_bytes is not None:
        text = "Memory of the monitor, shared pages divided."
        yield GaugeMetricFamily("ohlcvd_monitor_memory_bytes", text, service.monitor_memory_bytes)


def _counted(totals: Totals) -> Iterator[Metric]:
    exchanges = {exchange: totals.of(exchange, (*COUNTERS, *LAG)) for exchange in totals.exchanges()}
    for name, (metric, text) in COUNTERS.items():
        counter = CounterMetricFamily(f"ohlcvd_{metric}", text, labels=["exchange"])
        for exchange, counts in exchanges.items():
            counter.add_metric([exchange], counts[name])
        yield counter
    summary = SummaryMetricFamily(
        "ohlcvd_commit_lag_seconds", "From the wire to the COMMIT, per row.", labels=["exchange"]
    )
    for exchange, counts in exchanges.items():
        summary.add_metric([exchange], counts["lag_rows"], counts["lag_total_us"] / _SECOND_US)
    yield summary


def _of_exchanges(children: Sequence[ChildStatus]) -> Iterator[Metric]:
    shards: dict[str, list[ChildStatus]] = defaultdict(list)
    for child in children:
        shards[child.name.partition("/")[0]].append(child)

    def gauge(name: str, text: str, value: Callable[[list[ChildStatus]], float | None]) -> Metric:
        family = GaugeMetricFamily(f"ohlcvd_{name}", text, labels=["exchange"])
        for exchange, own in shards.items():
            number = value(own)
            if number is not None:
                family.add_metric([exchange], number)
        return family

    yield gauge("exchange_up", "Whether every process of the exchange runs.", lambda own: int(all(map(_runs, own))))
    text = "The least of its processes' states: 0 not running, 1 starting, 2 ready, 3 streaming, 4 draining."
    yield gauge("exchange_state", text, lambda own: min(_STATES.get(child.state, 0) for child in own))
    yield gauge("streams", "Streams wanted of the exchange.", lambda own: _sum(own, "streams"))
    yield gauge("streams_live", "Streams subscribed and unbroken.", lambda own: _sum(own, "streams_live"))
    yield gauge("database_up", "Whether PostgreSQL takes rows.", lambda own: _least(own, "database_up"))
    yield gauge(
        "backlog_rows", "Rows received and not committed, in memory and on disk.", lambda own: _sum(own, "backlog")
    )
    yield gauge(
        "spool_bytes", "What rows that wait for the database take on disk.", lambda own: _sum(own, "spool_bytes")
    )
    text = "Memory of the exchange's processes, shared pages divided."
    yield gauge("memory_bytes", text, lambda own: sum(child.memory_bytes or 0 for child in own))
    text = "The longest way from the wire to the COMMIT in the last 10 seconds."
    yield gauge("commit_lag_max_seconds", text, lambda own: _longest_s(own))


def _of_markets(report: StatusReport) -> Iterator[Metric]:
    idle = {(one.exchange, one.symbol) for one in report.not_collecting}
    text = "Whether all streams that are wanted of the market are subscribed and unbroken."
    collecting = _per_market("market_collecting", text)
    markets = [market for market in report.markets if not market.is_parked]
    for market in markets:
        key = (market.exchange, market.symbol)
        collecting.add_metric(key, int(key not in idle))
    yield collecting
    for name, (fact, unit, text) in _FACTS.items():
        family = _per_market(name, text)
        for market in markets:
            value = market.facts.get(fact)
            if isinstance(value, int):
                family.add_metric((market.exchange, market.symbol), value / unit)
        yield family


def _per_market(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ohlcvd_{name}", text, labels=["exchange", "symbol"])


def _runs(child: ChildStatus) -> bool:
    return child.pid is not None and child.state in ("ready", "streaming")


def _values(own: Iterable[ChildStatus], name: str) -> list[int]:
    return [child.counters[name] for child in own if name in child.counters]


def _sum(own: Iterable[ChildStatus], name: str) -> int:
    return sum(_values(own, name))


def _least(own: Iterable[ChildStatus], name: str) -> int | None:
    return min(_values(own, name), default=None)


def _longest_s(own: Iterable[ChildStatus]) -> float:
    return max(_values(own, "lag_max_us"), default=0) / _SECOND_US
