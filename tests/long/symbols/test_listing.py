"""New listings are picked up and delisted symbols parked, whatever else runs; what comes back is collected again."""

import time
from pathlib import Path

from tests.process.harness import Daemon, local_exchange, started, wait_for
from tests.process.test_symbols import EXCHANGES, nothing_lost, parked, rows_of, subscriptions, undisturbed


def test_a_new_listing_is_picked_up_and_a_delisted_one_is_parked(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    with local_exchange(tmp_path, "--symbols", "10", "--rate", "40") as exchange:
        listed = {name: exchange.symbols(name) for name in EXCHANGES}
        globs = {"kraken": ["*/USD"], "binance": ["*/USDT"]}
        daemon = Daemon(tmp_path, exchange, globs, dsn=database_url, url=redis_url)
        late = {"kraken": "NEW/USD", "binance": "NEW/USDT"}
        with started(daemon):
            daemon.wait_until_streaming()
            for name in EXCHANGES:
                wait_for("all subscriptions", lambda n=name: subscriptions(exchange, n) == 2 * len(listed[n]))  # type: ignore[misc]
            gone = {name: names[1] for name, names in listed.items()}
            for name in EXCHANGES:
                exchange.post("fault", {"fault": "delist", "exchange": name, "symbol": gone[name]})
                exchange.post("fault", {"fault": "list", "exchange": name, "symbol": late[name]})
            began_s = time.monotonic()
            for name in EXCHANGES:
                wait_for(f"trades of the new one at {name}", lambda n=name: rows_of(daemon, n, late[n]))  # type: ignore[misc]
            assert time.monotonic() - began_s < 60
            wait_for("the delisted ones are parked", lambda: parked(daemon) == gone, 120)
            undisturbed(daemon, exchange)
            others = {name: [*names, late[name]] for name, names in listed.items()}
            for name in EXCHANGES:
                exchange.post("fault", {"fault": "list", "exchange": name, "symbol": gone[name]})
            wait_for("they are back", lambda: not parked(daemon), 120)
            undisturbed(daemon, exchange)
            nothing_lost(daemon, exchange, others)
        assert "Traceback" not in daemon.logs()
