"""Running one program to its end."""

import os
import signal
from pathlib import Path

import pytest

from ohlcvd.embedded.lock import DirectoryLock
from ohlcvd.embedded.process import Program, last_lines, run_to_end
from ohlcvd.errors import EmbeddedServerError
from tests.servers import run_as


def run(script: str, folder: Path, timeout_s: float = 20.0) -> int:
    lock = DirectoryLock(folder / "x.lock")
    fd = lock.duplicate()
    try:
        program = Program(("/bin/sh", "-c", script), folder / "x.log", signal.SIGTERM, None)
        return run_to_end(program, fd, b"first line\n", timeout_s)
    finally:
        lock.release()
        os.close(fd)


def test_status_input_and_output(tmp_path: Path) -> None:
    assert run("cat; echo wrong >&2; exit 3", tmp_path) == 3
    assert last_lines(tmp_path / "x.log") == "first line | wrong"
    assert run("kill -9 $$", tmp_path) == -signal.SIGKILL


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"/bin/sh did not end within 0\.2 s; see .*x\.log"):
        run("exec sleep 60", tmp_path, timeout_s=0.2)


def test_an_unknown_end_is_no_success(tmp_path: Path) -> None:
    def look() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps, and nobody learns the status
        assert run("true", tmp_path) == 255

    run_as(os.geteuid(), look)
