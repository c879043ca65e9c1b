"""`status --watch` as a user has it: in place on a terminal, which it gives back; one after the other elsewhere."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ohlcvd.errors import Exit
from ohlcvd.watch import stop_signals

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0
ENTER, LEAVE, HOME = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """`status --watch` of a service that does not run."""
    file = tmp_path / "ohlcvd.conf"
    lines = ["[ohlcvd]", "exchanges = kraken", "symbols = BTC/USD"]
    file.write_text("\n".join([*lines, *(f"{name}_dir = {tmp_path}/{name}" for name in ("state", "run", "log"))]))
    return [sys.executable, "-P", "-m", "ohlcvd", "status", "--watch", "--config", str(file)]


@contextmanager
def started(command: list[str], stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def read_until(fd: int, words: str, count: int = 1) -> str:
    """What is written up to the `count`-th time of these words."""
    text, deadline = "", time.monotonic() + PATIENCE_S
    while text.count(words) < count:
        assert time.monotonic() < deadline, f"not written: {words!r} in {text!r}"
        if select.select([fd], [], [], 1.0)[0]:
            text += os.read(fd, 65536).decode()
    return text


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_in_place_on_a_terminal_that_is_given_back(command: list[str], signum: signal.Signals) -> None:
    ours, theirs = pty.openpty()
    try:
        with started(command, theirs) as process:
            shown = read_until(ours, HOME, 2)
            assert shown.startswith(ENTER)
            assert "ohlcvd: not running" in shown
            assert "\x1b[2J" not in shown  # cleared screens flicker
            process.send_signal(signum)
            assert read_until(ours, LEAVE).endswith(LEAVE)
            assert process.wait(PATIENCE_S) == Exit.NOT_RUNNING
    finally:
        os.close(ours)
        os.close(theirs)


def test_elsewhere_one_after_the_other_and_as_json_one_a_line(command: list[str]) -> None:
    for words, wanted in (([], "ohlcvd: not running\n\n"), (["--json"], "\n")):
        ours, theirs = os.pipe()
        try:
            with started([*command, *words], theirs) as process:
                shown = read_until(ours, wanted, 2)
                assert "\x1b" not in shown
                if words:
                    assert json.loads(shown.splitlines()[1])["state"] == "not running"
                process.send_signal(signal.SIGINT)
                assert process.wait(PATIENCE_S) == Exit.NOT_RUNNING
        finally:
            os.close(ours)
            os.close(theirs)


def test_a_signal_may_come_at_any_instruction_of_the_wait() -> None:
    with stop_signals() as stop:
        assert not stop.wait(0.0)
        before = signal.signal(signal.SIGALRM, lambda *_: stop.set())
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                stop.wait(0.0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
        assert stop.wait(0.0)
        assert stop.is_set()
