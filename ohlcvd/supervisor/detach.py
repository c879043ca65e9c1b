"""Leaving the caller: a process in its own session, with none of the caller's descriptors, that reports when it is up.

The caller waits on a pipe. One line of JSON comes back: up, or the reason why not with its exit code. No line at all
means that the new process ended without being able to say why.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from ohlcvd.errors import Exit, OhlcvdError, ServiceUnavailable, error_of
from ohlcvd.supervisor.fork import leave


class Launch:
    """The new process's end of the pipe. It speaks once; later calls say nothing."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def up(self) -> None:
        """Say that everything is up."""
        self._say({"pid": os.getpid()})

    def failed(self, code: int, message: str) -> None:
        """Say why not."""
        self._say({"exit": code, "message": message})

    def forget(self) -> None:
        """Close without a word: also in forked children, which must not keep the caller waiting."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _say(self, document: dict[str, object]) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, json.dumps(document).encode() + b"\n")
        except BrokenPipeError:
            pass  # the caller gave up waiting; that changes nothing here
        self.forget()


Body = Callable[[Launch], int]  # returns the exit code


def detached(body: Body, timeout_s: float) -> int:
    """Run `body` in a process of its own; its pid as soon as it is up, or the error that it ended with."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    first = os.fork()
    if first == 0:
        _leave_session(body, writer)
    os.close(writer)
    os.waitpid(first, 0)
    try:
        line = _read_line(reader, timeout_s)
    finally:
        os.close(reader)
    if line is None:
        raise ServiceUnavailable(f"not up after {timeout_s:.0f} s, still trying; see its log, or `ohlcvd status`")
    if not line:
        raise OhlcvdError("the supervisor ended before it was up; see its log")
    report = json.loads(line)
    if "pid" in report:
        return int(report["pid"])
    raise error_of(report["exit"], report["message"])


def _leave_session(body: Body, writer: int) -> NoReturn:
    """The first fork makes a session, the second one can never get a terminal again."""
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    code = int(Exit.BUG)
    launch = Launch(writer)
    try:
        _keep_only(writer)
        _default_signals()
        os.chdir("/")
        code = body(launch)
    except OhlcvdError as error:
        code = int(error.exit_code)
        launch.failed(code, str(error))
    except BaseException as error:  # noqa: BLE001 - the edge of the process: the caller's stack must not go on here
        launch.failed(code, f"{type(error).__name__}: {error}; see the log")
    finally:
        leave(code)


def _keep_only(keep: int) -> None:
    """Close every descriptor but one, and give the standard three to nobody."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd != keep:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that the listing itself was made with
    os.set_inheritable(keep, False)


def _default_signals() -> None:
    """Whatever the caller ignored or blocked is none of the daemon's."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _read_line(reader: int, timeout_s: float) -> bytes | None:
    """The line; empty if the writer ended without one; None if it takes too long."""
    deadline = time.monotonic() + timeout_s
    data = b""
    while not data.endswith(b"\n"):
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        part = os.read(reader, 4096)
        if not part:
            return b""
        data += part
    return data
