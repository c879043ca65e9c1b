"""The whole path, live: exchange, ccxt, child, PostgreSQL and Redis, with a child killed on the way."""

import json
import os
import signal
import time
from pathlib import Path

import psycopg
import pytest

from ohlcvd.embedded import EmbeddedServer
from ohlcvd.market import MINUTE_US
from tests.process.harness import Daemon, Exchange, local_exchange, processes_below, started, title_of, wait_for
from tests.process.truth import assert_all_stored, stored_candles, true_candles

EXCHANGES = ("kraken", "binance")
DEADLINE_US = 20_000_000


def daemon_for(folder: Path, exchange: Exchange, dsn: str, url: str, service: str = "both") -> Daemon:
    symbols = {name: exchange.symbols(name) for name in EXCHANGES}
    return Daemon(folder, exchange, symbols, dsn=dsn, url=url, service=service)


def settle(daemon: Daemon, exchange: Exchange) -> int:
    """Freeze the market and wait until everything sent is stored; how many trades that are."""
    exchange.post("freeze")
    wait_for("everything sent is stored", lambda: _all_stored(daemon, exchange), 30)
    return sum(
        assert_all_stored(daemon, exchange, name, symbol) for name in EXCHANGES for symbol in exchange.symbols(name)
    )


def _all_stored(daemon: Daemon, exchange: Exchange) -> bool:
    try:
        for name in EXCHANGES:
            for symbol in exchange.symbols(name):
                assert_all_stored(daemon, exchange, name, symbol)
    except AssertionError:
        return False
    return True


def test_everything_sent_is_stored_and_every_closed_minute_is_true(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    with local_exchange(tmp_path, "--symbols", "10", "--rate", "25") as exchange:
        daemon = daemon_for(tmp_path, exchange, database_url, redis_url)
        with started(daemon):
            daemon.wait_until_streaming()
            live_us = time.time_ns() // 1000
            first_us = -(-live_us // MINUTE_US) * MINUTE_US
            # one whole minute and the time in which its candle has to be there
            while time.time_ns() // 1000 < first_us + MINUTE_US + DEADLINE_US:
                time.sleep(1)
            for name in EXCHANGES:
                for symbol in exchange.symbols(name):
                    stored = stored_candles(daemon, name, symbol)
                    truth = true_candles(exchange, name, symbol, min([first_us, *stored]), first_us + MINUTE_US)
                    expected = {ts_us for ts_us in truth if ts_us >= first_us}
                    assert expected <= set(stored), (name, symbol)
                    assert all(stored[ts_us] == truth[ts_us] for ts_us in stored if ts_us < first_us + MINUTE_US)
            with daemon.redis() as cache:
                for name in EXCHANGES:
                    beat = json.loads(cache.get(f"ohlcvd:heartbeat:{name}") or "{}")
                    assert beat["state"] == "streaming"
                    busiest = exchange.symbols(name)[0]
                    assert cache.xlen(f"ohlcvd:trades:{name}:{busiest}") > 0
                    assert cache.get(f"ohlcvd:candle:{name}:{busiest}")
                    assert any(cache.xlen(f"ohlcvd:candles:{name}:{s}") for s in exchange.symbols(name))
            assert settle(daemon, exchange) > 2000
            children = daemon.children()
            assert {child["counters"]["differences"] for child in children.values()} == {0}
            assert {child["restarts"] for child in children.values()} == {0}
            log_lines = daemon.logs().splitlines()
        assert log_lines
        for file in (tmp_path / "log").glob("*.log"):
            for line in file.read_text().splitlines():
                assert {"time", "level", "component", "message"} <= set(json.loads(line)), line
        assert "Traceback" not in daemon.logs()


def test_a_killed_child_is_back_and_its_sibling_never_notices(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    with local_exchange(tmp_path, "--symbols", "5", "--rate", "20") as exchange:
        daemon = daemon_for(tmp_path, exchange, database_url, redis_url)
        with started(daemon):
            daemon.wait_until_streaming()
            before = daemon.children()
            titles = {title_of(child["pid"]) for child in before.values()}
            assert titles == {"ohlcvd: kraken", "ohlcvd: binance"}
            os.kill(before["kraken"]["pid"], signal.SIGKILL)
            wait_for("another process streams kraken", lambda: _is_another(daemon, before["kraken"]["pid"]), 20)
            rows = daemon.query("SELECT count(*) FROM ohlcvd.named_trades WHERE exchange = 'kraken'")[0][0]
            wait_for(
                "trades are stored again",
                lambda: daemon.query("SELECT count(*) FROM ohlcvd.named_trades WHERE exchange = 'kraken'")[0][0] > rows,
            )
            after = daemon.children()
            assert after["binance"]["pid"] == before["binance"]["pid"]
            assert after["kraken"]["restarts"] == 1
            assert title_of(daemon.status()["pid"]) == "ohlcvd: supervisor"
        assert daemon.command("status").returncode == 3
        assert processes_below(tmp_path) == [] or all("simulate" in line for line in processes_below(tmp_path))
        doubled = daemon.query(
            "SELECT exchange, symbol, trade_id FROM ohlcvd.named_trades GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        assert doubled == []


def _is_another(daemon: Daemon, pid: int) -> bool:
    child = daemon.children()["kraken"]
    return bool(child["pid"] and child["pid"] != pid and child["state"] == "streaming")


@pytest.mark.parametrize("service", ["ohlcv", "trade"])
def test_each_service_runs_alone(tmp_path: Path, database_url: str, redis_url: str, service: str) -> None:
    with local_exchange(tmp_path, "--symbols", "3", "--rate", "30") as exchange:
        daemon = daemon_for(tmp_path, exchange, database_url, redis_url, service)
        with started(daemon):
            daemon.wait_until_streaming()
            if service == "trade":
                wait_for("trades", lambda: daemon.query("SELECT count(*) FROM ohlcvd.trades")[0][0] > 50)
                assert daemon.query("SELECT count(*) FROM ohlcvd.candles_1m WHERE source = 'venue'") == [(0,)]
            else:
                wait_for("candles", lambda: daemon.query("SELECT count(*) FROM ohlcvd.candles_1m")[0][0] > 0, 90)
                assert daemon.query("SELECT count(*) FROM ohlcvd.trades") == [(0,)]


def test_embedded_servers_the_second_start_and_the_rows_that_stay(
    tmp_path: Path, postgres_server: EmbeddedServer
) -> None:
    with local_exchange(tmp_path, "--symbols", "3", "--rate", "20") as exchange:
        daemon = daemon_for(tmp_path, exchange, "embedded", "embedded")
        with started(daemon):
            daemon.wait_until_streaming()
            second = daemon.command("start")
            assert second.returncode == 75
            supervisor = daemon.status()["pid"]
            assert str(supervisor) in second.stderr
            daemon.dsn = daemon.status()["addresses"]["postgres"]
            wait_for("trades", lambda: daemon.query("SELECT count(*) FROM ohlcvd.trades")[0][0] > 100)
            table = daemon.command("status").stdout
            assert all(word in table for word in ("kraken", "binance", *exchange.symbols("kraken")))
            rows = daemon.query("SELECT count(*) FROM ohlcvd.trades")[0][0]
            assert daemon.command("stop").returncode == 0
            assert processes_below(tmp_path) == [] or all("simulate" in line for line in processes_below(tmp_path))
            assert daemon.command("start").returncode == 0
            wait_for(
                "the database is back with its rows",
                lambda: _count(daemon) >= rows,
            )


def _count(daemon: Daemon) -> int:
    try:
        return int(daemon.query("SELECT count(*) FROM ohlcvd.trades")[0][0])
    except psycopg.Error:
        return 0
