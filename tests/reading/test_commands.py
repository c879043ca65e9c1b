"""`ohlcvd candles`, `trades` and `export` as a user runs them: what is printed where, and with which exit code."""

import csv
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.database.support import query
from tests.process.harness import environment, ohlcvd
from tests.reading.conftest import MINUTES, Stored

COLOUR = re.compile(r"\x1b\[[0-9]+m")


def run(stored: Stored, *words: str) -> "subprocess.CompletedProcess[str]":
    return ohlcvd(words[0], "--config", str(stored.file), *words[1:], folder=stored.folder)


def shell(stored: Stored, line: str) -> "subprocess.CompletedProcess[str]":
    command = f"{sys.executable} -P -m ohlcvd --config {stored.file} {line}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=stored.folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_candles_in_every_format(stored: Stored) -> None:
    table = run(stored, "candles", "kraken", "BTC/USD", "--timeframe", "1h", "--limit", "2")
    assert (table.returncode, table.stderr) == (0, "")
    assert len(table.stdout.splitlines()) == 3
    everything = run(stored, "candles", "kraken", "BTC/USD", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(everything.stdout)))
    assert len(rows) == MINUTES
    assert rows[0] == {
        "ts": "2026-03-01 12:00:00+00", "open": "100", "high": "110", "low": "90", "close": "100", "volume": "12.5",
        "trades": "7", "source": "venue",
    }  # fmt: skip
    since = run(
        stored, "trades", "kraken", "BTC/USD", "--since", "2026-03-01T12:00:05", "--limit", "2", "--format", "json"
    )
    assert [row["ts"] for row in json.loads(since.stdout)] == ["2026-03-01T12:00:05Z", "2026-03-01T12:00:05.01Z"]
    newest = run(stored, "trades", "kraken", "BTC/USD", "--limit", "2", "--format", "json")
    assert [row["trade_id"] for row in json.loads(newest.stdout)] == ["998", "999"]


def test_a_table_is_short_unless_asked_otherwise(stored: Stored) -> None:
    assert len(run(stored, "candles", "kraken", "BTC/USD").stdout.splitlines()) == 101
    bounded = run(stored, "candles", "kraken", "BTC/USD", "--since", "2026-03-01", "--until", "2026-03-02")
    assert len(bounded.stdout.splitlines()) == 721


def test_who_stops_reading_is_no_error(stored: Stored) -> None:
    done = shell(stored, "candles kraken BTC/USD --format csv | head -n 2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "ts,open,high,low,close,volume,trades,source"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["candles", "kraken", "BTC/USDT"], 'no market "BTC/USDT" of kraken is in the database; did you mean BTC/USD?'),
        (["trades", "krakn", "BTC/USD"], 'nothing of an exchange "krakn" is in the database; did you mean kraken?'),
        (["candles", "kraken", "BTC/USD", "--timeframe", "1x"], '"1x" is not a timeframe'),
        (["candles", "kraken", "BTC/USD", "--format", "jsn"], '"jsn" is not a format; did you mean json?'),
        (["candles", "kraken", "BTC/USD", "--since", "soon"], '"soon" is not a time: give how long ago'),
        (["candles", "kraken", "BTC/USD", "--since", "1h", "--until", "2h"], "--until is not after --since"),
        (["candles", "kraken", "BTC/USD", "--plot", "--format", "csv"], "--plot draws instead of writing a format"),
        (["export", "kraken", "BTC/USD", "--format", "table"], "a table is for people"),
    ],
)
def test_wrong_words_are_one_sentence(stored: Stored, words: list[str], sentence: str) -> None:
    done = run(stored, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (64, "", 1)
    assert sentence in done.stderr


def test_a_market_without_rows_is_said(stored: Stored) -> None:
    done = run(stored, "candles", "kraken", "ETH/USD")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "ohlcvd: no candles of kraken ETH/USD are stored in this time\n"
    assert run(stored, "candles", "kraken", "ETH/USD", "--plot").stdout.endswith("no candles are stored in this time\n")


def test_without_pyarrow_one_sentence_says_what_to_install(stored: Stored) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from ohlcvd.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["--config", str(stored.file), "candles", "kraken", "BTC/USD", "--format", "parquet"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        cwd=stored.folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (64, "")
    assert "the format parquet needs pyarrow, which is not installed: pip install 'ohlcvd[arrow]'" in done.stderr


def test_a_chart_fits_the_terminal(stored: Stored) -> None:
    main, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = ["candles", "--config", str(stored.file), "kraken", "BTC/USD", "--timeframe", "1h", "--plot"]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "ohlcvd", *words],
        cwd=stored.folder, env=environment() | {"TERM": "xterm"}, stdin=side, stdout=side, stderr=side,
    ) as process:  # fmt: skip
        os.close(side)
        shown = read_all(main)
    assert process.returncode == 0, shown
    lines = COLOUR.sub("", shown).splitlines()
    assert len(lines) == 23, "one line is left for the prompt"
    assert max(map(len, lines)) <= 80
    assert lines[0] == "kraken BTC/USD 1h   last 109, opened 2026-03-02 12:00 UTC"
    assert "03-02 00:00" in lines[-1]
    assert "\x1b[32m" in shown


def read_all(fd: int) -> str:
    with os.fdopen(fd, "rb", buffering=0) as file:
        data = b""
        try:
            while piece := file.read(65_536):
                data += piece
        except OSError:  # how a terminal says that nobody is there any more
            pass
    return data.decode()


def test_export_writes_days_and_resumes(stored: Stored) -> None:
    first = run(stored, "export", "kraken", "BTC/USD", "--to", "out")
    place = stored.folder / "out" / "kraken" / "BTC-USD" / "candles-1m"
    names = ["2026-03-01.csv", "2026-03-02.incomplete.csv"]
    assert sorted(path.name for path in place.iterdir()) == names
    assert first.stdout.splitlines() == [f"out/kraken/BTC-USD/candles-1m/{name}" for name in names]
    assert "2 days written, 0 were there already; 1 of them not complete yet (2026-03-02)" in first.stderr
    lines = (place / names[0]).read_text().splitlines()
    assert (len(lines), lines[1][:22]) == (721, "2026-03-01 12:00:00+00")
    inode = (place / names[0]).stat().st_ino
    (place / ".2026-03-02.csv.part").write_text("what a killed export leaves")
    query(
        stored.conninfo,
        """UPDATE ohlcvd.coverage SET covered = covered + '{[2026-03-01 12:00+00,2026-03-03 00:00+00)}'
            WHERE kind = 'candles'""",
    )
    second = run(stored, "export", "kraken", "BTC/USD", "--to", "out")
    assert second.stderr == "ohlcvd: 1 days written, 1 were there already\n"
    assert sorted(path.name for path in place.iterdir()) == ["2026-03-01.csv", "2026-03-02.csv"]
    assert (place / names[0]).stat().st_ino == inode
    assert run(stored, "export", "kraken", "BTC/USD", "--to", "out").stdout == ""


def test_export_of_trades_and_where_it_cannot_write(stored: Stored, tmp_path: Path) -> None:
    done = run(stored, "export", "kraken", "BTC/USD", "--kind", "trades", "--format", "parquet", "--to", str(tmp_path))
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.rglob("*.parquet")
    assert file.relative_to(tmp_path) == Path("kraken/BTC-USD/trades/2026-03-01.incomplete.parquet")
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    done = run(stored, "export", "kraken", "BTC/USD", "--to", str(blocked))
    assert (done.returncode, done.stderr.count("\n")) == (69, 1)
    assert "cannot be written: Not a directory" in done.stderr
