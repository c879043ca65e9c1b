"""Ten children are killed with kill -9, a hundred times each: to whoever reads the metrics nothing falls or multiplies.

The waits between restarts grow to a minute, and stay as they are: the clock is a fast one (`tests/long/day`).
OHLCVD_RESTART_ROUNDS makes it shorter.
"""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ohlcvd.embedded import prepare_postgres, prepare_valkey
from ohlcvd.simulator.market import MarketSettings
from tests.cache.valkey import free_port
from tests.long.day.clock import FastClock
from tests.monitor.promql import Samples
from tests.process.harness import started, wait_for
from tests.process.sites import EXCHANGES, Site, site
from tests.process.test_monitor import Http
from tests.servers import FAST, private_directory

ROUNDS = int(os.environ.get("OHLCVD_RESTART_ROUNDS", "100"))
SPEED = 15
SHARDS = 5
CHILDREN = SHARDS * len(EXCHANGES)
MARKET = MarketSettings(rate=5, symbols=10, history_s=3600)
# What is known of each once it has been collected for a moment
OF_EVERY_MARKET = (
    "ohlcvd_market_collecting",
    "ohlcvd_missing_seconds",
    "ohlcvd_received_until_timestamp_seconds",
    "ohlcvd_covered_until_timestamp_seconds",
)
NOW_US = 1_767_225_600_000_000


def test_a_thousand_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    http = Http(free_port())
    with (
        private_directory() as folder,
        FastClock(folder, SPEED, NOW_US) as clock,
        clock.running(prepare_postgres(folder / "p", settings=FAST)) as dsn,
        clock.running(prepare_valkey(folder / "r")) as url,
        monkeypatch.context() as patch,
    ):
        for name, value in clock.environ.items():
            patch.setenv(name, value)
        with site(tmp_path, dsn, url, settings=MARKET) as here:
            configure(here, http)
            with started(here.daemon):
                wait_for("every market is collected", http.is_ready)
                from_us = clock.now_us()
                kill_and_compare(here, http)
                to_us = clock.now_us()
                here.wait_until_complete(from_us, to_us)
                figures = here.truth.figures(here.daemon, from_us, to_us)
                print(f"{(to_us - from_us) / 3.6e9:.2f} h: {figures}")
                assert figures.are_zeros, figures


def configure(here: Site, http: Http) -> None:
    file = here.daemon.file
    text = file.read_text().replace("listen = ", f"listen = {http.url.removeprefix('http://')}")
    for name in EXCHANGES:
        text = text.replace(f"[exchange:{name}]", f"[exchange:{name}]\nshards = {SHARDS}")
    file.write_text(text)


def kill_and_compare(here: Site, http: Http) -> None:
    markets = MARKET.symbols * len(EXCHANGES)
    for name in OF_EVERY_MARKET:
        wait_for(f"{name} of every market", lambda name=name: len(http.samples().get(name, ())) == markets)  # type: ignore[misc]
    before = settled(http)
    counters = sum(len(series) for name, series in before.items() if is_counter(name))
    series = series_of(before)
    longest_s = 0.0
    for number in range(1, ROUNDS + 1):
        pids = {name: child["pid"] for name, child in here.daemon.children().items()}
        assert len(pids) == CHILDREN
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        began_s = time.monotonic()
        wait_for("other processes stream", lambda before=pids: all_stream(here, before))  # type: ignore[misc]
        samples = settled(http)
        longest_s = max(longest_s, time.monotonic() - began_s)
        assert series_of(samples) == series, series_of(samples) ^ series
        assert not fallen(before, samples), fallen(before, samples)
        counted = [samples["ohlcvd_restarts_total"][(("exchange", name),)] for name in EXCHANGES]
        assert min(counted) >= number * SHARDS, counted  # a child that a busy machine stops for long is restarted, too
        before = samples
    print(
        f"{sum(counted):,.0f} restarts of {CHILDREN} children in {ROUNDS} rounds, the longest {longest_s:.1f} s: "
        f"{len(series)} series, {counters} of them counters, none fell"
    )


def all_stream(here: Site, before: Mapping[str, int]) -> bool:
    children = here.daemon.children()
    return len(children) == CHILDREN and all(
        child["state"] == "streaming" and child["pid"] != before[name] for name, child in children.items()
    )


def settled(http: Http) -> Samples:
    """What is exported while every market is collected: before and after, for a busy machine may stop a child
    in between for longer than what it last said is believed."""

    def between() -> Samples | None:
        samples = http.samples()
        return samples if http.is_ready() else None

    wait_for("every market is collected", http.is_ready)
    return wait_for("metrics of all that is collected", between)


def series_of(samples: Samples) -> set[tuple[str, object]]:
    """All but times of the last trade and candle, which a market may not have had yet."""
    return {(name, labels) for name, series in samples.items() for labels in series if "_last_" not in name}


def is_counter(name: str) -> bool:
    return name.endswith(("_total", "_sum", "_count", "_bucket"))


def fallen(before: Samples, after: Samples) -> list[str]:
    """What is less than it was."""
    return [
        f"{name} {labels}: {after[name].get(labels)} after {value}"
        for name, series in before.items()
        if is_counter(name)
        for labels, value in series.items()
        if after.get(name, {}).get(labels, 0.0) < value
    ]
