"""What it takes to start, to sit there, and to be stored: seconds, memory, idle processor time, bytes."""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg

from ohlcvd.database import Database
from ohlcvd.database.closing import close_partitions
from ohlcvd.database.partitions import DAY_US
from tests.bench.results import Result
from tests.bench.rig import Rig, count, cpu_s, private_mb, pss_mb, started
from tests.process.harness import Daemon, local_exchange, wait_for

IDLE_S = 20.0


def start(rig: Rig) -> Iterator[Result]:
    """`start` to the first committed row, servers running; ten exchanges are five children for each of two."""
    yield _start(rig, 1, 1.5)
    yield _start(rig, 5, 3.0)


def _start(rig: Rig, shards: int, goal_s: float) -> Result:
    words = ("--rate", "200", "--symbols", "20")
    with local_exchange(rig.folder, *words) as source, rig.database() as dsn:
        symbols = {name: source.symbols(name) for name in ("kraken", "binance")}
        folder = rig.folder / f"start-{shards}"
        folder.mkdir()
        daemon = Daemon(folder, source, symbols, dsn=dsn, url=rig.redis, service="trade")
        _shard(daemon, shards)
        with started(daemon):
            wait_for("a row", lambda: count(dsn))
        began = time.monotonic()  # again: the tables are there now
        rows = count(dsn)
        with started(daemon):
            while count(dsn) == rows:
                time.sleep(0.005)
            took = time.monotonic() - began
            wait_for("every child's rows", lambda: _all_store(daemon))
            all_took = time.monotonic() - began
    note = f"{2 * shards} children, all of them had committed rows after {all_took:.1f} s"
    return Result(f"start to first row, {2 * shards} exchanges", took, "s", goal_s, "less", note=note)


def _all_store(daemon: Daemon) -> bool:
    return all(child["counters"].get("trades", 0) for child in daemon.children().values())


def memory(rig: Rig) -> Iterator[Result]:
    """Proportional memory of children, private memory of the supervisor."""
    with _twenty_children(rig, "memory", 50, rate=100) as daemon:
        status = daemon.status()
        pids = [child["pid"] for child in status["children"] if child["name"] != "monitor"]
        mean_mb = sum(map(pss_mb, pids)) / len(pids)
        yield Result("memory of a child, 50 symbols", mean_mb, "MB PSS", 25.0, "less", note=f"mean of {len(pids)}")
        total_mb = sum(map(pss_mb, [status["pid"], *(child["pid"] for child in status["children"])]))
        yield Result("memory of 20 children in all", total_mb, "MB PSS", 600.0, "less")
        yield Result("memory of the supervisor", private_mb(status["pid"]), "MB private", 20.0, "less")
    words = ("--symbols", "1000", "--rate", "100")
    with (
        local_exchange(rig.folder, *words) as source,
        rig.database() as dsn,
        rig.daemon(source, "binance", source.symbols("binance"), dsn) as daemon,
    ):
        daemon.wait_until_streaming()
        wait_for("1000 trades", partial(_has, dsn, 1000))
        pid = daemon.children()["binance"]["pid"]
        note = "shares its pages with the supervisor and the monitor only"
        yield Result("memory of a child, 1000 symbols", pss_mb(pid), "MB PSS", 60.0, "less", note=note)


def idle(rig: Rig) -> Result:
    """Twenty children, two hundred symbols that hardly trade."""
    with _twenty_children(rig, "idle", 10, rate=0.2) as daemon:
        status = daemon.status()
        pids = [status["pid"], *(child["pid"] for child in status["children"])]
        spent, began = _sum(pids), time.monotonic()
        time.sleep(IDLE_S)
        share = (_sum(pids) - spent) / (time.monotonic() - began)
    return Result("idle, 20 children, 200 symbols", share * 100, "% of a core", 2.0, "less")


@contextmanager
def _twenty_children(rig: Rig, name: str, symbols: int, *, rate: float) -> Iterator[Daemon]:
    """Ten for each exchange, so many symbols each; what belongs to the start is over."""
    words = ("--symbols", str(10 * symbols), "--rate", str(rate))
    with local_exchange(rig.folder, *words) as source, rig.database() as dsn:
        folder = rig.folder / name
        folder.mkdir()
        daemon = Daemon(
            folder, source, {name: source.symbols(name) for name in ("kraken", "binance")}, dsn=dsn, url=rig.redis
        )
        _shard(daemon, 10)
        with started(daemon):
            daemon.wait_until_streaming()
            time.sleep(IDLE_S)
            yield daemon


def _shard(daemon: Daemon, shards: int) -> None:
    """So many children for each exchange."""
    text = daemon.file.read_text()
    daemon.file.write_text(re.sub(r"(\[exchange:\w+\])", rf"\1\nshards = {shards}", text))


def storage(rig: Rig) -> Iterator[Result]:
    """Bytes of a trade with its index, as written and when its day's partition is closed."""
    with rig.generator("binance", "20") as load, rig.database() as dsn:
        with rig.daemon(load, "binance", list(load.get("sent")["symbols"]), dsn, service="trade"):
            wait_for("every subscription", lambda: load.get("sent")["subscribed"] >= 20)
            sent = load.post("run", {"trades": 300_000})["sent"]
            wait_for("all rows", lambda: count(dsn) >= sent)
        written = _trades_bytes(dsn) / sent
        asyncio.run(close_partitions(Database(dsn), time.time_ns() // 1000 + 2 * DAY_US))
        closed = _trades_bytes(dsn) / sent
    yield Result("storage", closed, "bytes/trade", 120.0, "less", note=f"day closed; {written:.0f} as written")


def _trades_bytes(dsn: str) -> float:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('ohlcvd.trades') WHERE isleaf"
        ).fetchone()
    assert row is not None
    return float(row[0])


def _has(dsn: str, rows: int) -> bool:
    return count(dsn) > rows


def _sum(pids: Iterable[int]) -> float:
    return sum(map(cpu_s, pids))
