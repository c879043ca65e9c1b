"""A ban with an end: not one request before it, although the child is killed in the middle of it and starts again."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.process.harness import Daemon, Exchange, local_exchange, started, wait_for

BAN_S = 30


def asked(exchange: Exchange, name: str) -> int:
    return int(exchange.get("status")["exchanges"][name]["requests_total"])


@pytest.mark.parametrize("name", ["binance", "kraken"])
def test_nothing_is_asked_before_the_ban_ends(tmp_path: Path, database_url: str, redis_url: str, name: str) -> None:
    with local_exchange(tmp_path, "--symbols", "3", "--rate", "50") as exchange:
        daemon = Daemon(tmp_path, exchange, {name: ["*"]}, dsn=database_url, url=redis_url, since="2h")
        with started(daemon):
            daemon.wait_until_streaming()
            exchange.post("fault", {"fault": "rest-418", "exchange": name, "value": str(BAN_S)})
            began_s = time.monotonic()
            exchange.post("fault", {"fault": "cut", "exchange": name})  # so that something must be asked
            file = daemon.folder / "state" / "bans" / f"{name}.json"
            wait_for("the ban is written down", file.is_file, BAN_S - 10)
            time.sleep(1.0)  # what was on its way
            before = asked(exchange, name)
            os.kill(daemon.children()[name]["pid"], signal.SIGKILL)
            wait_for("another child", lambda: daemon.children()[name]["restarts"] == 1)
            while time.monotonic() < began_s + BAN_S - 2:
                assert asked(exchange, name) == before
                time.sleep(0.5)
            daemon.wait_until_streaming()
            wait_for("asked again", lambda: asked(exchange, name) > before)
        assert "Traceback" not in daemon.logs()
