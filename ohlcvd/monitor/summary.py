"""The line of a minute, all exchanges in one: a day is some 1,440 lines, however many exchanges there are. Pure.

    in the last minute: binance 812 trades, 12 candles; kraken 96 trades, 4 candles, 2 of 8 streams live

Its field `exchanges` has the numbers of each. They are differences of totals, which go on when a child starts again.
"""

from collections.abc import Mapping

from ohlcvd.monitor.totals import Totals
from ohlcvd.supervisor.report import ChildStatus, StatusReport

SUMMARY_S = 60.0
GROWN = ("trades", "candles", "frames", "reconnects", "rejected", "repaired", "differences")
LEVELS = ("streams", "streams_live", "missing_s", "backlog")
_LAG = ("lag_rows", "lag_total_us")
# What the message says where it is not nothing; the rest is in the fields.
_REMARKS = ("reconnects", "rejected", "repaired", "differences")

Numbers = Mapping[str, "int | float | None"]


class Minutes:
    """One per monitor; each call of `summary` speaks of the time since the last one."""

    def __init__(self, totals: Totals) -> None:
        self._before = _counted(totals)

    def summary(self, report: StatusReport, totals: Totals) -> tuple[str, dict[str, Numbers]] | None:
        """The message and the numbers of each exchange; None while there is no exchange."""
        before, self._before = self._before, _counted(totals)
        exchanges = sorted({_exchange(child) for child in report.children})
        numbers = {name: _numbers(report, name, self._before.get(name, {}), before.get(name, {})) for name in exchanges}
        parts = [f"{name} {_told(of)}" for name, of in numbers.items()]
        return (f"in the last minute: {'; '.join(parts)}", numbers) if parts else None


def _counted(totals: Totals) -> dict[str, dict[str, int]]:
    return {exchange: totals.of(exchange, (*GROWN, *_LAG)) for exchange in totals.exchanges()}


def _numbers(report: StatusReport, exchange: str, now: Mapping[str, int], before: Mapping[str, int]) -> Numbers:
    grown = {name: now.get(name, 0) - before.get(name, 0) for name in (*GROWN, *_LAG)}
    rows, total_us = (grown.pop(name) for name in _LAG)
    children = [child.counters for child in report.children if _exchange(child) == exchange]
    levels = {name: sum(counters.get(name, 0) for counters in children) for name in LEVELS}
    missing = [market.facts.get("missing_s") for market in report.markets if market.exchange == exchange]
    levels["missing_s"] = sum(value for value in missing if isinstance(value, int))
    return {**grown, "lag_ms": round(total_us / rows / 1000, 1) if rows else None, **levels}


def _told(numbers: Numbers) -> str:
    said = [f"{numbers['trades']:,} trades", f"{numbers['candles']:,} candles"]
    if numbers["streams_live"] != numbers["streams"] or not numbers["streams"]:
        said.append(f"{numbers['streams_live']} of {numbers['streams']} streams live")
    for name in _REMARKS:
        if numbers[name]:
            said.append(f"{numbers[name]:,} {name.removesuffix('s') if numbers[name] == 1 else name}")
    return ", ".join(said)


def _exchange(child: ChildStatus) -> str:
    return child.name.partition("/")[0]
