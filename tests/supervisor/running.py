"""A real supervisor in a process of its own, and the patience to wait for what it does."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ohlcvd.supervisor.control import ask
from ohlcvd.supervisor.lock import start_ticks

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180.0


def wait_for(what: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """What `what` gives as soon as it is true. AssertionError if that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)
    return value


def alive(pid: int) -> bool:
    """There is such a process, and it is not a zombie."""
    return start_ticks(pid) is not None


class Running:
    """One supervisor process and its folder."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process, self.folder = process, folder

    def status(self) -> dict[str, Any]:
        return ask(self.folder, {"command": "status"})

    def child(self, name: str) -> dict[str, Any]:
        members = [*self.status()["children"], *self.status()["servers"]]
        found: dict[str, Any] = next(member for member in members if member["name"] == name)
        return found

    def pid(self, name: str) -> int:
        return int(self.child(name)["pid"] or 0)

    def wait_state(self, name: str, state: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The child as soon as it is in this state."""
        return wait_for(lambda: row if (row := self.child(name))["state"] == state else None, timeout_s) or {}

    def starts(self, name: str | None = None) -> list[float]:
        """When children began, by their own monotonic clocks, in order."""
        try:
            rows = [line.split() for line in (self.folder / "starts").read_text().splitlines()]
        except FileNotFoundError:
            return []
        return sorted(float(at) for child, _, at in rows if name in (None, child))

    def pids(self) -> list[int]:
        """Every process that this supervisor has as a child."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "ohlcvd.log").read_text().splitlines()]

    def messages(self) -> list[str]:
        return [str(line["message"]) for line in self.log()]

    def said_s(self, words: str) -> float:
        """How long after the start of its process (by its log) a line with these words was logged."""
        lines = self.log()
        index = next(index for index, line in enumerate(lines) if words in line["message"])
        name = str(lines[index]["message"]).split()[0]
        start = next(line for line in reversed(lines[:index]) if line["message"].startswith(f"{name} started"))
        times = [datetime.fromisoformat(line["time"]).timestamp() for line in (start, lines[index])]
        return times[1] - times[0]

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def end(self, signum: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        """Send a signal and wait for the exit code."""
        self.send(signum)
        return self.process.wait(timeout_s)


@contextmanager
def supervisor(environ: Mapping[str, str] | None = None, **options: object) -> Iterator[Running]:
    """Run `program.py`; kill whatever is left of it at the end."""
    with tempfile.TemporaryDirectory(prefix="ohlcvd-supervisor-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "tests.supervisor.program", name, json.dumps(options)]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error", **(environ or {})})
        running = Running(process, folder)
        try:
            wait_for(lambda: process.poll() is not None or "supervisor is up" in _text(folder / "ohlcvd.log"))
            yield running
        finally:
            if process.poll() is None:
                family = running.pids()
                process.kill()
                process.wait()
                wait_for(lambda: not any(alive(pid) for pid in family))


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
