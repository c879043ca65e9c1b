"""A market of 400 trades a second, servers that can be killed, a daemon that collects, and the comparison."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from ohlcvd.embedded import EmbeddedServer, prepare_postgres, prepare_valkey
from ohlcvd.embedded.process import end, wait_for_end
from ohlcvd.embedded.server import wait_until_ready
from ohlcvd.errors import EmbeddedServerError
from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.market import Figures, Truth, behind
from tests.process.harness import Daemon, Exchange, local_exchange, wait_for
from tests.servers import FAST, private_directory

EXCHANGES = ("kraken", "binance")
# Of each exchange, so 400 in all.
MARKET = MarketSettings(rate=200, symbols=10, history_s=3600)
# A server that takes connections is used again within this.
STORING_AGAIN_S = 2.0
SETTLED_S = 240.0


class Server:
    """PostgreSQL or Valkey that can be ended in every way and started again."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.address = server.address

    def start(self) -> float:
        """Returns when it takes clients: the monotonic moment of that."""
        self.server.spawn()
        try:
            wait_until_ready(self.server, 120)
        except EmbeddedServerError:  # a killed one's last processes may still hold its memory
            wait_for_end(self.server.pid, 10)
            time.sleep(0.5)
            self.server.spawn()
            wait_until_ready(self.server, 120)
        return time.monotonic()

    def end(self, how: signal.Signals) -> None:
        os.kill(self.server.pid, how)
        assert wait_for_end(self.server.pid, 60) is not None

    def close(self) -> None:
        end(self.server.pid, self.server.stop_signals)
        self.server.release()


@contextlib.contextmanager
def postgres(**settings: str) -> Iterator[Server]:
    with private_directory() as folder:
        server = Server(prepare_postgres(folder, settings={**FAST, **settings}))
        try:
            server.start()
            yield server
        finally:
            server.close()


@contextlib.contextmanager
def valkey() -> Iterator[Server]:
    with private_directory() as folder:
        server = Server(prepare_valkey(folder))
        try:
            server.start()
            yield server
        finally:
            server.close()


@dataclass(frozen=True, slots=True)
class Site:
    exchange: Exchange
    daemon: Daemon
    truth: Truth

    def newest_us(self, dsn: str | None = None) -> int:
        """The time of the newest stored trade."""
        with psycopg.connect(dsn or self.daemon.dsn, autocommit=True) as connection:
            found = connection.execute("SELECT (extract(epoch FROM max(ts)) * 1000000)::bigint FROM ohlcvd.trades")
            ((newest_us,),) = found.fetchall()
        return newest_us or 0

    def wait_until_storing(
        self, after_us: int, dsn: str | None = None, since_s: float | None = None, patience_s: float = 60.0
    ) -> float:
        """Until a trade newer than that is stored; how long that took, in s."""
        began_s = time.monotonic() if since_s is None else since_s
        deadline_s = began_s + patience_s
        while self.newest_us(dsn) <= after_us:
            assert time.monotonic() < deadline_s, self.daemon.warnings()
            time.sleep(0.02)
        return time.monotonic() - began_s

    def beats(self) -> dict[str, dict[str, Any]]:
        """What the children last said in Redis."""
        with self.daemon.redis() as client:
            found = {name: client.get(f"ohlcvd:heartbeat:{name}") for name in EXCHANGES}
        return {name: json.loads(text) for name, text in found.items() if text}

    def pids(self) -> dict[str, int]:
        return {name: child["pid"] for name, child in self.daemon.children().items() if name in EXCHANGES}

    def wait_until_complete(self, from_us: int, to_us: int) -> float:
        began_s = time.monotonic()
        while found := behind(self.daemon, from_us, to_us):
            took_s = time.monotonic() - began_s
            assert took_s < SETTLED_S, f"{len(found)} such as {found[:6]}\n{self.daemon.warnings()}"
            time.sleep(0.5)
        return time.monotonic() - began_s

    def check(self, from_us: int) -> Figures:
        """Everything from then until now is there once it has settled, once, with the right values."""
        to_us = now_us()
        self.wait_until_complete(from_us, to_us)
        figures = self.truth.figures(self.daemon, from_us, to_us)
        assert figures.are_zeros, figures
        assert figures.trades > 0
        return figures

    def said(self, part: str) -> int:
        """How many lines of the logs have this in them."""
        return sum(file.read_text().count(part) for file in (self.daemon.folder / "log").glob("*.log"))


@contextlib.contextmanager
def site(
    folder: Path, dsn: str, redis_url: str, *, settings: MarketSettings = MARKET, extra: str = "", spool_max: str = ""
) -> Iterator[Site]:
    """Nothing runs yet but the exchange."""
    with local_exchange(folder, *Truth.words(settings)) as exchange:
        truth = Truth(exchange, settings)
        symbols = {name: truth.symbols(name) for name in EXCHANGES}
        daemon = Daemon(folder, exchange, symbols, dsn=dsn, url=redis_url, extra=extra)
        if spool_max:
            daemon.file.write_text(
                daemon.file.read_text().replace("[ohlcvd]\n", f"[ohlcvd]\nspool_max = {spool_max}\n")
            )
        yield Site(exchange, daemon, truth)


@contextlib.contextmanager
def collecting(here: Site, before_s: float = 5.0) -> Iterator[int]:
    """The daemon runs and streams for a while; gives the time from which on everything must be there."""
    answer = here.daemon.command("start")
    assert answer.returncode == 0, answer.stderr + answer.stdout
    try:
        here.daemon.wait_until_streaming()
        from_us = now_us()
        time.sleep(before_s)
        here.wait_until_storing(from_us)
        yield from_us
    finally:
        here.daemon.command("stop")
        leftover = here.daemon.folder / "state" / "spool"
        shutil.rmtree(leftover, ignore_errors=True)


def now_us() -> int:
    return time.time_ns() // 1000


def run(*words: str) -> None:
    """A command that must succeed."""
    answer = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def wait_streaming(here: Site, timeout_s: float = 90.0) -> None:
    wait_for(
        "every child streams",
        lambda: (found := here.daemon.children()) and all(one["state"] == "streaming" for one in found.values()),
        timeout_s,
    )


RANDOM = random.Random(17)
