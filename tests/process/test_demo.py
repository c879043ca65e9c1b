"""`ohlcvd demo` says yes only when it is true, and leaves nothing behind."""

import re
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg

from tests.process.harness import background, processes_below, wait_for


def demo(folder: Path, seconds: int) -> AbstractContextManager["subprocess.Popen[str]"]:
    """A running demo whose temporary files lie in `folder`."""
    return background(
        ["demo", "--seconds", str(seconds)], folder, signum=signal.SIGTERM, environ={"TMPDIR": str(folder)}
    )


def read_until(process: "subprocess.Popen[str]", start: str) -> str:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(start):
            return line
    raise AssertionError(f"no line starts with {start!r}: {''.join(seen)}")


def test_an_undisturbed_demo_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, 8) as process:
        output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    verdict = re.fullmatch(r"sent (\d+), stored (\d+), lost 0, duplicated 0", output.splitlines()[-1])
    assert verdict, output
    assert int(verdict[1]) == int(verdict[2]) > 500
    assert list(tmp_path.iterdir()) == []
    assert wait_for("no process is left", lambda: not processes_below(tmp_path), 10)


def test_damaged_rows_are_found_and_named(tmp_path: Path) -> None:
    row = "SELECT instrument_id, ts, trade_id FROM ohlcvd.trades ORDER BY ts DESC LIMIT 1 OFFSET {offset}"
    place = f"WHERE (instrument_id, ts, trade_id) IN ({row})"
    damages = (
        f"DELETE FROM ohlcvd.trades {place.format(offset=20)}",
        f"UPDATE ohlcvd.trades SET price = price + 0.01 {place.format(offset=30)}",
    )
    with demo(tmp_path, 8) as process:
        conninfo = read_until(process, "database: ").split('"')[1]
        with psycopg.connect(conninfo, autocommit=True) as connection:
            wait_for("enough rows", lambda: connection.execute(row.format(offset=40).encode()).fetchone())
            numbers = [connection.execute(f"{damage} RETURNING trade_id".encode()).fetchone() for damage in damages]
        output, _ = process.communicate(timeout=180)
    assert process.returncode == 1, output
    assert "lost 2, duplicated 0" in output.splitlines()[-1]
    for number in numbers:
        assert number
        assert f"trade {number[0]}: sent" in output
