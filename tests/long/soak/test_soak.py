"""An hour at 620 symbols: the number of tasks stays what it is, and memory does not grow.

Memory is what the kernel counts as resident (/proc/PID/statm) of each child, sampled every five seconds. A child keeps
the last KEPT_MINUTES minutes of each market, because venues correct candles that late; only when all of these are there
can it be seen whether anything else grows, so the warm-up is that long and WARM_UP_MORE_S more. The slope is that of
the straight line with the least squares through the samples after it.

Resident memory moves in steps of an arena (1 MiB), so the slope of a short run has an error: it is taken from the
means of BLOCKS stretches of equal length, which hardly depend on each other, and twice its standard error is allowed on
top of what is demanded. OHLCVD_SOAK_MINUTES shortens the run; in an hour the error is a part of a MiB.
"""

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ohlcvd.ohlcv import candles, minutes
from ohlcvd.simulator.market import MarketSettings
from tests.process.harness import started
from tests.process.sites import EXCHANGES, postgres, site, valkey, wait_streaming
from tests.process.truth import stored_trades, true_trades

MINUTES = float(os.environ.get("OHLCVD_SOAK_MINUTES", "60"))
WARM_UP_MORE_S = 180.0
WARM_UP_S = max(candles.KEPT_MINUTES, minutes.KEPT_MINUTES) * 60 + WARM_UP_MORE_S
MARKET = MarketSettings(rate=100, symbols=310, history_s=3600)
SAMPLE_S = 5.0
BLOCKS = 10
MOST_MIB_PER_HOUR = 1.0


class Slope(NamedTuple):
    """Of a straight line, an hour; `error` is its standard error."""

    an_hour: float
    error: float


def test_tasks_are_flat_and_memory_does_not_grow(tmp_path: Path) -> None:
    with (
        postgres() as database,
        valkey() as cache,
        site(tmp_path, database.address, cache.address, settings=MARKET) as here,
        started(here.daemon),
    ):
        wait_streaming(here, 240)
        time.sleep(WARM_UP_S)
        pids = here.pids()
        times: list[float] = []
        memory: dict[str, list[float]] = {name: [] for name in EXCHANGES}
        tasks: dict[str, list[int]] = {name: [] for name in EXCHANGES}
        began_s = time.monotonic()
        while time.monotonic() - began_s < MINUTES * 60:
            children = here.daemon.children()
            times.append(time.monotonic() - began_s)
            for name, pid in pids.items():
                memory[name].append(resident_mib(pid))
                tasks[name].append(children[name]["counters"]["tasks"])
            time.sleep(SAMPLE_S)
        assert here.pids() == pids, here.daemon.warnings()
        symbol = here.truth.symbols("kraken")[0]
        now_us = time.time_ns() // 1000
        truth = true_trades(here.exchange, "kraken", symbol, now_us - 120_000_000, now_us - 60_000_000)
        assert set(truth) <= set(stored_trades(here.daemon, "kraken", symbol))
    slopes = {name: slope_of(times, memory[name]) for name in EXCHANGES}
    for name, slope in slopes.items():
        print(
            f"{name}: {MINUTES:g} minutes after {WARM_UP_S / 60:.0f}, {len(times)} samples: {memory[name][0]:.1f} to "
            f"{memory[name][-1]:.1f} MiB, {slope.an_hour:+.2f} MiB/h, standard error {slope.error:.2f}; "
            f"tasks {min(tasks[name])} to {max(tasks[name])}"
        )
    for name, slope in slopes.items():
        half = len(times) // 2
        assert max(tasks[name][half:]) <= max(tasks[name][:half]) + 2, tasks[name]
        assert slope.an_hour - 2 * slope.error < MOST_MIB_PER_HOUR, (name, slope, memory[name])


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope_of(times_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Of the straight line with the least squares through the means of BLOCKS stretches."""
    size = len(values) // BLOCKS
    starts = range(0, BLOCKS * size, size)
    hours = [sum(times_s[start : start + size]) / size / 3600 for start in starts]
    means = [sum(values[start : start + size]) / size for start in starts]
    hour, mean = sum(hours) / BLOCKS, sum(means) / BLOCKS
    spread = sum((at - hour) ** 2 for at in hours)
    slope = sum((at - hour) * (value - mean) for at, value in zip(hours, means, strict=True)) / spread
    rest = sum((value - mean - slope * (at - hour)) ** 2 for at, value in zip(hours, means, strict=True))
    return Slope(slope, math.sqrt(rest / (BLOCKS - 2) / spread))
