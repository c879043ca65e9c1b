"""The demo's daemon: a process running `ohlcvd run` in a folder of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import ohlcvd
from ohlcvd.config import Config
from ohlcvd.daemon import status
from ohlcvd.errors import ServiceUnavailable

START_S = 60.0
# The daemon's own ladder ends sooner: drain, grace, embedded servers.
STOP_S = 90.0


def ohlcvd_command(*words: str) -> list[str]:
    """The command line of another process of this same program."""
    return [sys.executable, "-P", "-m", "ohlcvd", *words]


def ohlcvd_environment() -> dict[str, str]:
    """The environment without the caller's ohlcvd settings, and with this very package."""
    prefixes = ("OHLCV_", "POSTGRES_", "REDIS_", "TRADE_COLLECTION_", "LOG_LEVEL", "PG", "NOTIFY_SOCKET")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    root = str(Path(ohlcvd.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    return environment


def write_configuration(folder: Path, url: str, symbols: Mapping[str, Sequence[str]]) -> Path:
    """A configuration for the exchanges that `url` speaks for; everything it makes stays in `folder`."""
    lines = [
        "[ohlcvd]",
        "service = both",
        f"exchanges = {', '.join(symbols)}",
        "since = 0",
        f"state_dir = {folder}/state",
        f"run_dir = {folder}/run",
        f"log_dir = {folder}/log",
        "[postgres]",
        "dsn = embedded",
        "[redis]",
        "url = embedded",
        "[http]",
        "listen =",
    ]
    for exchange, names in symbols.items():
        lines += [
            f"[exchange:{exchange}]",
            f"symbols = {', '.join(names)}",
            f"rest_url = {url}/{exchange}",
            f"ws_url = {url.replace('http', 'ws', 1)}/{exchange}",
        ]
    file = folder / "ohlcvd.conf"
    file.write_text("\n".join(lines) + "\n")
    (folder / ".env").touch()  # the caller's own .env has no say here
    return file


class DaemonProcess:
    """Starts `ohlcvd run` on entering; `stop` drains it, leaving without that ends it too."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.config = Config(file, environ={})
        self._log = folder / "run.log"
        self._log.touch()
        self._folder = folder
        self._file = file

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ohlcvd_command("run", "--config", str(self._file)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=ohlcvd_environment(),
                start_new_session=True,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def wait_until_streaming(self, children: int) -> None:
        """Return when every child streams."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServiceUnavailable(f"ohlcvd did not start: {self._log.read_text().strip()[-800:]}")
            report = status(self.config)
            if sum(child.state == "streaming" for child in report.children) == children:
                return
            time.sleep(0.2)
        raise ServiceUnavailable(f"ohlcvd is not streaming after {START_S:.0f} s: {self._log.read_text()[-800:]}")

    def stop(self) -> bool:
        """Drain and end; whether it ended by itself with code 0."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
