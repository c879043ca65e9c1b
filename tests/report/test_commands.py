"""`ohlcvd gaps` and `ohlcvd verify` as a user runs them: what is printed where, and with which exit code."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ohlcvd.database import Database
from ohlcvd.market import MINUTE_US, Instrument
from tests.database.support import NOON_US, candle, query, trade, writing
from tests.exchange.support import simulator
from tests.process.harness import Daemon, local_exchange, ohlcvd, started, wait_for
from tests.report.test_verify import fill
from tests.servers import private_directory


@pytest.fixture
def folder() -> Iterator[Path]:
    with private_directory() as path:
        (path / ".env").touch()
        yield path


def configuration(folder: Path, dsn: str, url: str = "http://127.0.0.1:1") -> Path:
    """With an exchange that nobody answers for, unless told otherwise."""
    lines = ["[ohlcvd]", "exchanges = kraken", *(f"{name}_dir = {folder}/{name}" for name in ("state", "run", "log"))]
    lines += [
        "[postgres]",
        f"dsn = {dsn}",
        "[redis]",
        "url = embedded",
        "[exchange:kraken]",
        f"rest_url = {url}/kraken",
    ]
    file = folder / "my.conf"
    file.write_text("\n".join(lines) + "\n")
    return file


async def run(file: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(ohlcvd, words[0], "--config", str(file), *words[1:], folder=file.parent)


async def test_gaps_are_shown_and_are_exit_code_1(database: Database, instrument: Instrument, folder: Path) -> None:
    file = configuration(folder, database.conninfo)
    done = await run(file, "gaps")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing is missing, for nothing was collected yet\n", "")
    async with writing(database) as writer:
        for start in (0, 2):
            writer.cover(instrument, "trades", NOON_US + start * MINUTE_US, NOON_US + (start + 1) * MINUTE_US)
        assert await writer.drain(10)
    done = await run(file, "gaps", "kraken", "BTC/USD")
    assert (done.returncode, done.stderr) == (1, "")
    assert "kraken    BTC/USD  trades  2026-03-01 12:01:00  2026-03-01 12:02:00      1m  not yet fetched" in done.stdout
    done = await run(file, "gaps", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, len(document["gaps"]), document["gaps"][0]["length_s"]) == (1, 1, 60.0)
    done = await run(file, "gaps", "krakn")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == 'ohlcvd: nothing of an exchange "krakn" is in the database; did you mean kraken?\n'


async def test_a_database_that_cannot_be_read_is_exit_code_69(database_url: str, folder: Path) -> None:
    for dsn, sentence in (
        (f"host={folder} dbname=none", "ohlcvd: PostgreSQL cannot be reached for reading: "),
        (database_url, "ohlcvd: the database has no tables of ohlcvd yet: start ohlcvd once"),
        (
            "embedded",
            f"ohlcvd: the embedded PostgreSQL is not there: ohlcvd is not running (in {folder}/run); start it",
        ),
    ):
        for words in (("gaps",), ("verify", "kraken", "BTC/USD")):
            done = await run(configuration(folder, dsn), *words)
            assert (done.returncode, done.stdout) == (69, ""), done.stderr
            assert done.stderr.startswith(sentence)
            assert done.stderr.count("\n") == 1


async def test_verify_asks_the_venue_and_names_what_differs(database: Database, folder: Path) -> None:
    async with simulator(symbols=2, rate=4) as running:
        file = configuration(folder, database.conninfo, running.rest_url("kraken").removesuffix("/kraken"))
        symbol = next(iter(running.venues["kraken"].listings))
        instrument = (await database.instruments("kraken", [symbol]))[symbol]
        first_us, _ = await fill(database, running, instrument, span=6)
        done = await run(file, "verify", "kraken", symbol, "--since", "1h")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        lines = done.stdout.splitlines()
        count = int(lines[-1].split()[2].rstrip(","))
        assert lines[-1] == f"minutes compared {count}, equal {count}, different 0"
        assert count >= 5
        assert f"with the venue's candles {count:>8} {count:>6} {0:>10} {0:>10}" in done.stdout
        query(
            database.conninfo,
            """UPDATE ohlcvd.trades SET price = price * 2 WHERE ts = (SELECT min(ts) FROM ohlcvd.trades
                WHERE ts >= 'epoch'::timestamptz + %s * interval '1 us')""",
            [first_us],
        )
        done = await run(file, "verify", "kraken", symbol)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.count(" differs\n") == 1
        assert "  stored (venue)  " in done.stdout
        assert "  venue  " in done.stdout
        assert done.stdout.endswith(f"minutes compared {count}, equal {count - 1}, different 1\n")


async def test_a_venue_out_of_reach_is_said_and_the_rest_is_compared(
    database: Database, instrument: Instrument, folder: Path
) -> None:
    async with writing(database) as writer:
        writer.add_trades(instrument, [trade(0, price="100")])
        writer.add_candles(instrument, [candle(0, "100", open="100", high="100", low="100", volume="0.0001", trades=1)])
        for kind in ("trades", "candles"):
            writer.cover(instrument, kind, NOON_US, NOON_US + 2 * MINUTE_US)
        assert await writer.drain(10)
    file = configuration(folder, database.conninfo)
    done = await run(file, "verify", "kraken", "BTC/USD")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the venue's candles are not compared: cannot load the markets" in done.stdout
    assert done.stdout.endswith("minutes compared 2, equal 2, different 0\n")
    done = await run(file, "verify", "kraken", "BTC/USD", "--since", "soon")
    assert (done.returncode, done.stdout) == (64, "")
    assert 'argument --since: "soon" is not a time: give how long ago (90m, 2h, 3d)' in done.stderr


def test_the_embedded_database_is_asked_where_it_runs(folder: Path) -> None:
    with local_exchange(folder, "--symbols", "2", "--rate", "4") as exchange:
        markets = {"kraken": exchange.symbols("kraken")}
        with started(Daemon(folder, exchange, markets, dsn="embedded", url="embedded")) as daemon:
            done = wait_for(
                "the child has told its markets",
                lambda: answer if (answer := daemon.command("gaps", "kraken")).returncode != 64 else None,
            )
            # Right after the start, nothing is covered yet of what is wanted from now on.
            assert (done.returncode, done.stderr) in ((0, ""), (1, ""))
            assert "nothing is missing" in done.stdout or "not yet fetched" in done.stdout
            supervisor = daemon.status()["pid"]
            os.kill(supervisor, signal.SIGSTOP)
            try:
                assert daemon.command("gaps", "kraken").returncode in (0, 1), "it needs nobody but the database"
            finally:
                os.kill(supervisor, signal.SIGCONT)
