"""Time that runs many times as fast, for the processes of one test: really, below Python, by a preloaded library.

What takes the machine a moment takes `speed` times as long as the processes see it. So the clock runs only while a
thread of ours gets its turn: when the machine is too busy for that, it is too busy for the processes, and time waits.
"""

import mmap
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from ohlcvd.embedded import EmbeddedServer, running
from tests.beside import Beside

SOURCE: Final = Path(__file__).parent / "clock.c"
TURN_S: Final = 0.001
# Without a turn the clock runs on for this long.
MOST_NS: Final = 2_000_000
_PAGE: Final = struct.Struct("=7q")
_ENTRY: Final = struct.Struct("=q")


class FastClock(Beside):
    """Inside the block, `wall_us` (microseconds since 1970) and onwards with `speed`. `environ` is for processes.

    Where that is allowed, what is started in the block comes before whatever else the machine does.
    The library and the clock go into `folder`, which others must be able to enter: servers are not run by root.
    """

    def __init__(self, folder: Path, speed: int, wall_us: int) -> None:
        super().__init__()
        compiler = shutil.which("cc")
        assert compiler, "a fast clock needs a C compiler: apt install gcc libc6-dev"
        library, file = folder / "clock.so", folder / "clock"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE], check=True
        )
        self.speed = speed
        self.environ = {"LD_PRELOAD": str(library), "FAST_CLOCK": str(file)}
        self._began_ns = self._at_ns = time.monotonic_ns()
        self._wall_us = wall_us
        self._passed_ns = 0
        self._entries = 0
        file.write_bytes(_PAGE.pack(0, self._at_ns, 0, MOST_NS, speed, self._at_ns, wall_us * 1000))
        for path in (library, file):
            path.chmod(0o755)
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 0)

    def __enter__(self) -> Self:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        return super().__enter__()

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

    def now_us(self) -> int:
        """What the processes' wall clock shows."""
        return self._wall_us + self._passed_ns // 1000

    def held_s(self) -> float:
        """For how much real time the clock stood still, because the machine was busy."""
        return (self._at_ns - self._began_ns) / 1e9 - self._passed_ns / self.speed / 1e9

    def program(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The same program with this clock, where the environment cannot be given."""
        env = shutil.which("env")
        assert env is not None
        return (env, *(f"{name}={value}" for name, value in self.environ.items()), *argv)

    @contextmanager
    def running(self, server: EmbeddedServer) -> Iterator[str]:
        """A server with this clock; its address."""
        server.program = replace(server.program, argv=self.program(server.program.argv))
        with running(server):
            yield server.address

    def sleep_until(self, wall_us: int) -> None:
        """Until the processes' clock shows this."""
        while (left_us := wall_us - self.now_us()) > 0:
            time.sleep(min(1.0, left_us / 1e6 / self.speed))

    def _run(self) -> None:
        """What began with an odd entry and ends with the next even one is read whole or not at all."""
        while not self._ended.is_set():
            time.sleep(TURN_S)
            now_ns = time.monotonic_ns()
            self._passed_ns += self.speed * min(now_ns - self._at_ns, MOST_NS)
            self._at_ns = now_ns
            _ENTRY.pack_into(self._page, 0, self._entries + 1)
            struct.pack_into("=2q", self._page, 8, now_ns, self._passed_ns)
            self._entries += 2
            _ENTRY.pack_into(self._page, 0, self._entries)
