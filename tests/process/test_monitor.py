"""One exchange is cut off: who looks is told, by every way of looking, and everything is well again by itself."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from tests.cache.valkey import free_port
from tests.monitor.promql import Samples, alerts, evaluate, parsed
from tests.process.harness import ROOT, Daemon, local_exchange, started, wait_for

ALERTS = alerts(ROOT / "etc" / "prometheus" / "alerts.yml")
BASE_FIELDS = {"time", "level", "component", "message", "pid"}
EXCHANGES = ("kraken", "binance")


class Http:
    """What the monitor answers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def idle(self) -> list[dict[str, Any]]:
        status, text = self.get("/readyz")
        return json.loads(text)["not_collecting"] if status == 503 else []

    def child(self, name: str) -> dict[str, Any]:
        """The row of a child, the monitor among them; empty while nobody answers."""
        status, text = self.get("/status")
        document = json.loads(text) if status == 200 else {"children": [], "monitor": None}
        rows = [*document["children"], *([document["monitor"]] if document["monitor"] else [])]
        return next((row for row in rows if row["name"] == name), {})

    def samples(self) -> Samples:
        status, text = self.get("/metrics")
        return parsed(text) if status == 200 else {}


def firing(http: Http, alert: str) -> set[str]:
    """The exchanges for which an alert's expression holds now."""
    return {dict(labels)["exchange"] for labels in evaluate(ALERTS[alert], http.samples(), time.time())}


def _is_quiet(http: Http, alert: str) -> bool:
    return firing(http, alert) == set()


def test_a_cut_exchange_is_named_everywhere_and_all_is_well_again_by_itself(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    port = free_port()
    http = Http(port)
    with local_exchange(tmp_path, "--symbols", "3", "--rate", "12") as exchange:
        symbols = {name: exchange.symbols(name) for name in EXCHANGES}
        daemon = Daemon(tmp_path, exchange, symbols, dsn=database_url, url=redis_url, listen=f"127.0.0.1:{port}")
        with started(daemon):
            wait_for("everything is collected", http.is_ready)
            wait_for(
                "status says so",
                lambda: "well: all 6 markets are collected" in daemon.command("status").stdout,
                every_s=1.0,
            )
            assert firing(http, "OhlcvdMarketNotCollecting") == set()

            for fault in ("silence", "rest-503"):
                exchange.post("fault", {"fault": fault, "exchange": "binance", "value": 600})
            idle = wait_for("binance is missed", http.idle)
            idle = wait_for("all of it", lambda: idle if len(idle := http.idle()) == 3 else None)
            assert {row["exchange"] for row in idle} == {"binance"}
            assert all(row["since"] and row["reason"] for row in idle)
            assert http.get("/healthz")[0] == 200
            table = wait_for("status names it", lambda: _naming("binance: cut off since", daemon))
            assert "3 of 6 markets are collected" in table
            assert "connecting again" in table
            assert "kraken: " not in table
            wait_for("its markets' alert", lambda: firing(http, "OhlcvdMarketNotCollecting") == {"binance"})
            wait_for("the alert for staleness", lambda: firing(http, "OhlcvdMarketStale") == {"binance"})

            for fault in ("silence", "rest-ok"):
                exchange.post("fault", {"fault": fault, "exchange": "binance", "value": 0})
            wait_for("everything is collected again", http.is_ready)
            wait_for("status says so", lambda: _naming("well: all 6 markets are collected", daemon))
            for alert in ("OhlcvdMarketStale", "OhlcvdMarketNotCollecting", "OhlcvdExchangeDown"):
                wait_for(f"no {alert}", partial(_is_quiet, http, alert))

            _kill_and_count(http)
        _assert_logs(tmp_path / "log")


def _naming(words: str, daemon: Daemon) -> str | None:
    table = daemon.command("status").stdout
    return table if words in table else None


def _kill_and_count(http: Http) -> None:
    """Whoever dies and begins anew, no counter falls, and there are the same series as before."""
    before = http.samples()
    series = _series(before)
    for name in ("kraken", "monitor", "kraken"):
        pid = http.child(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(f"{name} is back", partial(_is_back, http, name, pid))
        wait_for("everything is collected", http.is_ready)
        samples = wait_for("metrics", http.samples)
        assert _series(samples) == series
        for counter, values in before.items():
            if counter.endswith(("_total", "_sum", "_count")):
                assert all(samples[counter][labels] >= value for labels, value in values.items()), counter
        before = samples
    restarts = before["ohlcvd_restarts_total"]
    assert restarts[(("exchange", "kraken"),)] == 2


def _series(samples: Samples) -> set[tuple[str, object]]:
    """All but times of the last trade and candle, which a market may not have had yet."""
    return {(name, labels) for name, series in samples.items() for labels in series if "_last_" not in name}


def _is_back(http: Http, name: str, pid: int) -> bool:
    child = http.child(name)
    return child.get("pid") not in (None, pid) and child["state"] in ("ready", "streaming")


def _assert_logs(folder: Path) -> None:
    """Every line is JSON with the documented fields; the outage is told, and not told again and again."""
    lines = [json.loads(line) for file in folder.glob("*.log") for line in file.read_text().splitlines()]
    assert all(set(line) >= BASE_FIELDS for line in lines)
    assert {file.name for file in folder.glob("*.log")} == {"ohlcvd.log", "kraken.log", "binance.log", "monitor.log"}
    # A day has 1440 minutes; with five starts, outages and series of kills like these, INFO is still below 2,000 lines.
    story = [line for line in lines if line["level"] == "INFO"]
    minutes = [line for line in story if line["message"].startswith("in the last minute: binance ")]
    assert all(set(line["exchanges"]) == {"kraken", "binance"} for line in minutes)
    assert len(story) - len(minutes) < (2000 - 1440) / 5
    told = [line for line in lines if line["level"] == "WARNING" and "connecting again" in line["message"]]
    firsts = [line for line in told if "repeated" not in line]
    assert 1 <= len(firsts) <= 8
