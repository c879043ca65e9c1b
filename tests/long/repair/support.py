"""A market, an exchange that has it, a relay before the exchange, and a daemon that collects through the relay."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.market import KINDS, ClaimWatch, Figures, Truth, behind
from tests.process.harness import Daemon, Exchange, local_exchange, started, wait_for
from tests.process.relay import Relay

EXCHANGES = ("kraken", "binance")
# Coverage trails the present by at most this much.
SETTLED_US = 20_000_000
# Kraken allows one request a second for the history of each market; in all, the daemon allows itself five.
MARKET_REQUEST_S = 1.0
ALL_REQUESTS_S = 0.2
_KRAKEN_PAGE = 999  # rows that a page adds: one overlaps


@dataclass(frozen=True, slots=True)
class Servers:
    dsn: str
    redis_url: str


@dataclass(frozen=True, slots=True)
class Site:
    exchange: Exchange
    relay: Relay
    daemon: Daemon
    truth: Truth
    kinds: Sequence[str] = KINDS

    def fault(self, name: str, **words: object) -> int:
        """How many connections, frames or symbols it touched."""
        return int(self.exchange.post("fault", {"fault": name, **words})["touched"])

    def kill_children(self) -> list[str]:
        """Every child with -9; their names, once the supervisor has noticed."""
        pids = {name: child["pid"] for name, child in self.daemon.children().items()}
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        def is_noticed() -> bool:
            children = self.daemon.children()
            return bool(children) and all(children[name]["pid"] != pid for name, pid in pids.items())

        wait_for("the supervisor has noticed", is_noticed)
        return list(pids)

    def kraken_pages(self, from_us: int, to_us: int) -> list[int]:
        """How many requests each market needs at least: pages of trades, and one of candles."""
        spans = [self.truth.ids("kraken", symbol, from_us, to_us) for symbol in self.truth.symbols("kraken")]
        return [-(-(end - start) // _KRAKEN_PAGE) + 1 for start, end in spans]

    def least_kraken_s(self, from_us: int, to_us: int) -> float:
        """How long Kraken's request limit makes this take at least."""
        pages = self.kraken_pages(from_us, to_us)
        return max(max(pages) * MARKET_REQUEST_S, sum(pages) * ALL_REQUESTS_S)

    def kraken_requests(self, after: int) -> str:
        """What Kraken was asked since there were so many requests."""
        asked = [one for one in self.relay.requests[after:] if one.exchange == "kraken"]
        kinds = [one.kind or "other" for one in asked]
        counts = [f"{kinds.count(kind)} {kind}" for kind in ("trades", "candles", "other")]
        return ", ".join([*counts, f"{sum(one.status == 429 for one in asked)} refused"])

    def gaps(self) -> list[dict[str, Any]]:
        answer = self.daemon.command("gaps", "--json")
        assert answer.returncode in (0, 1), answer.stderr
        found: list[dict[str, Any]] = json.loads(answer.stdout)["gaps"]
        return found

    def wait_until_complete(self, from_us: int, to_us: int, timeout_s: float) -> float:
        """Until everything between the two is claimed and nothing is missing anywhere; how long that took, in s."""
        began_s = time.monotonic()
        deadline_s = began_s + timeout_s
        while found := behind(self.daemon, from_us, to_us, self.kinds):
            assert time.monotonic() < deadline_s, (
                f"not complete after {timeout_s:.0f} s: {len(found)} such as {found[:6]}\n{self.daemon.warnings()}"
            )
            time.sleep(0.25)
        return time.monotonic() - began_s

    def assert_all_there(self, from_us: int, to_us: int, names: Sequence[str] | None = None) -> Figures:
        figures = self.truth.figures(self.daemon, from_us, to_us, names, self.kinds)
        assert figures.are_zeros, figures
        answer = self.daemon.command("gaps")
        assert answer.returncode == 0, answer.stdout
        return figures


@contextlib.contextmanager
def site(
    folder: Path, servers: Servers, settings: MarketSettings, *words: str, since: str = "0",
    names: Sequence[str] = EXCHANGES, service: str = "both",
) -> Iterator[Site]:  # fmt: skip
    """Nothing runs yet but the exchange and the relay."""
    with (
        local_exchange(folder, *Truth.words(settings), *words) as exchange,
        Relay(exchange.url) as relay,
    ):
        truth = Truth(exchange, settings)
        symbols = {name: truth.symbols(name) for name in names}
        daemon = Daemon(
            folder, exchange, symbols, dsn=servers.dsn, url=servers.redis_url, since=since, rest_url=relay.rest_url,
            ws_url=relay.ws_url, service=service,
        )  # fmt: skip
        yield Site(exchange, relay, daemon, truth, ("candles",) if service == "ohlcv" else KINDS)


@contextlib.contextmanager
def collecting(where: Site) -> Iterator[ClaimWatch]:
    """The daemon runs and streams, and what it claims is looked at every second; whatever was claimed must hold."""
    with started(where.daemon):
        where.daemon.wait_until_streaming()
        watch = ClaimWatch(where.daemon.dsn, where.truth)
        with watch:
            yield watch
        watch.check()


def is_streaming(daemon: Daemon) -> bool:
    children = daemon.children()
    return bool(children) and all(child["state"] == "streaming" for child in children.values())


def wait_until_streaming_again(daemon: Daemon, timeout_s: float = 60.0) -> None:
    wait_for("every child streams again", lambda: is_streaming(daemon), timeout_s)


def now_us() -> int:
    return time.time_ns() // 1000
