"""The lock: held or not is the kernel's word; what the file says is only a name."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ohlcvd.errors import AlreadyRunning
from ohlcvd.supervisor.lock import LOCK_NAME, ServiceLock, look, start_ticks
from tests.supervisor.running import ROOT, wait_for

HOLD = """
import sys, time
from pathlib import Path
from ohlcvd.supervisor.lock import ServiceLock
lock = ServiceLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen[bytes]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    process.stdout.close()
    return process


def test_held_lock_names_its_holder(tmp_path: Path) -> None:
    assert look(tmp_path) == (False, False, None)
    process = hold(tmp_path)
    try:
        state = look(tmp_path)
        assert state.held
        assert state.holder is not None
        assert state.holder.pid == process.pid
        with pytest.raises(AlreadyRunning, match=f"process {process.pid} holds .*{LOCK_NAME} since 20"):
            ServiceLock(tmp_path)
    finally:
        process.kill()
        process.wait()
    assert look(tmp_path) == (False, True, None)
    with ServiceLock(tmp_path):
        assert look(tmp_path).holder is not None
    assert look(tmp_path) == (False, False, None)


def test_a_live_stranger_in_the_file_does_not_matter(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / LOCK_NAME).write_text(f"{stranger.pid} {start_ticks(stranger.pid)} 2026-01-01T00:00:00Z\n")
        assert look(tmp_path) == (False, True, None)
        with ServiceLock(tmp_path):
            state = look(tmp_path)
            assert state.holder is not None
            assert state.holder.pid == os.getpid()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_pid_with_another_start_time_is_another_process(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        ticks = start_ticks(os.getpid())
        assert ticks is not None
        (tmp_path / LOCK_NAME).write_text(f"{os.getpid()} {ticks - 1} 2026-01-01T00:00:00Z\n")
        assert look(tmp_path) == (True, False, None)
        with pytest.raises(AlreadyRunning, match="another process holds"):
            ServiceLock(tmp_path)
    finally:
        process.kill()
        process.wait()


def test_start_ticks_of_the_dead_and_of_odd_names(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(odd), "60"])
    try:
        before = start_ticks(os.getpid())
        wait_for(lambda: start_ticks(process.pid))
        assert before is not None
        assert (start_ticks(process.pid) or 0) >= before
        process.send_signal(signal.SIGKILL)
        wait_for(lambda: start_ticks(process.pid) is None)  # a zombie is no process any more
    finally:
        process.wait()
    assert start_ticks(process.pid) is None
