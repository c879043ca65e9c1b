"""From the wire to the COMMIT: trades per processor second beside the floor, and how long one trade takes."""

import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg

from tests.bench.results import Result, percentile
from tests.bench.rig import COLLECTOR_CORE, Generator, Rig, count, cpu_s, pinned
from tests.process.harness import Daemon, environment, wait_for

TRADES = 300_000
WARM_UP = 20_000
FLOOR_SHARE = 0.6
GROWTH = 1.25
AIM_PER_CPU_S = 90_000


def throughput(rig: Rig, exchange: str, symbols: int) -> Result:
    """Every trade stored, and what each cost the child."""
    floor = _floor(rig, symbols)
    spent, took = _collected(rig, exchange, symbols)
    return Result(
        f"live {exchange} {symbols} symbols", TRADES / spent, "trades/CPU-s", AIM_PER_CPU_S,
        reference=floor, ratio_goal=FLOOR_SHARE, note=f"{TRADES / took:,.0f} trades/s on the clock",
    )  # fmt: skip


def growth(rig: Rig) -> Iterator[Result]:
    """What a trade costs among ever more symbols, beside what it costs among ten."""
    few_us = None
    for symbols in (10, 100, 1000, 3000):
        spent, _ = _collected(rig, "binance", symbols)
        cost_us = spent / TRADES * 1e6
        few_us = few_us or cost_us
        goal_us = few_us * GROWTH
        yield Result(f"growth, {symbols} symbols", cost_us, "us/trade", goal_us, "less", reference=few_us)


def _collected(rig: Rig, exchange: str, symbols: int) -> tuple[float, float]:
    """Processor seconds of the child for TRADES trades at full speed, and seconds on the clock."""
    with rig.generator(exchange, str(symbols)) as load, rig.database() as dsn:
        names = list(load.get("sent")["symbols"])
        with rig.daemon(load, exchange, names, dsn, service="both") as daemon:
            _wait_subscribed(load, 2 * symbols)
            _run_whole(load, dsn, WARM_UP)
            pid = daemon.children()[exchange]["pid"]
            before = cpu_s(pid)
            began = time.monotonic()
            _run_whole(load, dsn, TRADES)
            return cpu_s(pid) - before, time.monotonic() - began


def _floor(rig: Rig, symbols: int) -> float:
    with rig.generator("binance", str(symbols)) as load, rig.database() as dsn, pinned(COLLECTOR_CORE):
        url = load.url.replace("http", "ws") + "/binance/stream"
        words = [sys.executable, "-P", "-m", "tests.bench.floor", url, dsn, str(symbols), str(TRADES)]
        with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            _wait_subscribed(load, symbols)
            load.post("run", {"trades": TRADES})
            return TRADES / float(process.stdout.readline())


def latency(rig: Rig, rate: int, goal_p50_ms: float, goal_p99_ms: float, seconds: int = 20) -> Iterator[Result]:
    """Written to the socket by the exchange until committed, as the server's own commit times say."""
    with rig.generator("binance", "20") as load, rig.database() as dsn:
        names = list(load.get("sent")["symbols"])
        with rig.daemon(load, "binance", names, dsn, service="both") as daemon:
            _wait_subscribed(load, 40)
            _run_whole(load, dsn, rate * 3, rate)
            _run_whole(load, dsn, rate * seconds, rate)
            waits = sorted(_waits_ms(load, daemon))
    note = f"{len(waits):,} trades"
    for name, share, goal in (("p50", 0.5, goal_p50_ms), ("p99", 0.99, goal_p99_ms)):
        value = percentile(waits, share)
        yield Result(f"latency {name} at {rate}/s", value, "ms", goal, "less", note=note)


def _waits_ms(load: Generator, daemon: Daemon) -> Iterator[float]:
    sent = {(symbol, number): at for symbol, number, at in load.get("times")["times"]}
    with psycopg.connect(daemon.dsn, autocommit=True) as connection:
        rows = connection.execute(
            """
            SELECT symbol, trades.trade_id, extract(epoch FROM pg_xact_commit_timestamp(trades.xmin))::float8
            FROM ohlcvd.trades JOIN ohlcvd.instruments ON instruments.id = instrument_id
            """
        )
        for symbol, number, committed in rows:
            if (symbol, number) in sent:
                yield (committed - sent[symbol, number]) * 1000


def _wait_subscribed(load: Generator, streams: int) -> None:
    wait_for("every subscription", lambda: load.get("sent")["subscribed"] >= streams)


def _run_whole(load: Generator, dsn: str, trades: int, rate: int = 0) -> None:
    """Send, and wait until the database has all that was ever sent."""
    sent = load.post("run", {"trades": trades, "rate": rate})["sent"]
    wait_for(f"{sent} trades", lambda: count(dsn) >= sent, 300)
    stored = count(dsn)
    if stored != sent:
        raise RuntimeError(f"{sent} trades were sent, {stored} are stored")
