"""Two hundred symbols of two exchanges: one is delisted, one is new, the others never notice; then a restart."""

import time
from pathlib import Path

from tests.process.harness import Daemon, local_exchange, started, wait_for
from tests.process.test_symbols import EXCHANGES, nothing_lost, parked, rows_of, subscriptions


def test_one_delisted_and_one_new_of_two_hundred(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with local_exchange(tmp_path, "--symbols", "200", "--rate", "300") as exchange:
        listed = {name: exchange.symbols(name) for name in EXCHANGES}
        globs = {"kraken": ["*"], "binance": ["*"]}
        daemon = Daemon(tmp_path, exchange, globs, dsn=database_url, url=redis_url)
        late = {"kraken": "NEW/USD", "binance": "NEW/USDT"}
        gone = {name: names[1] for name, names in listed.items()}
        with started(daemon):
            daemon.wait_until_streaming()
            for name in EXCHANGES:
                wait_for("all subscriptions", lambda n=name: subscriptions(exchange, n) == 400, 120)  # type: ignore[misc]
            for name in EXCHANGES:
                exchange.post("fault", {"fault": "delist", "exchange": name, "symbol": gone[name]})
                exchange.post("fault", {"fault": "list", "exchange": name, "symbol": late[name]})
            began_s = time.monotonic()
            for name in EXCHANGES:
                wait_for(f"trades of the new one at {name}", lambda n=name: rows_of(daemon, n, late[n]), 60)  # type: ignore[misc]
                print(f"{name}: the new one is stored after {time.monotonic() - began_s:.1f} s")
            wait_for("the delisted ones are parked", lambda: parked(daemon) == gone, 180)
            print(f"the delisted ones are parked after {time.monotonic() - began_s:.1f} s")
            for child in daemon.children().values():
                assert child["restarts"] == child["counters"]["reconnects"] == child["counters"]["rejected"] == 0
            venues = exchange.get("status")["exchanges"]
            assert {name: venues[name]["connected_ever"] for name in EXCHANGES} == {"kraken": 1, "binance": 3}
            asked = sum(
                exchange.get("status")["exchanges"]["kraken"]["requests"].get(name, 0) for name in ("AssetPairs",)
            )
            daemon.command("restart")
            daemon.wait_until_streaming()
            again = sum(
                exchange.get("status")["exchanges"]["kraken"]["requests"].get(name, 0) for name in ("AssetPairs",)
            )
            print(f"questions for the markets: {asked} before the restart, {again} after it")
            nothing_lost(daemon, exchange, {name: [*names, late[name]] for name, names in listed.items()})
        assert "Traceback" not in daemon.logs()
