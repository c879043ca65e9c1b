"""Twenty random faults on one daemon: nothing lost, nothing doubled, nothing left. (Two hundred: tests/long/faults.)"""

import json
import time
from pathlib import Path

from tests.faults import FaultSeen
from tests.process.harness import Daemon, local_exchange, processes_below, started, wait_for
from tests.process.storm import Storm, chosen_seed, figures_of
from tests.process.truth import assert_all_stored

FAULTS = 20
PAUSE_S = 0.7


def test_twenty_random_faults(tmp_path: Path, database_url: str, redis_url: str, fault_seen: FaultSeen) -> None:
    seed = chosen_seed()
    print(f"seed {seed}")
    with local_exchange(tmp_path, "--symbols", "3", "--rate", "12") as exchange:
        symbols = {name: exchange.symbols(name) for name in ("kraken", "binance")}
        daemon = Daemon(tmp_path, exchange, symbols, dsn=database_url, url=redis_url)
        storm = Storm(daemon, exchange, seed)
        with started(daemon):
            storm.settle()
            supervisor = storm.supervisor()
            for _ in range(FAULTS):
                storm.strike()
                time.sleep(PAUSE_S)
            calm = time.monotonic()
            storm.settle()
            after_s = time.monotonic() - calm
            assert storm.supervisor() == supervisor
            used = figures_of(supervisor)
            exchange.post("freeze")
            wait_for("everything sent is stored", lambda: _difference(storm) == "", 90)
            sent = sum(assert_all_stored(daemon, exchange, name, one) for name in symbols for one in symbols[name])
        left = [line for line in processes_below(tmp_path) if "simulate" not in line]
        assert left == []
        for file in (tmp_path / "log").iterdir():
            for line in file.read_text().splitlines():
                assert {"time", "level", "component", "message"} <= set(json.loads(line)), line
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(storm.done.items()))
    seen = f"seed {seed}: {kinds}; {sent} trades, 0 lost, 0 doubled, nothing left; supervisor: {used.fds} descriptors"
    fault_seen(f"{FAULTS} random faults", None, after_s, seen)


def _difference(storm: Storm) -> str:
    try:
        for name, symbols in storm.symbols.items():
            for symbol in symbols:
                assert_all_stored(storm.daemon, storm.exchange, name, symbol)
    except AssertionError as error:
        return str(error)
    return ""
