"""The service as a user meets it: started, asked, stopped, killed, in processes of its own.

The children find neither an exchange nor a database here and wait for both; that is none of this file's business.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ohlcvd import daemon
from ohlcvd.config import Config
from ohlcvd.config.changes import child_names
from ohlcvd.daemon import MARGIN_S, SERVERS_STOP_S
from ohlcvd.errors import Exit
from ohlcvd.supervisor.lock import LOCK_NAME, look, start_ticks
from tests.supervisor.running import ROOT, alive, wait_for

COMMAND = """
import json, sys
from ohlcvd import daemon
from ohlcvd.config import Config
from ohlcvd.errors import OhlcvdError
config = Config(sys.argv[1])
if "impatient" in sys.argv:
    daemon.SERVERS_STOP_S = daemon.MARGIN_S = 0.5
    object.__setattr__(config, "grace_s", 0.5)
try:
    answer = getattr(daemon, sys.argv[2])(config)
    if sys.argv[2] == "status":
        print(json.dumps(answer.as_dict()))
        answer = answer.exit_code
    sys.exit(answer)
except OhlcvdError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""

CONFIGURATION = """
[ohlcvd]
exchanges = kraken, binance
symbols = BTC/USD
since = 0
state_dir = {folder}/state
run_dir = {folder}/run
log_dir = {folder}/log
[postgres]
dsn = {postgres}
[redis]
url = {redis}
[http]
listen =
[exchange:kraken]
rest_url = http://127.0.0.1:1/kraken
ws_url = ws://127.0.0.1:1/kraken
[exchange:binance]
shards = 2
rest_url = http://127.0.0.1:1/binance
ws_url = ws://127.0.0.1:1/binance
"""


class Service:
    """A configuration in a folder, and the commands upon it."""

    def __init__(self, folder: Path, *, embedded: bool = False) -> None:
        self.folder, self.run_dir, self.file = folder, folder / "run", folder / "ohlcvd.conf"
        nowhere = {"postgres": f"host={folder}/nowhere", "redis": f"unix://{folder}/nowhere"}
        where = {"postgres": "embedded", "redis": "embedded"} if embedded else nowhere
        self.file.write_text(CONFIGURATION.format(folder=folder, **where))

    def call(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one command to its end. Output is read to its end: whoever keeps it open would keep us waiting."""
        command = [sys.executable, "-c", COMMAND, str(self.file), *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **options)

    def status(self) -> dict[str, Any]:
        """Asked in this process: tests wait for what it says."""
        document: dict[str, Any] = json.loads(json.dumps(daemon.status(Config(self.file)).as_dict()))
        return document

    def pid(self) -> int:
        holder = look(self.run_dir).holder
        assert holder is not None
        return holder.pid

    def family(self) -> list[int]:
        """The supervisor and all its children."""
        pid = self.pid()
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that is gone at the end of the test, whatever happens in it."""
    with _gone_at_the_end(Service(tmp_path)) as made:
        yield made


@contextmanager
def _gone_at_the_end(made: Service) -> Iterator[Service]:
    try:
        yield made
    finally:
        if look(made.run_dir).held:
            family = made.family()
            os.kill(family[0], signal.SIGKILL)
            wait_for(lambda: not any(alive(pid) for pid in family))


def test_start_status_stop(service: Service) -> None:
    said = service.call("status")
    assert (said.returncode, json.loads(said.stdout)["state"]) == (Exit.NOT_RUNNING, "not running")
    began = time.monotonic()
    started = service.call("start")
    assert time.monotonic() - began < 30.0
    assert (started.returncode, started.stderr) == (0, "")
    pid = service.pid()
    assert started.stdout == f"ohlcvd: started, pid {pid}\n"

    again = service.call("start")
    assert again.returncode == Exit.ALREADY_RUNNING
    assert f"process {pid} holds {service.run_dir / LOCK_NAME}" in again.stderr

    status = service.status()
    assert (status["state"], status["exit_code"], status["pid"], status["service"]) == ("running", 0, pid, "both")
    assert [child["name"] for child in status["children"]] == ["kraken", "binance/1", "binance/2"]
    assert status["markets"] == []
    assert "redis" in status["notes"][0]
    family = service.family()
    titles = [Path(f"/proc/{one}/cmdline").read_bytes().rstrip(b"\0").decode() for one in family]
    names = ("supervisor", "kraken", "binance/1", "binance/2", "monitor")
    assert titles == [f"ohlcvd: {name}" for name in names]
    assert len(os.listdir(f"/proc/{pid}/task")) == 1

    stopped = service.call("stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"ohlcvd: stopped, pid {pid}\n")
    assert not any(alive(one) for one in family)
    assert service.status()["exit_code"] == Exit.NOT_RUNNING
    again = service.call("stop")
    assert (again.returncode, again.stdout) == (0, "ohlcvd: not running\n")


def test_start_keeps_nothing_of_its_caller(service: Service) -> None:
    reader, writer = os.pipe()
    assert service.call("start", pass_fds=[writer]).returncode == 0
    os.close(writer)
    assert os.read(reader, 1) == b""  # nobody has it open any more
    os.close(reader)
    pid = service.pid()
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    assert os.getsid(pid) not in (pid, os.getsid(0))  # in a session of its own, and not the leader who could get a tty
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_restart_and_a_live_stranger_in_the_lock_file(service: Service) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        service.run_dir.mkdir()
        (service.run_dir / LOCK_NAME).write_text(f"{stranger.pid} {start_ticks(stranger.pid)} 2026-01-01T00:00:00Z\n")
        assert service.status()["exit_code"] == Exit.NO
        assert service.call("stop").stdout == "ohlcvd: not running\n"
        assert service.call("start").returncode == 0
        first = service.pid()
        assert service.call("restart").returncode == 0
        assert service.pid() not in (first, stranger.pid)
        assert not alive(first)
        assert service.call("stop").returncode == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_killed_supervisor_leaves_nothing_and_start_works_at_once(tmp_path: Path) -> None:
    """With embedded servers, which the next start must wait for."""
    with _gone_at_the_end(Service(tmp_path, embedded=True)) as service:
        assert service.call("start").returncode == 0
        wait_for(lambda: [server["state"] for server in service.status()["servers"]] == ["ready", "ready"])
        family = service.family()
        assert len(family) == 7
        forked = [child["pid"] for child in service.status()["children"]]
        os.kill(family[0], signal.SIGKILL)
        wait_for(lambda: not any(alive(pid) for pid in forked), timeout_s=10.0)
        again = service.call("start")
        assert (again.returncode, again.stderr) == (0, "")
        assert not any(alive(pid) for pid in family)
        wait_for(lambda: [server["state"] for server in service.status()["servers"]] == ["ready", "ready"])
        wait_for(lambda: service.status()["notes"] == [])  # Redis answers: no markets yet, and no complaint
        family = service.family()
        assert service.call("stop").returncode == 0
        assert not any(alive(pid) for pid in family)


def test_died_supervisor_is_exit_1(service: Service) -> None:
    assert service.call("start").returncode == 0
    family = service.family()
    os.kill(family[0], signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in family), timeout_s=2.0)
    status = service.status()
    assert (status["state"], status["exit_code"]) == ("died", 1)
    assert "`start` works" in status["notes"][0]


def test_deaf_supervisor_is_exit_4_and_stop_kills_it_in_the_end(service: Service) -> None:
    assert Config(service.file).grace_s + SERVERS_STOP_S + MARGIN_S == 115.0
    assert service.call("start").returncode == 0
    family = service.family()
    os.kill(family[0], signal.SIGSTOP)
    status = service.status()
    assert (status["state"], status["exit_code"], status["pid"]) == ("unknown", 4, family[0])
    stopped = service.call("stop", "impatient")
    assert stopped.returncode == Exit.NO
    assert "was killed" in stopped.stderr
    assert not any(alive(pid) for pid in family)


def test_start_tells_why_it_cannot(service: Service) -> None:
    (service.folder / "log").write_text("a file in the way")
    result = service.call("start")
    assert result.returncode == Exit.CONFIG
    assert str(service.folder / "log") in result.stderr


def test_module_runs_in_the_foreground_and_talks_to_systemd(service: Service) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(service.folder / "notify"))
        systemd.settimeout(20.0)
        process = _module(
            "--config", str(service.file), "--service", "trade", "--exchanges", "kraken", "--symbols", "ETH/USD",
            NOTIFY_SOCKET=str(service.folder / "notify"), WATCHDOG_USEC="1000000",
        )  # fmt: skip
        assert systemd.recv(100) == f"READY=1\nMAINPID={process.pid}".encode()
        assert systemd.recv(100) == b"WATCHDOG=1"
        status = service.status()
        assert (status["service"], status["pid"]) == ("trade", process.pid)
        assert [child["name"] for child in status["children"]] == ["kraken"]
        process.send_signal(signal.SIGHUP)
        reloading = wait_for(lambda: told if (told := systemd.recv(100)).startswith(b"RELOADING=1\n") else None)
        assert reloading is not None
        assert 0 < int(reloading.partition(b"MONOTONIC_USEC=")[2]) <= time.monotonic_ns() // 1000
        wait_for(lambda: systemd.recv(100).startswith(b"READY=1"))
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: systemd.recv(100) == b"STOPPING=1")
        assert process.wait(20) == 0


def test_term_while_the_database_is_being_made_is_a_clean_end(tmp_path: Path) -> None:
    with _gone_at_the_end(Service(tmp_path, embedded=True)) as service:
        process = _module("--config", str(service.file))
        wait_for((tmp_path / "state" / "postgres.lock").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert service.status()["state"] == "not running"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--colour"], Exit.USAGE), (["--service", "all"], Exit.CONFIG), (["--config", "/nowhere"], Exit.CONFIG)],
)
def test_wrong_words(words: list[str], code: Exit) -> None:
    process = _module(*words, stderr=subprocess.PIPE)
    _, message = process.communicate(timeout=20)
    assert process.returncode == code
    assert message.startswith(b"ohlcvd: ")
    assert message.count(b"\n") == 1


def test_child_names(service: Service) -> None:
    assert child_names(Config(service.file)) == ["kraken", "binance/1", "binance/2"]


def _module(*words: str, stderr: int | None = None, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ohlcvd.daemon", *words], cwd=ROOT, stderr=stderr, env={**os.environ, **environment}
    )
