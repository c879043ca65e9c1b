"""What every case needs: servers, a load generator and a daemon as processes, each kept to its core, and their cost."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import redis

from ohlcvd.embedded import prepare_postgres, prepare_valkey, running
from tests.process.harness import Daemon, Exchange, environment, wait_for
from tests.servers import fresh_database

# The collector alone on one core; what feeds it and what it writes to on the other.
COLLECTOR_CORE, OTHERS_CORE = 0, max(0, (os.cpu_count() or 1) - 1)
# Durable as in production; when a row was committed is asked of the server.
SETTINGS = {"track_commit_timestamp": "on", "max_wal_size": "4GB", "shared_buffers": "512MB"}
_TICKS = os.sysconf("SC_CLK_TCK")


class Rig:
    """The servers of one run of the benchmark."""

    def __init__(self, folder: Path, postgres: Any, valkey: Any) -> None:
        self.folder = folder
        self._postgres = postgres
        self.redis = str(valkey.address)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A new, empty database, and an empty Redis: reading what it knows of other cases' markets would count, too."""
        with redis.Redis.from_url(self.redis) as client:
            client.flushall()
        with fresh_database(self._postgres) as dsn:
            yield dsn

    @contextlib.contextmanager
    def generator(self, *words: str) -> Iterator["Generator"]:
        """The load generator of generator.py."""
        generator = Generator(self.folder, *words)
        try:
            yield generator
        finally:
            generator.close()

    @contextlib.contextmanager
    def daemon(
        self, source: Exchange, exchange: str, symbols: list[str], dsn: str, **settings: Any
    ) -> Iterator[Daemon]:
        """The real daemon, started and streaming."""
        folder = Path(tempfile.mkdtemp(prefix="daemon-", dir=self.folder))
        with started(Daemon(folder, source, {exchange: symbols}, dsn=dsn, url=self.redis, **settings)) as daemon:
            yield daemon


@contextlib.contextmanager
def started(daemon: Daemon) -> Iterator[Daemon]:
    """Started on the collector's core."""
    with pinned(COLLECTOR_CORE):
        answer = daemon.command("start")
    if answer.returncode:
        raise RuntimeError(answer.stderr + answer.stdout)
    try:
        yield daemon
    finally:
        daemon.command("stop")


class Generator(Exchange):
    """A load generator in a process of its own; `post` and `get` command it."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = (folder / "generator.log").open("w")
        with pinned(OTHERS_CORE):
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.bench.generator", *words],
                env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "http://" not in line:
            raise RuntimeError((folder / "generator.log").read_text())
        self.url = line.split()[-1]


@contextlib.contextmanager
def rig() -> Iterator[Rig]:
    """Servers and this process on the other core than the collector's."""
    folder = Path(tempfile.mkdtemp(prefix="ohlcvd-bench-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with (
            pinned(OTHERS_CORE),
            running(prepare_postgres(folder, settings=SETTINGS)) as postgres,
            running(prepare_valkey(folder)) as valkey,
        ):
            yield Rig(folder, postgres, valkey)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started in here stays on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """Processor time of one process, user and system, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def pss_mb(pid: int) -> float:
    """Proportional memory: shared pages are divided among those who share them."""
    return _rollup_kb(pid, "Pss:") / 1024


def private_mb(pid: int) -> float:
    """Memory that is nobody else's."""
    return (_rollup_kb(pid, "Private_Clean:") + _rollup_kb(pid, "Private_Dirty:")) / 1024


def _rollup_kb(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} does not tell {name}")


def count(dsn: str, table: str = "trades", *, above: int | None = None, below: int | None = None) -> int:
    """Rows that are committed; of trades, those with ids above or up to a number."""
    query = f"SELECT count(*) FROM ohlcvd.{table}"
    words: tuple[int, ...] = ()
    if above is not None:
        query, words = f"{query} WHERE trade_id > %s", (above,)
    elif below is not None:
        query, words = f"{query} WHERE trade_id <= %s", (below,)
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            row = connection.execute(query.encode(), words).fetchone()
        except psycopg.errors.UndefinedTable:  # the program has not made it yet
            return 0
    return int(row[0]) if row else 0


def wait_until(what: str, condition: Callable[[], object], timeout_s: float = 300.0) -> float:
    """Seconds until it held."""
    began = time.monotonic()
    wait_for(what, condition, timeout_s)
    return time.monotonic() - began
