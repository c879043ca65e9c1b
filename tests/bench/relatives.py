"""The same work done by cryptofeed, where it is installed: in this Python, or in the one that OHLCVD_BENCH_CRYPTOFEED
names (with asyncpg; it may be newer than ours)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.bench import live
from tests.bench.peer import TABLE
from tests.bench.results import Result, percentile
from tests.bench.rig import COLLECTOR_CORE, Generator, Rig, cpu_s, pinned
from tests.process.harness import environment, wait_for

TRADES = 60_000
RATE = 1_000
LATENCY_S = 10
_COMMITTED = """SELECT symbol, id::bigint, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM trades"""


def cryptofeed(rig: Rig) -> Iterator[Result]:
    """Its figures are the references; ours beside them must be the better ones."""
    python = _python()
    if python is None:
        note = "cryptofeed is not installed"
        yield Result("live beside cryptofeed", None, "trades/CPU-s", 0.0, note=note, is_optional=True)
        return
    with rig.generator("binance", "20") as load, _collecting(rig, python, load) as (dsn, process):
        spent = cpu_s(process.pid)
        _run(load, dsn, TRADES)
        per_cpu_s = TRADES / (cpu_s(process.pid) - spent)
        _run(load, dsn, RATE * LATENCY_S, RATE)
        with psycopg.connect(dsn, autocommit=True) as connection:
            committed = {(symbol.replace("-", "/"), n): at for symbol, n, at in connection.execute(_COMMITTED)}
        sent = load.get("times")["times"]
        theirs_ms = percentile(sorted((committed[symbol, n] - at) * 1000 for symbol, n, at in sent), 0.99)
    spent, _ = live.collected(rig, "binance", 20)
    ours = live.TRADES / spent
    yield Result("live beside cryptofeed", ours, "trades/CPU-s", per_cpu_s, reference=per_cpu_s, ratio_goal=1.0)
    (result,) = live.latency(rig, RATE, {"p99": theirs_ms})
    name = f"latency p99 at {RATE}/s beside cryptofeed"
    yield Result(name, result.value, "ms", theirs_ms, "less", reference=theirs_ms)


def _python() -> str | None:
    named = os.environ.get("OHLCVD_BENCH_CRYPTOFEED")
    return named or (sys.executable if find_spec("cryptofeed") and find_spec("asyncpg") else None)


@contextmanager
def _collecting(rig: Rig, python: str, load: Generator) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """It runs, subscribed to everything, with a database of its own."""
    symbols = [symbol.replace("/", "-") for symbol in load.get("sent")["symbols"]]
    with rig.database() as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLE)
        place = conninfo_to_dict(dsn)
        script = Path(__file__).with_name("peer.py")
        words = [python, str(script), load.url, *(str(place[name]) for name in ("host", "user", "dbname")), *symbols]
        with pinned(COLLECTOR_CORE):
            process = subprocess.Popen(
                words, cwd=rig.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        try:
            wait_for("every subscription of cryptofeed", lambda: load.get("sent")["subscribed"] >= len(symbols), 60)
            yield dsn, process
        finally:
            process.kill()
            process.wait()


def _run(load: Generator, dsn: str, trades: int, rate: int = 0) -> None:
    sent = load.post("run", {"trades": trades, "rate": rate})["sent"]
    with psycopg.connect(dsn, autocommit=True) as connection:
        wait_for(f"{sent} trades", lambda: connection.execute("SELECT count(*) FROM trades").fetchone() == (sent,), 120)
