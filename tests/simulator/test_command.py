"""`ohlcvd simulate` as a process: its one line, its end, its refusals."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def start(*flags: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "ohlcvd", "simulate", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_says_where_it_listens_and_ends_when_told(number: signal.Signals) -> None:
    with start("--port", "0", "--symbols", "50", "--rate", "20", "--fault", "binance.rest-500") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("simulator listening on http://127.0.0.1:")
        url = line.split()[3]
        assert f"kraken {url}/kraken {url.replace('http', 'ws')}/kraken" in line
        with urllib.request.urlopen(f"{url}/control/status", timeout=10) as answer:
            assert json.load(answer)["exchanges"]["kraken"]["symbols"] == 50
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--port", "99999"], "--port '99999' is not a whole number from 0 to 65535"),
        (["--rate", "-5"], "--rate '-5' is not a number above 0"),
        (["--rate", "nan"], "--rate 'nan' is not a number above 0"),
        (["--symbols", "many"], "--symbols 'many' is not a whole number from 1 to 9000"),
        (["--history", "3 days"], "--history '3 days' is not a span"),
        (["--speed", "0"], "--speed '0' is not a number above 0"),
        (["--fault", "nope"], "no fault is called 'nope'"),
        (["--replay", "/nonexistent"], "/nonexistent has no recorded frames"),
        (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1:0"),
    ],
)
def test_bad_words_are_one_sentence_and_exit_64(flags: list[str], sentence: str) -> None:
    with start(*flags) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 64
    assert sentence in err + out
    assert "Traceback" not in err
    assert len((err + out).strip().splitlines()) == 1
