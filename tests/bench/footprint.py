"""What it takes to start, to sit there, and to be stored: seconds, memory, idle processor time, bytes."""

import time
from collections.abc import Iterable, Iterator
from functools import partial

import psycopg

from tests.bench.results import Result
from tests.bench.rig import OTHERS_CORE, Rig, count, cpu_s, pinned, private_mb, pss_mb
from tests.process.harness import Daemon, local_exchange, started, wait_for

IDLE_S = 20.0


def start(rig: Rig) -> Result:
    """`start` to the first committed row, servers running."""
    with pinned(OTHERS_CORE), local_exchange(rig.folder, "--rate", "200") as source, rig.database() as dsn:
        symbols = {name: source.symbols(name) for name in ("kraken", "binance")}
        folder = rig.folder / "start"
        folder.mkdir()
        daemon = Daemon(folder, source, symbols, dsn=dsn, url=rig.redis, service="trade")
        with started(daemon):
            wait_for("a row", lambda: count(dsn))
        began = time.monotonic()  # again: the tables are there now
        rows = count(dsn)
        with started(daemon):
            while count(dsn) == rows:
                time.sleep(0.005)
            took = time.monotonic() - began
    return Result("start to first row, 2 exchanges", took, "s", 1.5, "less")


def memory(rig: Rig) -> Iterator[Result]:
    """Proportional memory of a child, private memory of the supervisor."""
    for symbols, goal in ((50, 25.0), (1000, 60.0)):
        words = ("--symbols", str(symbols), "--rate", "100")
        with pinned(OTHERS_CORE), local_exchange(rig.folder, *words) as source, rig.database() as dsn:
            names = source.symbols("binance")
            with rig.daemon(source, "binance", names, dsn) as daemon:
                daemon.wait_until_streaming()
                wait_for("1000 trades", partial(_has, dsn, 1000))
                status = daemon.status()
                child = next(one for one in status["children"] if one["name"] == "binance")
                yield Result(f"memory of a child, {symbols} symbols", pss_mb(child["pid"]), "MB PSS", goal, "less")
                if symbols == 50:
                    yield Result("memory of the supervisor", private_mb(status["pid"]), "MB private", 20.0, "less")


def idle(rig: Rig) -> Result:
    """Twenty children, two hundred symbols that hardly trade."""
    words = ("--symbols", "100", "--rate", "0.2")
    with pinned(OTHERS_CORE), local_exchange(rig.folder, *words) as source, rig.database() as dsn:
        folder = rig.folder / "idle"
        folder.mkdir()
        symbols = {name: source.symbols(name) for name in ("kraken", "binance")}
        daemon = Daemon(folder, source, symbols, dsn=dsn, url=rig.redis)
        text = daemon.file.read_text()
        daemon.file.write_text(text.replace("[exchange:kraken]", "[exchange:kraken]\nshards = 10").replace(
            "[exchange:binance]", "[exchange:binance]\nshards = 10"))  # fmt: skip
        with started(daemon):
            daemon.wait_until_streaming()
            time.sleep(IDLE_S)  # what belongs to the start is over
            status = daemon.status()
            pids = [status["pid"], *(child["pid"] for child in status["children"])]
            spent, began = _sum(pids), time.monotonic()
            time.sleep(IDLE_S)
            share = (_sum(pids) - spent) / (time.monotonic() - began)
    return Result("idle, 20 children, 200 symbols", share * 100, "% of a core", 2.0, "less")


def storage(rig: Rig) -> Result:
    """Bytes of a trade with its index."""
    with rig.generator("binance", "20") as load, rig.database() as dsn:
        with rig.daemon(load, "binance", list(load.get("sent")["symbols"]), dsn, service="trade"):
            wait_for("every subscription", lambda: load.get("sent")["subscribed"] >= 20)
            sent = load.post("run", {"trades": 300_000})["sent"]
            wait_for("all rows", lambda: count(dsn) >= sent)
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('ohlcvd.trades') WHERE isleaf"
            ).fetchone()
    assert row is not None
    return Result("storage", float(row[0]) / sent, "bytes/trade", 120.0, "less", note="as written")


def _has(dsn: str, rows: int) -> bool:
    return count(dsn) > rows


def _sum(pids: Iterable[int]) -> float:
    return sum(map(cpu_s, pids))
