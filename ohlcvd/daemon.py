"""The service as its commands see it: run, start, stop, restart, reload, status, log level.

`start` is `run` in a process of its own, and returns when that is up. The others find the running supervisor through
its lock, never through a pid alone. Everything raises an OhlcvdError whose `exit_code` is the command's.
"""

import argparse
import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from ohlcvd.config import Config
from ohlcvd.errors import Exit, OhlcvdError, PermissionRefused, ServiceUnavailable, UsageError, error_of
from ohlcvd.managers import remarks
from ohlcvd.memory import memory_bytes
from ohlcvd.serve import serve
from ohlcvd.supervisor.control import ask
from ohlcvd.supervisor.detach import detached
from ohlcvd.supervisor.lock import Holder, LockState, look
from ohlcvd.supervisor.report import StatusReport, report_of

START_S = 120.0  # the first start makes a database
SERVERS_STOP_S = 80.0  # the embedded servers' own ladders of signals
MARGIN_S = 5.0
RELOAD_S = 60.0  # another exchange is loaded first
ANSWER_S = 3.0  # it answers within milliseconds, unless it is stopped or gone

Told = dict[str, dict[str, object]]


def run(config: Config, *, terminal: bool = False) -> int:
    """The service in the foreground, until TERM or INT. The exit code; AlreadyRunning if there is one already."""
    return serve(config, terminal=terminal)


def start(config: Config) -> int:
    """The service in the background. Returns 0 once it is up; else raises what kept it from coming up."""
    pid = detached(lambda launch: serve(config, terminal=False, launch=launch), START_S)
    print(f"ohlcvd: started, pid {pid}")
    return Exit.OK


def stop(config: Config) -> int:
    """Drain and end the running service, if there is one. 0: nothing runs any more; 1: it had to be killed."""
    holder = _find_holder(config.run_dir)
    if holder is None:
        print("ohlcvd: not running")
        return Exit.OK
    patience_s = config.grace_s + SERVERS_STOP_S + MARGIN_S
    with ExitStack() as stack:
        pidfds = [_hold(stack, pid) for pid in (holder.pid, *_children_of(holder.pid))]
        supervisor, family = pidfds[0], {pidfd for pidfd in pidfds if pidfd is not None}
        if supervisor is not None and _find_holder(config.run_dir) == holder:  # still the same process
            _send(supervisor, signal.SIGTERM, holder.pid)
        clean = _wait_gone(family, patience_s)
        if not clean:
            for pidfd in (supervisor, *family):
                if pidfd is not None:
                    _send(pidfd, signal.SIGKILL, holder.pid)
            _wait_gone(family, SERVERS_STOP_S)
    if not clean:
        print(f"ohlcvd: pid {holder.pid} did not stop within {patience_s:.0f} s and was killed", file=sys.stderr)
        return Exit.NO
    print(f"ohlcvd: stopped, pid {holder.pid}")
    return Exit.OK


def restart(config: Config) -> int:
    """`stop`, then `start`."""
    stop(config)
    return start(config)


def reload(config: Config) -> int:
    """Let the running service read its configuration again, and print what follows. ConfigError if it is wrong."""
    done = _ask(config, {"command": "reload"}, RELOAD_S)
    later = done.pop("later")
    for what, names in done.items():
        print(f"ohlcvd: {what}: {', '.join(names)}")
    if not done:
        print("ohlcvd: nothing has changed for any child")
    for sentence in later:
        print(f"ohlcvd: {sentence}", file=sys.stderr)
    return Exit.OK


def log_level(config: Config, level: str, child: str | None) -> int:
    """Log more or less from now on, until the configuration is read again: one process, or all of them."""
    done = _ask(config, {"command": "log-level", "level": level, "child": child}, ANSWER_S)
    print(f"ohlcvd: logging at {done['level']}: {', '.join(done['changed'])}")
    return Exit.OK


def _ask(config: Config, request: Mapping[str, object], timeout_s: float) -> dict[str, Any]:
    """The running supervisor's answer, or the error that it answered with."""
    if _find_holder(config.run_dir) is None:
        raise ServiceUnavailable("not running; start it with: ohlcvd start")
    try:
        answer = ask(config.run_dir, request, timeout_s)
    except (OSError, ValueError) as error:
        raise ServiceUnavailable(f"the supervisor does not answer: {type(error).__name__}: {error}") from error
    if "error" in answer:
        raise error_of(answer.get("exit_code"), str(answer["error"]))
    return answer


def status(config: Config) -> StatusReport:
    """What runs, as far as it can be known: from the control socket, the lock, and Redis for the markets."""
    lock = look(config.run_dir)
    document: dict[str, Any] | None = None
    notes: list[str] = []
    if lock.held:
        try:
            document = ask(config.run_dir, {"command": "status"}, ANSWER_S)
        except (OSError, ValueError) as error:
            notes.append(f"the supervisor does not answer on its control socket: {type(error).__name__}: {error}")
    beats: Told = {}
    markets: Told = {}
    if lock.held:
        try:
            beats, markets = asyncio.run(_told(config, document))
        except OhlcvdError as error:
            notes.append(f"the markets' states cannot be read from redis: {error}")
    pids = [lock.holder.pid] if lock.holder else []
    pids += [row["pid"] for row in (document or {}).get("children", []) if row["pid"]]
    memory = {pid: memory_bytes(pid) for pid in pids}
    notes += remarks(config, lock.holder)
    return report_of(lock, document, markets, notes, beats=beats, memory=memory, now_us=time.time_ns() // 1000)


async def _told(config: Config, document: Mapping[str, Any] | None) -> tuple[Told, Told]:
    """What the children said in Redis: their heartbeats and their markets."""
    from ohlcvd.cache.client import configured_url
    from ohlcvd.cache.reader import CacheReader

    async with CacheReader((document or {}).get("redis") or configured_url(config)) as reader:
        return await reader.heartbeats(), await reader.markets()


# --- finding and ending what runs


def _find_holder(run_dir: Path) -> Holder | None:
    """The supervisor that holds the lock, or None if nobody does. One that is just starting is waited for."""
    state: LockState = look(run_dir)
    deadline = time.monotonic() + MARGIN_S
    while state.held and state.holder is None:
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"{run_dir}: the lock is held by a process that does not say which one it is")
        time.sleep(0.02)
        state = look(run_dir)
    return state.holder


def _children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _hold(stack: ExitStack, pid: int) -> int | None:
    """A pidfd, closed with the stack; None if the process is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, pidfd)
    return pidfd


def _send(pidfd: int, signum: int, pid: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise PermissionRefused(f"process {pid} belongs to another user: {error.strerror}") from error


def _wait_gone(pidfds: set[int], timeout_s: float) -> bool:
    """Wait until every process has ended (also one whose parent is slow to reap it)."""
    deadline = time.monotonic() + timeout_s
    waiting = select.poll()
    for pidfd in pidfds:
        waiting.register(pidfd, select.POLLIN)
    left = set(pidfds)
    while left:
        for pidfd, _ in waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            waiting.unregister(pidfd)
            left.discard(pidfd)
        if left and time.monotonic() >= deadline:
            return False
    return True


# --- python -m ohlcvd.daemon


class _Parser(argparse.ArgumentParser):
    """Wrong words are exit code 64."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def main(argv: Sequence[str] | None = None) -> int:
    """`run` with flags."""
    from ohlcvd.commands.arguments import add_config, add_flags, config_of, say

    parser = _Parser(prog="python -m ohlcvd.daemon", description="Run the collector in the foreground.")
    add_config(parser)
    add_flags(parser)
    try:
        return run(config_of(parser.parse_args(argv)), terminal=sys.stderr.isatty())
    except OhlcvdError as error:
        say(str(error))
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
