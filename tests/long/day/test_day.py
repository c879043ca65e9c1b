"""A day and night of two exchanges, really run, at many times the speed: daemon, exchange, PostgreSQL and Redis.

It begins on 2025-12-31 at 06:00 (UTC), so that a day, a month and a year end in it. At midnight the logs are rotated as
logrotate does it. Afterwards all that happened is stored once, and the logs tell it in a readable number of lines.

OHLCVD_DAY_SPEED makes it slower, OHLCVD_DAY_HOURS shorter; on a busy machine it is slower by itself (`clock`).
"""

import json
import os
import re
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ohlcvd.embedded import prepare_postgres, prepare_valkey
from ohlcvd.simulator.market import MarketSettings
from tests.long.day.clock import FastClock
from tests.long.repair.market import behind
from tests.process.harness import ROOT, started, wait_for
from tests.process.sites import Site, site
from tests.servers import FAST, private_directory

SPEED = int(os.environ.get("OHLCVD_DAY_SPEED", "40"))
HOURS = float(os.environ.get("OHLCVD_DAY_HOURS", "24"))
MARKET = MarketSettings(rate=2, symbols=5, history_s=3600)
BEGIN = datetime(2025, 12, 31, 6, tzinfo=UTC)
MIDNIGHT = BEGIN.replace(hour=0) + timedelta(days=1)
MOST_LINES = 2_000
EVERY_LINE = {"time", "level", "component", "message", "pid"}
LEVELS = {"INFO", "WARNING", "ERROR"}
README = (ROOT / "README.md").read_text("utf-8")

Line = dict[str, Any]


def us_of(moment: datetime) -> int:
    return round(moment.timestamp()) * 1_000_000


def test_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        private_directory() as folder,
        FastClock(folder, SPEED, us_of(BEGIN)) as clock,
        clock.running(prepare_postgres(folder / "p", settings=FAST)) as dsn,
        clock.running(prepare_valkey(folder / "r")) as url,
        monkeypatch.context() as patch,
    ):
        for name, value in clock.environ.items():
            patch.setenv(name, value)  # for whatever is started from here on
        with site(tmp_path, dsn, url, settings=MARKET) as here, started(here.daemon):
            from_us, to_us = the_day(here, clock)
            check_rows(here, from_us, to_us)
            check_partitions(here, to_us)
            print(f"the clock stood still for {clock.held_s():.0f} s")
            print(wait_for("status says that all is well", lambda: status_if_well(here)))
    check_logs(tmp_path / "log", HOURS)


def the_day(here: Site, clock: FastClock) -> tuple[int, int]:
    """Nothing is done to it but the rotation; from when to when everything must be there."""
    here.daemon.wait_until_streaming()
    from_us = clock.now_us()
    end_us = us_of(BEGIN + timedelta(hours=HOURS))
    if us_of(MIDNIGHT) < end_us:
        clock.sleep_until(us_of(MIDNIGHT))
        rotate(here)
    clock.sleep_until(end_us)
    to_us = clock.now_us()
    wait_for("all of it is claimed to be there", lambda: not behind(here.daemon, from_us, to_us))
    return from_us, to_us


def status_if_well(here: Site) -> str | None:
    told = here.daemon.command("status").stdout
    return told if "\nwell: " in told else None


def rotate(here: Site) -> None:
    for file in (here.daemon.folder / "log").glob("*.log"):
        file.rename(file.with_suffix(".log.1"))
    os.kill(int((here.daemon.folder / "run" / "ohlcvd.lock").read_text().split()[0]), signal.SIGUSR1)


def check_rows(here: Site, from_us: int, to_us: int) -> None:
    figures = here.truth.figures(here.daemon, from_us, to_us)
    print(f"{(to_us - from_us) / 3.6e9:.2f} h: {figures}")
    assert figures.are_zeros, figures
    assert figures.trades > 0.9 * 2 * MARKET.rate * (to_us - from_us) / 1e6


def check_partitions(here: Site, to_us: int) -> None:
    """One for each day and for the morrow, with that day's rows and no others; yesterday's is closed."""
    rows = here.daemon.query(
        """SELECT c.relname, obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid
            WHERE inhparent = 'ohlcvd.trades'::regclass"""
    )
    comments = dict(rows)
    today = datetime.fromtimestamp(to_us / 1e6, UTC).date()
    days = {BEGIN.date() + timedelta(n) for n in range((today - BEGIN.date()).days + 2)}
    assert set(comments) == {f"trades_{day:%Y%m%d}" for day in days} | {"trades_default"}
    found = here.daemon.query(
        """SELECT relname, (ts AT TIME ZONE 'UTC')::date, count(*)
             FROM ohlcvd.trades t JOIN pg_class c ON c.oid = t.tableoid GROUP BY 1, 2"""
    )
    print("; ".join(f"{table}: {count:,} of {day}" for table, day, count in sorted(found)))
    assert {table for table, _, _ in found} == {f"trades_{day:%Y%m%d}" for _, day, _ in found}
    assert len(found) == (today - BEGIN.date()).days + 1
    if to_us > us_of(MIDNIGHT + timedelta(hours=3)):
        assert str(comments[f"trades_{BEGIN:%Y%m%d}"]).startswith("closed at "), comments


def check_logs(folder: Path, hours: float) -> None:
    """Every line is JSON with the documented fields; INFO is a readable number of them, and a story of every minute."""
    lines = [
        (file.name, json.loads(line))
        for file in sorted(folder.glob("*.log*"))
        for line in file.read_text("utf-8").splitlines()
    ]
    for level in sorted(LEVELS):
        found = Counter(name for name, line in lines if line["level"] == level)
        print(f"{level}: {found.total():,} lines: {dict(found)}")
    for message, count in Counter(re.sub(r"[0-9][0-9.,]*", "N", line["message"]) for _, line in lines).most_common(25):
        print(f"{count:6}  {message[:110]}")
    for _, line in lines:
        check_line(line)
    story = [line for _, line in lines if line["level"] == "INFO"]
    assert len(story) < MOST_LINES * hours / 24 + 60
    minutes = [line for line in story if line["message"].startswith("in the last minute: ")]
    assert 60 * hours * 0.98 - 2 <= len(minutes) <= 60 * hours + 1, len(minutes)
    assert all(set(line["exchanges"]) == {"kraken", "binance"} for line in minutes)


def check_line(line: Line) -> None:
    documented = set(re.findall(r"`(\w+)`", README[README.index("| field | is |") : README.index("Exit codes:")]))
    assert set(line) >= EVERY_LINE, line
    assert line["level"] in LEVELS, line
    moment = datetime.fromisoformat(line["time"])
    assert BEGIN <= moment < BEGIN + timedelta(hours=HOURS + 12), line
    assert isinstance(line["pid"], int), line
    assert line["component"].startswith(("ohlcvd", "asyncio")), line
    for name, value in line.items():
        if name == "exchanges":
            assert all(set(numbers) <= documented for numbers in value.values()), line
        else:  # the numbers of the message, or names
            assert isinstance(value, int | float | str | list | None), line
