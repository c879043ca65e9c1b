"""`ohlcvd backfill`: history is exact, resumes where it was interrupted, and is fetched by one process only."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.process.harness import Daemon, Exchange, background, local_exchange, processes_below, started, wait_for
from tests.process.truth import stored_candles, stored_trades, true_candles, true_trades

MINUTE_US = 60_000_000
TRADES_QUESTION = {"kraken": "Trades", "binance": "aggTrades"}


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with local_exchange(tmp_path, "--symbols", "2", "--rate", "2", "--history", "4h") as running:
        yield running


def daemon_for(folder: Path, exchange: Exchange, *, dsn: str = "embedded", url: str = "embedded") -> Daemon:
    return Daemon(folder, exchange, {name: exchange.symbols(name) for name in TRADES_QUESTION}, dsn=dsn, url=url)


def stretch(minutes: int) -> tuple[int, int]:
    """The last so many minutes that are settled."""
    until_us = (time.time_ns() // 1000 - 30_000_000) // MINUTE_US * MINUTE_US
    return until_us - minutes * MINUTE_US, until_us


def words(from_us: int, until_us: int) -> list[str]:
    times = [datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M") for us in (from_us, until_us)]
    return ["--since", times[0], "--until", times[1]]


def asked(exchange: Exchange, name: str) -> int:
    """How often the exchange was asked for trades."""
    return int(exchange.get("status")["exchanges"][name]["requests"].get(TRADES_QUESTION[name], 0))


def assert_exact(daemon: Daemon, exchange: Exchange, name: str, symbol: str, from_us: int, until_us: int) -> int:
    """Trades and candles are those that happened, and are called covered; how many trades."""
    stored = [row for row in stored_trades(daemon, name, symbol) if from_us <= row[1] < until_us]
    truth = true_trades(exchange, name, symbol, from_us, until_us)
    assert sorted(stored) == sorted(truth)
    candles = stored_candles(daemon, name, symbol)
    assert {ts: row for ts, row in candles.items() if from_us <= ts < until_us} == true_candles(
        exchange, name, symbol, from_us, until_us
    )
    covered = daemon.query(
        """SELECT count(*) FROM ohlcvd.named_coverage WHERE exchange = %s AND symbol = %s
            AND covered @> tstzrange(to_timestamp(%s), to_timestamp(%s))""",
        name, symbol, from_us // 1_000_000, until_us // 1_000_000,
    )  # fmt: skip
    assert covered == [(2,)]
    return len(truth)


def running(daemon: Daemon, *arguments: str) -> AbstractContextManager["subprocess.Popen[str]"]:
    """The command in the background."""
    words = ["backfill", "--config", str(daemon.file), *arguments]
    return background(words, daemon.folder, signum=signal.SIGKILL)


def lines_of(daemon: Daemon, message: str) -> list[dict[str, Any]]:
    """What the command logged."""
    file = daemon.folder / "log" / "backfill.log"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if line["message"] == message]


def test_it_is_exact_and_resumes_after_an_interruption(
    tmp_path: Path, exchange: Exchange, database_url: str, redis_url: str
) -> None:
    daemon = daemon_for(tmp_path, exchange, dsn=database_url, url=redis_url)
    (tmp_path / "log").mkdir()
    from_us, until_us = stretch(120)
    kraken, binance = exchange.symbols("kraken")[0], exchange.symbols("binance")[0]
    with running(daemon, "kraken", kraken, *words(from_us, until_us)) as process:
        wait_for("it is in the middle", lambda: asked(exchange, "kraken") >= 4)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert f"kraken {kraken}: stopped at trades " in output
    assert output.endswith("; what was fetched is stored, and the same command goes on from here\n")
    assert "Traceback" not in output
    kept = len(stored_trades(daemon, "kraken", kraken))
    assert kept > 2_000
    done = daemon.command("backfill", "kraken", kraken, *words(from_us, until_us))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"kraken {kraken}: trades and candles from " in done.stdout
    trades = assert_exact(daemon, exchange, "kraken", kraken, from_us, until_us)
    assert trades > kept + 1_000
    ended = lines_of(daemon, "backfill ends")
    assert len(ended) == 2
    assert sum(line["rows"] for line in ended) <= 1.1 * (trades + 120)
    assert asked(exchange, "kraken") <= -(-trades // 1000) + 3
    # the other one, without a stop; then what is there is not fetched again
    done = daemon.command("backfill", "binance", binance, *words(from_us, until_us))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    trades = assert_exact(daemon, exchange, "binance", binance, from_us, until_us)
    requests = asked(exchange, "binance")
    assert requests <= -(-trades // 1000) + 2
    done = daemon.command("backfill", "binance", binance, *words(from_us, until_us))
    assert (done.returncode, done.stdout.split("; ")[-1]) == (0, "nothing had to be fetched\n")
    assert asked(exchange, "binance") == requests


def test_what_the_venue_does_not_give_is_said_and_is_exit_code_1(
    tmp_path: Path, exchange: Exchange, database_url: str, redis_url: str
) -> None:
    daemon = daemon_for(tmp_path, exchange, dsn=database_url, url=redis_url)
    symbol = exchange.symbols("binance")[0]
    from_us, until_us = stretch(30)
    order = ["binance", symbol, "--kind", "trades", *words(from_us, until_us)]
    assert daemon.command("backfill", *order).returncode == 0
    assert stored_candles(daemon, "binance", symbol) == {}
    daemon.query(
        """WITH lost AS (SELECT tstzrange(to_timestamp(%s), to_timestamp(%s)) AS gap), taken AS (
               UPDATE ohlcvd.coverage SET covered = covered - tstzmultirange(gap) FROM lost)
           INSERT INTO ohlcvd.unfillable
                  (instrument_id, kind, gap, asked, answered, attempts, first_at, last_at, next_at)
           SELECT id, 'trades', gap, 'trades', 'none', 3, now(), now(), now() + interval '6h'
             FROM lost, ohlcvd.instruments WHERE symbol = %s RETURNING 1""",
        from_us // 1_000_000 + 5, from_us // 1_000_000 + 7, symbol,
    )  # fmt: skip
    done = daemon.command("backfill", *order)
    assert (done.returncode, done.stderr) == (1, "")
    assert "trades are complete but for 1 gap of 2s that the venue does not give" in done.stdout


def test_beside_a_running_daemon_nothing_is_fetched_twice(
    tmp_path: Path, exchange: Exchange, database_url: str, redis_url: str
) -> None:
    daemon = daemon_for(tmp_path, exchange, dsn=database_url, url=redis_url)
    kraken, binance = exchange.symbols("kraken")[0], exchange.symbols("binance")[0]
    with started(daemon):
        daemon.wait_until_streaming()
        before = {name: asked(exchange, name) for name in TRADES_QUESTION}
        for name, symbol, minutes in (("kraken", kraken, 30), ("binance", binance, 90)):
            from_us, until_us = stretch(minutes)
            done = daemon.command("backfill", name, symbol, *words(from_us, until_us))
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            trades = assert_exact(daemon, exchange, name, symbol, from_us, until_us)
            # history reaches up to where the daemon began, and every market's first live seconds are checked
            assert asked(exchange, name) - before[name] <= -(-trades // 1000) + 5
        assert lines_of(daemon, "backfill ends") == []
        counters = {name: child["counters"] for name, child in daemon.children().items()}
        # the rows of the first snapshots were stored before, and are proved complete only by what is fetched
        assert all(counter["duplicates"] < 150 for counter in counters.values()), counters


def test_a_daemon_that_starts_meanwhile_takes_over(
    tmp_path: Path, exchange: Exchange, database_url: str, redis_url: str
) -> None:
    daemon = daemon_for(tmp_path, exchange, dsn=database_url, url=redis_url)
    (tmp_path / "log").mkdir()
    symbol = exchange.symbols("kraken")[0]
    from_us, until_us = stretch(120)
    with running(daemon, "kraken", symbol, *words(from_us, until_us)) as process:
        wait_for("it is in the middle", lambda: asked(exchange, "kraken") >= 3)
        with started(daemon):
            output, _ = process.communicate(timeout=90)
            assert process.returncode == 0, output
            trades = assert_exact(daemon, exchange, "kraken", symbol, from_us, until_us)
    (ended,) = lines_of(daemon, "backfill ends")
    assert 0 < ended["rows"] < 1.1 * trades


def test_an_embedded_server_is_started_under_the_lock_and_stopped(tmp_path: Path, exchange: Exchange) -> None:
    daemon = daemon_for(tmp_path, exchange)
    symbol = exchange.symbols("kraken")[0]
    with running(daemon, "kraken", symbol, "--since", "12h") as process:
        wait_for("it fetches", lambda: asked(exchange, "kraken") >= 2)
        process.send_signal(signal.SIGSTOP)  # not done before the others have tried, however slow they are
        refused = daemon.command("start")
        assert (refused.returncode, "already running" in refused.stderr) == (75, True), refused.stderr
        second = daemon.command("backfill", "kraken", symbol, "--since", "3h")
        assert (second.returncode, second.stdout) == (75, "")
        assert second.stderr.startswith(f"ohlcvd: process {process.pid} holds the lock in {tmp_path}/run")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "stopped at trades" in output
    assert wait_for("nothing is left", lambda: not [p for p in processes_below(tmp_path) if " simulate " not in p], 10)
    done = daemon.command("backfill", "binance", exchange.symbols("binance")[0], "--since", "10m")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("\n") == 1


def test_wrong_words_are_one_sentence(tmp_path: Path, exchange: Exchange, database_url: str, redis_url: str) -> None:
    daemon = daemon_for(tmp_path, exchange, dsn=database_url, url=redis_url)
    symbol = exchange.symbols("kraken")[0]
    for arguments, sentence in (
        (["krakn", symbol, "--since", "2h"], '"krakn" is not among the configured exchanges; did you mean kraken?'),
        (["kraken", "BTC/UDS", "--since", "2h"], 'kraken lists no "BTC/UDS"; did you mean BTC/USD?'),
        (["kraken", symbol, "--since", "2h", "--until", "3h"], "--until is not after --since"),
    ):
        done = daemon.command("backfill", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (64, "", f"ohlcvd: {sentence}\n")
    text = daemon.file.read_text().replace(f"rest_url = {exchange.url}/kraken", "rest_url = http://127.0.0.1:1/kraken")
    daemon.file.write_text(text)
    done = daemon.command("backfill", "kraken", symbol, "--since", "2h")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("ohlcvd: cannot load the markets: kraken does not give its markets: ")
    assert done.stderr.count("\n") == 1
