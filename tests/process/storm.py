"""Random faults, one after the other, on a real daemon: kill, stop, cut, reload with changes, log rotation.

The seed decides which, on whom, and what changes; OHLCVD_TEST_SEED repeats a run. `settle` puts the whole configuration
back, and whoever called compares.
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ohlcvd.supervisor.control import ask
from tests.process.harness import Daemon, Exchange, wait_for

HANG_AFTER_S = 3
SEED = "OHLCVD_TEST_SEED"


def chosen_seed() -> int:
    """The one asked for, or another one every time."""
    return int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))


@dataclass(frozen=True, slots=True)
class Figures:
    """What a process has used up. Memory is what it has written, also where processes that it forked share it still:
    how much they do changes with their age."""

    fds: int
    anonymous_kb: int
    cpu_s: float
    at_s: float


def figures_of(pid: int) -> Figures:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    anonymous_kb = next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Figures(len(os.listdir(f"/proc/{pid}/fd")), anonymous_kb, cpu_s, time.monotonic())


class Storm:
    """Faults for one daemon that is running."""

    def __init__(self, daemon: Daemon, exchange: Exchange, seed: int) -> None:
        self.daemon, self.exchange = daemon, exchange
        self.done: Counter[str] = Counter()
        self.symbols = {name: exchange.symbols(name) for name in ("kraken", "binance")}
        self._random = random.Random(seed)
        self._off: dict[str, str] = {}  # by exchange: the symbol that is not configured now
        self._shards = 1
        self._level = "INFO"
        self._rotations = 0
        self._text = daemon.file.read_text().replace("[ohlcvd]\n", f"[ohlcvd]\nhang_after = {HANG_AFTER_S}s\n")
        self._faults: list[Callable[[], None]] = [self.kill, self.stop, self.pause, self.cut, self.reload, self.rotate]
        self._write()

    def supervisor(self) -> int:
        return int(self._status()["pid"])

    def children(self) -> dict[str, dict[str, Any]]:
        return {child["name"]: child for child in self._status()["children"] if child["collects"]}

    def strike(self) -> None:
        """One fault."""
        fault = self._random.choice(self._faults)
        fault()
        self.done[fault.__name__] += 1

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Until the supervisor kills it."""
        self._signal(signal.SIGSTOP)

    def pause(self) -> None:
        """Too short for a hang."""
        pid = self._signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(0.1, 1.0))
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def cut(self) -> None:
        fault = self._random.choice(["cut", "close"])
        self.exchange.post("fault", {"fault": fault, "exchange": self._random.choice(list(self.symbols))})

    def reload(self) -> None:
        """A symbol less or more, more or less in the logs, another number of shards; by request or by signal."""
        change = self._random.choice(["symbol", "symbol", "level", "shards"])
        name = self._random.choice(list(self.symbols))
        if change == "level":
            self._level = "DEBUG" if self._level == "INFO" else "INFO"
        elif change == "shards":
            self._shards = 3 - self._shards
        elif self._off.pop(name, None) is None:
            self._off[name] = self._random.choice(self.symbols[name])
        self._write()
        if self._random.random() < 0.5:
            os.kill(self.supervisor(), signal.SIGHUP)
        else:
            self._ask_to_reload()

    def rotate(self) -> None:
        self._rotations += 1
        for file in (self.daemon.folder / "log").glob("*.log"):
            file.rename(file.with_name(f"{file.name}.{self._rotations}"))
        os.kill(self.supervisor(), signal.SIGUSR1)

    def settle(self) -> None:
        """The whole configuration again, and everything streams."""
        self._off.clear()
        self._shards, self._level = 1, "INFO"
        self._write()
        self._ask_to_reload()
        wait_for("both exchanges stream", self._is_streaming, 120)

    def _is_streaming(self) -> bool:
        children = self.children()
        return set(children) == set(self.symbols) and {c["state"] for c in children.values()} == {"streaming"}

    def _signal(self, signum: int) -> int | None:
        pid: int | None = self._random.choice(list(self.children().values()))["pid"]
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        return pid

    def _write(self) -> None:
        text = self._text.replace("[ohlcvd]\n", f"[ohlcvd]\nlog_level = {self._level}\n")
        for name, symbols in self.symbols.items():
            head, section, tail = text.partition(f"[exchange:{name}]\n")
            kept = [symbol for symbol in symbols if symbol != self._off.get(name)]
            tail = tail.replace(", ".join(symbols), ", ".join(kept), 1)
            text = head + section + (f"shards = {self._shards}\n" if name == "binance" else "") + tail
        self.daemon.file.write_text(text)

    def _ask_to_reload(self) -> None:
        answer = ask(self.daemon.folder / "run", {"command": "reload"}, 60.0)
        assert "error" not in answer, answer

    def _status(self) -> dict[str, Any]:
        return ask(self.daemon.folder / "run", {"command": "status"}, 30.0)
