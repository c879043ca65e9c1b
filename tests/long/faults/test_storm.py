"""Two hundred random faults in ten minutes, then everything that happened against everything that is stored."""

import json
import time
from pathlib import Path

from ohlcvd.simulator.market import MarketSettings
from tests.faults import FaultSeen
from tests.long.repair.support import Servers, now_us, site
from tests.process.harness import processes_below, started
from tests.process.storm import Storm, chosen_seed, figures_of

FAULTS = 200
LENGTH_S = 600.0
WARM_UP = 20  # faults before the supervisor's memory is taken as its size
SETTLED_S = 20.0  # coverage trails the present by at most this much
REPAIRED_S = 180.0
MARKET = MarketSettings(rate=60, symbols=3, history_s=3600)

MEMORY_KB = 3000
CPU_SHARE = 0.005


def test_two_hundred_random_faults(tmp_path: Path, servers: Servers, fault_seen: FaultSeen) -> None:
    seed = chosen_seed()
    print(f"seed {seed}")
    with site(tmp_path, servers, MARKET) as here:
        storm = Storm(here.daemon, here.exchange, seed)
        with started(here.daemon):
            storm.settle()
            from_us, supervisor = now_us(), storm.supervisor()
            start = before = figures_of(supervisor)
            for number in range(FAULTS):
                storm.strike()
                if number == WARM_UP:
                    before = figures_of(supervisor)
                time.sleep(max(0.0, start.at_s + (number + 1) * LENGTH_S / FAULTS - time.monotonic()))
            calm = time.monotonic()
            storm.settle()
            after_s = time.monotonic() - calm
            assert storm.supervisor() == supervisor
            after = figures_of(supervisor)
            time.sleep(SETTLED_S)
            to_us = now_us() - int(SETTLED_S * 1e6)
            repaired_s = here.wait_until_complete(from_us, to_us, REPAIRED_S)
            figures = here.assert_all_there(from_us, to_us)
        left = [line for line in processes_below(tmp_path) if "simulate" not in line]
        assert left == []
        for file in (tmp_path / "log").iterdir():
            for line in file.read_text().splitlines():
                assert {"time", "level", "component", "message"} <= set(json.loads(line)), line
    cpu = (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(storm.done.items()))
    seen = (
        f"seed {seed}: {kinds}; {figures}; complete {repaired_s:.0f} s later; supervisor: {before.fds} and {after.fds} "
        f"descriptors, {before.anonymous_kb} and {after.anonymous_kb} kB of its own, {cpu:.2%} CPU"
    )
    print(seen)
    fault_seen(f"{FAULTS} random faults", None, after_s, seen)
    assert after.fds <= before.fds + 2  # a control connection may be open while they are counted
    assert after.anonymous_kb < before.anonymous_kb + MEMORY_KB
    assert cpu < CPU_SHARE
