"""Who fetches: is a service running on this configuration, and does it collect this market?"""

import os
from typing import Literal, NamedTuple

from ohlcvd import daemon
from ohlcvd.config import Config
from ohlcvd.errors import UsageError
from ohlcvd.nearest import did_you_mean
from ohlcvd.supervisor.report import StatusReport
from ohlcvd.symbols import select

_IDLE = ("parked", "stopped")

State = Literal["none", "silent", "starting", "collects", "beside"]


class Service(NamedTuple):
    """The running service, as one market sees it.

    none: there is none; silent: somebody holds its lock and does not answer; starting: it is to collect the market but
    did not say so yet; collects: it does; beside: it does not.
    """

    state: State
    pid: int | None = None
    collects: str | None = None  # ohlcv, trade or both
    postgres: str | None = None  # where its embedded server listens

    @property
    def fetches(self) -> bool:
        """Whether it sees to the market by itself."""
        return self.state in ("starting", "collects")


def look(config: Config, exchange: str, symbol: str) -> Service:
    """Ask it. Blocks for a few seconds at most; not to be called where an event loop runs."""
    report = daemon.status(config)
    if report.state == "unknown":
        return Service("silent", report.pid)
    if report.state != "running":
        return Service("none")
    state = _state(config, report, exchange, symbol)
    return Service(state, report.pid, report.service, report.addresses.get("postgres"))


def _state(config: Config, report: StatusReport, exchange: str, symbol: str) -> State:
    if any((market.exchange, market.symbol) == (exchange, symbol) for market in report.markets):
        return "collects"
    at_work = {
        child.name for child in report.children if child.name.partition("/")[0] == exchange and child.state not in _IDLE
    }
    is_configured = bool(select(config.exchange(exchange).symbols, {symbol: True}).symbols)
    if is_configured and at_work - {market.child for market in report.markets}:
        return "starting"
    return "beside"


def check_exchange(config: Config, exchange: str) -> None:
    """UsageError unless it is configured."""
    names = [one.name for one in config.exchanges]
    if exchange not in names:
        hint = did_you_mean(exchange, names) or f"; configured are {' and '.join(names)}"
        raise UsageError(f'"{exchange}" is not among the configured exchanges{hint}')


def lock_sentence(config: Config, service: Service) -> str:
    """What to tell whoever finds the lock held by somebody silent."""
    holder = "another process" if service.pid is None else f"process {service.pid}"
    return (
        f"{holder} holds the lock in {os.fspath(config.run_dir)} and does not answer: another backfill, or ohlcvd "
        "starting or ending; try again when it is done"
    )
