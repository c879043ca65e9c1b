"""The lock of one data directory, held by whoever may touch it: first its owner, then also the server itself.

`flock` belongs to the open file, not to the process. A server that inherits a duplicate keeps the directory locked
until its last process is gone, even when its owner was killed. Other forks of the owner must not: they drop it.
"""

import fcntl
import logging
import os
import time
from pathlib import Path

from ohlcvd.errors import EmbeddedServerError

log = logging.getLogger("ohlcvd.embedded")

WAIT_S = 30.0  # a server whose owner was killed needs this long at most to shut down cleanly

_held: set[int] = set()


def _drop_in_child() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_drop_in_child)


class DirectoryLock:
    """The lock `path`, taken. Raises EmbeddedServerError if another process still has it after `wait_s`."""

    def __init__(self, path: Path, wait_s: float | None = None) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EmbeddedServerError(f"cannot open the lock {path}: {error.strerror}") from error
        try:
            _take(self._fd, path, WAIT_S if wait_s is None else wait_s)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise
        _held.add(self._fd)

    def duplicate(self) -> int:
        """A descriptor of the same lock for a server to inherit; the caller closes it."""
        if self._fd not in _held:
            raise EmbeddedServerError(f"the lock {self.path} was released or belongs to another process")
        return os.dup(self._fd)

    def release(self) -> None:
        """Give up this process's share of the lock. A running server keeps its own."""
        if self._fd in _held:
            _held.remove(self._fd)
            os.close(self._fd)


def _take(fd: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        if time.monotonic() >= deadline:
            holders = _name_holders(fd, path)
            raise EmbeddedServerError(
                f"{path} is held by {holders}, still after {wait_s:g} s; stop it or choose another state_dir"
            )
        if not told:
            told = True
            log.info("%s is held by %s; waiting up to %g s for it to leave", path, _name_holders(fd, path), wait_s)
        time.sleep(0.05)


def processes_holding(path: Path) -> list[int]:
    """The processes (that this one may look at) that have this file open, by id."""
    wanted = path.stat()
    return sorted(pid for pid in _pids() if _has_open(pid, wanted))


def _name_holders(fd: int, path: Path) -> str:
    """Every visible process that has the lock file open, else the one that wrote its id into it."""
    taker = os.pread(fd, 32, 0).decode("utf-8", "replace").strip()
    pids = [pid for pid in processes_holding(path) if pid != os.getpid()]
    if not pids:
        return f"process {taker}" if taker else "an unknown process"
    pids.sort(key=lambda pid: (str(pid) != taker, not _leads_its_session(pid), pid))  # a postmaster before its backends
    named = [f"{pid} ({_title(pid)})" for pid in pids[:3]]
    more = f" and {len(pids) - 3} more" if len(pids) > 3 else ""
    return ("process " if len(pids) == 1 else "processes ") + ", ".join(named) + more


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False  # gone meanwhile, or another user's
    for name in names:
        try:
            found = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def _leads_its_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False  # gone meanwhile


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "gone"
