"""From the wire to the COMMIT: trades per processor second beside the floor, and how long one trade takes."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import product
from statistics import median

import psycopg

from ohlcvd.cache.keys import stream_key
from tests.bench.results import Result, percentile
from tests.bench.rig import COLLECTOR_CORE, Generator, Rig, count, cpu_s, pinned
from tests.process.harness import Daemon, environment, wait_for

TRADES = 300_000
WARM_UP = 20_000
FLOOR_SHARE = 0.6
GROWTH = 1.25
GROWTH_ROUNDS = 3  # one alone is luck: other users of the machine make a fifth
AIM_PER_CPU_S = 90_000
LATENCY_S = 20


def throughput(rig: Rig, exchange: str, symbols: int) -> Result:
    """Every trade stored, and what each cost the child."""
    floor = _floor(rig, symbols)
    spent, took = collected(rig, exchange, symbols)
    return Result(
        f"live {exchange} {symbols} symbols", TRADES / spent, "trades/CPU-s", AIM_PER_CPU_S,
        reference=floor, ratio_goal=FLOOR_SHARE, note=f"{TRADES / took:,.0f} trades/s on the clock",
    )  # fmt: skip


def growth(rig: Rig) -> Iterator[Result]:
    """What a trade costs among ever more symbols and ever more processes, beside what it costs among ten in one."""
    cases = ((10, 1), (100, 1), (1000, 1), (3000, 1), (100, 5), (100, 20))
    costs_us: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    for _, case in product(range(GROWTH_ROUNDS), cases):
        costs_us[case].append(collected(rig, "binance", *case)[0] / TRADES * 1e6)
    few_us = median(costs_us[cases[0]])
    for symbols, children in cases:
        name = f"growth, {symbols} symbols" + (f", {children} children" if children > 1 else "")
        own = costs_us[symbols, children]
        note = f"the middle of {', '.join(f'{one:.1f}' for one in sorted(own))}"
        yield Result(name, median(own), "us/trade", few_us * GROWTH, "less", reference=few_us, note=note)


def collected(rig: Rig, exchange: str, symbols: int, children: int = 1) -> tuple[float, float]:
    """Processor seconds of the children for TRADES trades at full speed, and seconds on the clock."""
    with rig.generator(exchange, str(symbols)) as load, rig.database() as dsn:
        names = list(load.get("sent")["symbols"])
        with rig.daemon(load, exchange, names, dsn, service="both", extra=f"shards = {children}\n") as daemon:
            _wait_subscribed(load, 2 * symbols)
            _run_whole(load, daemon, WARM_UP)
            pids = [child["pid"] for child in daemon.children().values()]
            before, began = sum(map(cpu_s, pids)), time.monotonic()
            _run_whole(load, daemon, TRADES)
            return sum(map(cpu_s, pids)) - before, time.monotonic() - began


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


def latency(
    rig: Rig, rate: int, goals_ms: Mapping[str, float], *, history: int = 0, published_ms: float | None = None
) -> Iterator[Result]:
    """Written to the socket by the exchange until committed, as the server's own commit times say. With `history`, so
    many trades of each symbol are fetched and stored at the same time. `published_ms`: the goal from there to Redis."""
    with rig.generator("binance", "20", str(history)) as load, rig.database() as dsn:
        names = list(load.get("sent")["symbols"])
        since = "2h" if history else "0"
        with rig.daemon(load, "binance", names, dsn, service="both", since=since) as daemon:
            _wait_subscribed(load, 40)
            _run_whole(load, daemon, rate * 3, rate, history)
            fetched = count(dsn, below=history)
            _run_whole(load, daemon, rate * LATENCY_S, rate, history)
            fetched = count(dsn, below=history) - fetched
            committed = _commit_times(daemon)
            sent = {(symbol, number): at for symbol, number, at in load.get("times")["times"]}
            waits = sorted((committed[one] - at) * 1000 for one, at in sent.items())
            if published_ms is not None:
                yield _publication(daemon, names, committed, rate, published_ms)
    note = f"{len(waits):,} trades" + (f", beside them {fetched:,} of history" if history else "")
    for name, goal_ms in goals_ms.items():
        value = percentile(waits, int(name[1:]) / 100)
        yield Result(f"latency {name} at {rate}/s", value, "ms", goal_ms, "less", note=note)


def _publication(
    daemon: Daemon, symbols: list[str], committed: Mapping[tuple[str, int], float], rate: int, goal_ms: float
) -> Result:
    """From the COMMIT until Redis had the row, as the entry's own id says: milliseconds, counted to their end."""
    waits: list[float] = []
    with daemon.redis() as client:
        for symbol in symbols:
            entries: list[tuple[bytes, dict[bytes, bytes]]] = client.xrange(stream_key("trades", "binance", symbol))
            for entry, fields in entries:
                at = (int(entry.partition(b"-")[0]) + 1) / 1000
                waits += [(at - committed[symbol, int(row[0])]) * 1000 for row in json.loads(fields[b"rows"])]
    waits.sort()
    value, note = percentile(waits, 0.99), f"{len(waits):,} trades"
    return Result(f"publication p99 at {rate}/s", value, "ms", goal_ms, "less", note=f"after the COMMIT, {note}")


def _commit_times(daemon: Daemon) -> dict[tuple[str, int], float]:
    """When each trade was committed, by symbol and id: seconds since 1970."""
    with psycopg.connect(daemon.dsn, autocommit=True) as connection:
        rows = connection.execute(
            """
            SELECT symbol, trades.trade_id, extract(epoch FROM pg_xact_commit_timestamp(trades.xmin))::float8
            FROM ohlcvd.trades JOIN ohlcvd.instruments ON instruments.id = instrument_id
            """
        )
        return {(symbol, number): committed for symbol, number, committed in rows}


def _wait_subscribed(load: Generator, streams: int) -> None:
    wait_for("every subscription", lambda: load.get("sent")["subscribed"] >= streams)


def _run_whole(load: Generator, daemon: Daemon, trades: int, rate: int = 0, history: int = 0) -> None:
    """Send, and wait until the database has all that was ever sent."""
    sent = load.post("run", {"trades": trades, "rate": rate})["sent"]
    # The child's own word first: counting rows again and again would keep the server's core busy.
    wait_for(f"{sent} trades", lambda: _committed(daemon) >= sent, 300)
    wait_for(f"{sent} trades", lambda: count(daemon.dsn, above=history) >= sent, 300)
    stored = count(daemon.dsn, above=history)
    if stored != sent:
        raise RuntimeError(f"{sent} trades were sent, {stored} are stored")


def _committed(daemon: Daemon) -> int:
    return sum(child["counters"].get("trades", 0) for child in daemon.children().values())
