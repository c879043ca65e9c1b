"""A supervisor with children that misbehave on purpose, run as a process of its own: `program.py FOLDER JSON`.

JSON: {"children": {name: kind}, "servers": {name: kind}}, `beat_timeout_s`, `ready_timeout_s`, `grace_s`, `hasty` for
short waits between restarts, `user` for who it runs as where root starts it, and `constants` in place of those that a
test has asserted before ({"health.STALLED_S": 1.0}). Each child writes a line `name pid monotonic` into FOLDER/starts
when it begins. On a reload FOLDER/plan.json says what there is to be: `children` as above, `restart`, `updates` ({name:
symbols}), `processes` (how many its user may have), or `error`.
"""

import ctypes
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from ohlcvd.errors import ConfigError
from ohlcvd.log import setup_logging
from ohlcvd.supervisor import health, restart, states
from ohlcvd.supervisor.child import ChildSpec
from ohlcvd.supervisor.commands import CommandReceiver, Update
from ohlcvd.supervisor.family import Plan
from ohlcvd.supervisor.heartbeat import Beat, BeatState, HeartbeatSender
from ohlcvd.supervisor.loop import Supervisor
from ohlcvd.supervisor.states import Ladder, Limits

BEAT_S = 0.05

Kind = Callable[["Child"], int]


class Child:
    """What every kind of child can do."""

    def __init__(self, folder: Path, name: str, sender: HeartbeatSender, commands: CommandReceiver) -> None:
        self.folder, self.name, self.sender, self.commands = folder, name, sender, commands
        self.commits = self.reconnects = 0
        self.count = 0  # how often this child has begun, this time included
        self.stopping = False

    def begin(self) -> None:
        """Write down that it began."""
        line = f"{self.name} {os.getpid()} {time.monotonic()}\n"
        fd = os.open(self.folder / "starts", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, line.encode())
        os.close(fd)
        lines = (self.folder / "starts").read_text().splitlines()
        self.count = sum(line.startswith(f"{self.name} ") for line in lines)

    def beat(
        self, state: BeatState = "streaming", *, commits: bool = True, reconnects: bool = False, **levels: int
    ) -> None:
        self.commits += commits
        self.reconnects += reconnects
        self.sender.send(Beat(state, {"commits": self.commits, "reconnects": self.reconnects, **levels}))

    def beat_until_stopped(self, state: BeatState = "streaming", **options: Any) -> int:
        signal.signal(signal.SIGTERM, self._stop)
        while not self.stopping:
            self.beat(state, **options)
            time.sleep(BEAT_S)
        self.beat("draining")
        return 0

    def _stop(self, _signum: int, _frame: FrameType | None) -> None:
        self.stopping = True


def beats(child: Child) -> int:
    return child.beat_until_stopped()


def listens(child: Child) -> int:
    """Writes down what it is told."""
    signal.signal(signal.SIGTERM, child._stop)
    while not child.stopping:
        child.beat()
        for update in child.commands.read():
            with (child.folder / f"{child.name}.told").open("a") as file:
                file.write(json.dumps([update.symbols, update.log_level]) + "\n")
        time.sleep(BEAT_S)
    return 0


def crashes_fifty_times(child: Child) -> int:
    return 3 if child.count <= 50 else child.beat_until_stopped()


def does_not_listen(child: Child) -> int:
    child.commands.close()
    return child.beat_until_stopped()


def reconnects_in_vain(child: Child) -> int:
    """The first time; then it streams."""
    return child.beat_until_stopped("ready" if child.count == 1 else "streaming", reconnects=True)


def waits_for_the_exchange(child: Child) -> int:
    return child.beat_until_stopped("ready")


def stalls(child: Child) -> int:
    """Rows wait, and the database is there; the second time they are committed."""
    return child.beat_until_stopped(commits=child.count > 1, backlog=7, database_up=1)


def waits_for_the_database(child: Child) -> int:
    return child.beat_until_stopped(commits=False, backlog=7, database_up=0)


def watches(child: Child) -> int:
    """A monitor: FOLDER/stale names those whose beat in Redis is stale."""
    signal.signal(signal.SIGTERM, child._stop)
    while not child.stopping:
        names = (child.folder / "stale").read_text().split() if (child.folder / "stale").exists() else []
        child.sender.send(Beat("ready", {}, tuple(names)))
        time.sleep(BEAT_S)
    return 0


def starts_for_ever(child: Child) -> int:
    return child.beat_until_stopped("starting")


def refuses(child: Child) -> int:
    child.beat("starting")
    return 78


def crashes(child: Child) -> int:
    os._exit(3)


def raises(child: Child) -> int:
    raise RuntimeError("broken on purpose")


def crashes_three_times(child: Child) -> int:
    if child.count <= 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return child.beat_until_stopped()


def ignores_term(child: Child) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        child.beat()
        time.sleep(BEAT_S)


def drains_slowly(child: Child) -> int:
    child.beat_until_stopped()
    time.sleep(1.0)
    (child.folder / f"{child.name}.drained").touch()
    return 0


def blocks(child: Child) -> int:
    """One beat, then a loop that never comes back: in C, with the interpreter's lock held."""
    child.beat()
    if child.count == 1:
        ctypes.PyDLL(None).sleep(3600)
    return child.beat_until_stopped()


def talks_nonsense(child: Child) -> int:
    for garbage in (
        b"\n",
        b"{}\n",
        b"\xff\xfe\n",
        b"x" * 4096,
        b"y" * 4096,
        b"\n",
        b'{"state":"asleep","counters":{}}\n',
    ):
        child.sender._write(garbage)
    return child.beat_until_stopped()


def looks(child: Child) -> int:
    """Write down what a child finds itself with."""
    described: dict[str, object] = {
        "fds": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in map(int, _open_fds())},
        "handlers": {
            name: str(signal.getsignal(getattr(signal, name))) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD")
        },
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "wakeup": signal.set_wakeup_fd(-1),
        "title": Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode(),
        "random": random.random(),
        "parent": os.getppid(),
    }
    (child.folder / f"{child.name}.json").write_text(json.dumps(described))
    return child.beat_until_stopped()


def _open_fds() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        beats,
        blocks,
        crashes,
        crashes_fifty_times,
        crashes_three_times,
        does_not_listen,
        drains_slowly,
        ignores_term,
        listens,
        looks,
        raises,
        reconnects_in_vain,
        refuses,
        stalls,
        starts_for_ever,
        talks_nonsense,
        waits_for_the_database,
        waits_for_the_exchange,
        watches,
    )
}


def child_main(folder: Path, name: str, kind: str, sender: HeartbeatSender, commands: CommandReceiver) -> int:
    child = Child(folder, name, sender, commands)
    child.begin()
    return KINDS[kind](child)


def spec(folder: Path, name: str, kind: str) -> ChildSpec:
    log_file = folder / f"{name}.log" if kind == "blocks" else None
    return ChildSpec(name, partial(child_main, folder, name, kind), kind != "watches", log_file)


def read_plan(folder: Path) -> Plan:
    plan = json.loads((folder / "plan.json").read_text())
    if "error" in plan:
        raise ConfigError(plan["error"])
    if "processes" in plan:
        _, most = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (plan["processes"] or most, most))
    return Plan(
        [spec(folder, name, kind) for name, kind in plan["children"].items()],
        frozenset(plan.get("restart", ())),
        {name: Update(symbols=tuple(symbols)) for name, symbols in plan.get("updates", {}).items()},
        tuple(plan.get("later", ())),
    )


class SleepServer:
    """An executed server that does nothing, or cannot be executed."""

    def __init__(self, folder: Path, name: str, kind: str) -> None:
        self.name = name
        self.address = f"nowhere:{name}"
        self.stop_signals: Ladder = ((signal.SIGINT, 0.5), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
        self._folder, self._kind = folder, kind

    def spawn(self) -> int:
        if self._kind == "missing":
            raise FileNotFoundError("no such program")
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
            ended = self._folder / f"{self.name}.ended"
            script = f"trap '' INT; trap 'date +%s.%N > {ended}; exit 0' TERM; while :; do sleep 0.05; done"
            os.execv("/bin/sh", ["sh", "-c", script])
        return pid

    def is_ready(self) -> bool:
        return True


def main(folder: Path, options: dict[str, Any]) -> int:
    if "user" in options and os.geteuid() == 0:
        os.chown(folder, options["user"], -1)
        os.setgroups([])
        os.setuid(options["user"])
    setup_logging(file=folder / "ohlcvd.log", level="DEBUG", terminal=False)
    for constant, value in options.get("constants", {}).items():
        module, _, attribute = constant.partition(".")
        vars({"health": health, "states": states, "restart": restart}[module])[attribute] = value
    limits = Limits(
        beat_timeout_s=options.get("beat_timeout_s", 1.5),
        ready_timeout_s=options.get("ready_timeout_s", 3.0),
        dump_s=0.3,
        ladder=((signal.SIGTERM, options.get("grace_s", 3.0)), (signal.SIGKILL, 5.0)),
    )
    supervisor = Supervisor(
        [spec(folder, name, kind) for name, kind in options.get("children", {}).items()],
        [SleepServer(folder, name, kind) for name, kind in options.get("servers", {}).items()],
        run_dir=folder,
        limits=limits,
        reload=lambda: read_plan(folder),
        about=lambda: {"service": "both"},
        chance=(lambda: 0.01) if options.get("hasty") else None,
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
