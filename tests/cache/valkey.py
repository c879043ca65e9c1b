"""A Valkey of its own for one test, to be killed, stopped and started again at the same address."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis

from ohlcvd.embedded.binaries import find_valkey
from tests.servers import private_directory
from tests.waiting import wait_until


class Valkey:
    """Use `start` first. `path` is its unix socket, `port` its TCP port on the loopback, if it has one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "valkey.sock"
        self.port = 0
        self.url = f"unix://{self.path}"
        self._binary = find_valkey("any")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, tcp: bool = False) -> None:
        """Returns when it accepts connections. Another process may take the free port first: then the next one."""
        while True:
            self.port = free_port() if tcp else 0
            command: list[str | Path] = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
            command += ["--unixsocket", self.path, "--dir", self.path.parent, *options]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wait_until(lambda: self._is_listening() or self._has_ended(), "valkey listens or gives up")
            if not self._has_ended():
                return

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _is_listening(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.path)) == 0

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.path.unlink(missing_ok=True)

    def ask(self, *words: str | bytes | int, password: str | None = None, db: int = 0) -> object:
        """One command's answer, decoded, by another client than the one under test."""
        with redis.Redis(unix_socket_path=str(self.path), password=password, db=db, decode_responses=True) as client:
            answer: object = client.execute_command(*words)
            return answer

    def rows(self, key: str) -> Sequence[str]:
        """The `rows` field of every entry of a stream, oldest first."""
        with redis.Redis(unix_socket_path=str(self.path), decode_responses=True) as client:
            return [fields["rows"] for _, fields in client.xrange(key)]


@contextmanager
def new_valkey() -> Iterator[Valkey]:
    """Not started yet, gone afterwards."""
    with private_directory() as folder:
        server = Valkey(folder)
        try:
            yield server
        finally:
            server.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
