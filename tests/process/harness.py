"""The real daemon against the local exchange, for tests that kill, stop and cut real things.

Every command runs as a process of its own, as a user would run it; only what is asked
again and again while a test waits is asked in this process. Waiting is for conditions, with generous deadlines.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import psycopg
import redis

from ohlcvd import daemon as service
from ohlcvd.config import Config
from ohlcvd.supervisor.control import ask

ROOT = Path(__file__).parent.parent.parent
T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T | None], timeout_s: float = 180.0, every_s: float = 0.1) -> T:
    """The first true value of `condition`; AssertionError with `what` after the deadline. A condition that starts a
    process is asked less often: the processor is shared."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(every_s)


def environment() -> dict[str, str]:
    """Ours without settings that would reach the daemon."""
    prefixes = ("OHLCV_", "POSTGRES_", "REDIS_", "PG", "LOG_LEVEL", "TRADE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return kept | {"PYTHONPATH": str(ROOT)}


def ohlcvd(
    *words: str, folder: Path, timeout_s: float = 120.0, environ: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "ohlcvd", *words],
        cwd=folder,
        env=environment() | dict(environ or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@contextlib.contextmanager
def background(
    words: Sequence[str], folder: Path, *, signum: int, environ: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """One command, its output to be read; if it still runs afterwards it is ended with this signal."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ohlcvd", *words],
        cwd=folder,
        env=environment() | dict(environ or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signum)
        process.communicate(timeout=120)


class Exchange:
    """A local exchange in a process of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = (folder / "simulate.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ohlcvd", "simulate", "--port", "0", *words],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "http://" in line, (line, (folder / "simulate.log").read_text())
        self.url = next(word for word in line.split() if word.startswith("http://")).rstrip("/")

    def get(self, name: str, **words: object) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/control/{name}?{urlencode(words)}", timeout=60) as answer:
            document: dict[str, Any] = json.load(answer)
        return document

    def post(self, name: str, document: Mapping[str, object] | None = None) -> dict[str, Any]:
        body = json.dumps(document or {}).encode()
        request = urllib.request.Request(
            f"{self.url}/control/{name}", body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answered: dict[str, Any] = json.load(answer)
        return answered

    def symbols(self, exchange: str) -> list[str]:
        return list(self.get("sent", exchange=exchange)["symbols"])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


@contextlib.contextmanager
def local_exchange(folder: Path, *words: str) -> Iterator[Exchange]:
    """An exchange that is ended afterwards."""
    exchange = Exchange(folder, *words)
    try:
        yield exchange
    finally:
        exchange.close()


class Daemon:
    """A configuration in a folder, and the commands run against it."""

    def __init__(
        self,
        folder: Path,
        exchange: Exchange,
        symbols: Mapping[str, list[str]],
        *,
        dsn: str,
        url: str,
        service: str = "both",
        extra: str = "",
        since: str = "0",
        listen: str = "",
        rest_url: str | None = None,
        ws_url: str | None = None,
    ) -> None:
        """`rest_url`, `ws_url`: the exchange's, unless something stands between it and the daemon."""
        self.folder = folder
        self.environ: dict[str, str] = {}  # for its commands, and what they start
        self.file = folder / "ohlcvd.conf"
        self.dsn = dsn
        self.url = url
        (folder / ".env").touch()
        lines = ["[ohlcvd]", f"service = {service}", f"exchanges = {', '.join(symbols)}", f"since = {since}"]
        lines += [f"{name}_dir = {folder}/{name}" for name in ("state", "run", "log")]
        lines += ["[postgres]", f"dsn = {dsn}", "[redis]", f"url = {url}", "[http]", f"listen = {listen}"]
        rest_url, ws_url = rest_url or exchange.url, ws_url or exchange.url.replace("http", "ws")
        for name, names in symbols.items():
            lines += [f"[exchange:{name}]", f"symbols = {', '.join(names)}"]
            lines += [f"rest_url = {rest_url}/{name}", f"ws_url = {ws_url}/{name}"]
        self.file.write_text("\n".join(lines) + "\n" + extra)

    def command(self, name: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return ohlcvd(name, "--config", str(self.file), *words, folder=self.folder, environ=self.environ)

    def status(self) -> dict[str, Any]:
        """What `status --json` prints, without a process for every look: waiting would keep a core busy."""
        report = service.status(Config(self.file, environ={}, cwd=self.folder))
        document: dict[str, Any] = json.loads(json.dumps(report.as_dict()))
        return document

    def children(self) -> dict[str, dict[str, Any]]:
        """The collecting children, as the supervisor knows them; none while it does not answer."""
        try:
            document: Any = ask(self.folder / "run", {"command": "status"}, 30.0)
        except (OSError, ValueError):
            return {}
        return {child["name"]: child for child in document["children"] if child["name"] != "monitor"}

    def wait_until_streaming(self) -> None:
        wait_for(
            "every child streams",
            lambda: (children := self.children()) and all(c["state"] == "streaming" for c in children.values()),
        )

    def query(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(sql, arguments).fetchall()

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url)

    def warnings(self) -> str:
        """The last warnings and errors of its logs."""
        files = sorted((self.folder / "log").glob("*.log"))
        lines = [line for file in files for line in file.read_text().splitlines()]
        return "\n".join([line for line in lines if '"DEBUG"' not in line and '"INFO"' not in line][-15:])

    def logs(self) -> str:
        return "".join(file.read_text()[-3000:] for file in sorted((self.folder / "log").glob("*.log")))


@contextlib.contextmanager
def started(daemon: Daemon) -> Iterator[Daemon]:
    """Start it, and stop it whatever happens."""
    answer = daemon.command("start")
    assert answer.returncode == 0, answer.stderr + answer.stdout
    try:
        yield daemon
    finally:
        daemon.command("stop")


def title_of(pid: int) -> str:
    """The process title as `ps` shows it."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def processes_below(folder: Path) -> list[str]:
    """Command lines of processes that work in `folder` or name it: what must be gone after a stop."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = os.readlink(entry / "cwd").startswith(str(folder)) or str(folder) in words
            if inside and (entry / "stat").read_text().split(") ")[1][0] != "Z":
                found.append(f"{entry.name} {words}")
    return found
