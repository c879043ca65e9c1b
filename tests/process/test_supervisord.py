"""Under the real supervisord, with the program section that is shipped: start, stop, kill, reload, a bad file."""

import configparser
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from ohlcvd.supervisor.control import ask
from tests.process.harness import (
    ROOT,
    Daemon,
    Exchange,
    environment,
    local_exchange,
    processes_below,
    title_of,
    wait_for,
)
from tests.process.truth import assert_all_stored, stored_trades

SHIPPED = ROOT / "etc/supervisor/ohlcvd.conf"
SUPERVISORD = """
[unix_http_server]
file = {folder}/supervisor.sock
[supervisord]
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
[supervisorctl]
serverurl = unix://{folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""


class Supervisord:
    """A supervisord of its own, with one program."""

    def __init__(self, folder: Path, file: Path, **changed: str) -> None:
        self.folder = folder
        self.changed = changed
        self.conf = folder / "supervisord.conf"
        self.conf.write_text(SUPERVISORD.format(folder=folder) + self.program(file))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-n", "-c", str(self.conf)],
            cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for("supervisord answers", (folder / "supervisor.sock").exists)

    def program(self, file: Path) -> str:
        """What is shipped, but with this checkout, this user and this folder, and what else is to be different."""
        text = SHIPPED.read_text()
        own = {
            "command": f"{sys.executable} -P -m ohlcvd run --config {file}",
            "directory": str(self.folder),
            "stderr_logfile": f"{self.folder}/stderr.log",
            **self.changed,
        }
        for key, value in own.items():
            text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
            assert count == 1, key
        return re.sub(r"^user = .*\n", "", text, flags=re.MULTILINE)

    def control(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "supervisor.supervisorctl", "-c", str(self.conf), *words],
            cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def state(self) -> str:
        return str(self._info()["statename"])

    def pid(self) -> int:
        pid = self._info()["pid"]
        assert isinstance(pid, int)
        return pid

    def _info(self) -> dict[str, object]:
        """What `supervisorctl status` asks for, without a process each time."""
        address = f"unix://{self.folder}/supervisor.sock"
        with ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, address)) as server:
            found = server.supervisor.getProcessInfo("ohlcvd")
        assert isinstance(found, dict)
        return found

    def log(self) -> str:
        return (self.folder / "supervisord.log").read_text()


@contextmanager
def supervisord(folder: Path, file: Path, **changed: str) -> Iterator[Supervisord]:
    running = Supervisord(folder, file, **changed)
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait(150)


def test_the_shipped_program_waits_for_our_ladder_and_names_no_loop() -> None:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(" ;",))
    parser.read(SHIPPED)
    program = parser["program:ohlcvd"]
    assert (program["autorestart"], program["exitcodes"]) == ("unexpected", "0,78")
    assert (program["stopsignal"], program["killasgroup"]) == ("TERM", "true")


def test_start_stop_kill_and_reload(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with local_exchange(tmp_path, "--symbols", "3", "--rate", "20") as exchange:
        names = exchange.symbols("kraken")
        daemon = Daemon(tmp_path, exchange, {"kraken": names[:2]}, dsn=database_url, url=redis_url)
        with supervisord(tmp_path, daemon.file) as under:
            wait_for("the program runs", lambda: under.state() == "RUNNING", every_s=0.5)
            wait_for("kraken streams", lambda: _state(daemon) == "streaming")
            first = under.pid()
            assert title_of(first) == "ohlcvd: supervisor"

            daemon.file.write_text(daemon.file.read_text().replace(", ".join(names[:2]), ", ".join(names)))
            under.control("signal", "HUP", "ohlcvd")
            wait_for("the new symbol is stored", lambda: stored_trades(daemon, "kraken", names[2]))

            family = [first, *_children(first)]
            os.kill(first, signal.SIGKILL)
            killed_s = time.monotonic()
            wait_for("nothing is left of it", lambda: not any(map(_alive, family)), 10.0)
            gone_s = time.monotonic() - killed_s
            wait_for(
                "it is started again", lambda: under.state() == "RUNNING" and under.pid() not in family, every_s=0.5
            )
            wait_for("kraken streams again", lambda: _state(daemon) == "streaming")
            print(
                f"supervisord: family gone {gone_s:.1f} s after kill -9, streaming {time.monotonic() - killed_s:.1f} s"
            )

            exchange.post("freeze")
            wait_for("all is stored", lambda: _is_all_stored(daemon, exchange, names))
            family = [under.pid(), *_children(under.pid())]
            under.control("stop", "ohlcvd")
            assert under.state() == "STOPPED"
            assert not any(map(_alive, family))
            assert "drained" in (tmp_path / "log" / "kraken.log").read_text()
            left = [line for line in processes_below(tmp_path) if "supervisord" not in line and "simulate" not in line]
            assert left == []
            said = (tmp_path / "stderr.log").read_text().splitlines()
            assert all(" is up: kraken; " in line for line in said), said


def test_a_bad_configuration_is_fatal_and_not_a_loop(tmp_path: Path) -> None:
    file = tmp_path / "ohlcvd.conf"
    file.write_text("[ohlcvd]\nservice = nonsense\n")
    with supervisord(tmp_path, file, startsecs="60") as under:  # however slow this machine is at the moment
        wait_for("it is given up", lambda: under.state() == "FATAL", every_s=0.5)
        starts = under.log().count("spawned: 'ohlcvd'")
        assert starts == 4  # the first and startretries = 3
        assert under.log().count("exit status 78") == starts
        time.sleep(3)
        assert under.log().count("spawned: 'ohlcvd'") == starts
        sentences = set((tmp_path / "stderr.log").read_text().splitlines())
        assert len(sentences) == 1, sentences
        assert "ohlcvd.conf:2: service is" in sentences.pop()


def _state(daemon: Daemon) -> str:
    try:
        children = ask(daemon.folder / "run", {"command": "status"})["children"]
    except (OSError, ValueError):
        return ""
    assert isinstance(children, list)
    return str(children[0]["state"])


def _is_all_stored(daemon: Daemon, exchange: Exchange, names: list[str]) -> bool:
    try:
        for name in names:
            assert_all_stored(daemon, exchange, "kraken", name)
    except AssertionError:
        return False
    return True


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
