"""One supervisor only: `flock` on a file in `run_dir`. The kernel knows whether it is held; a pid in a file does not.

The file says who took it: `pid start-ticks time`. Pid and start ticks together name one process for as long as the
machine runs, so a live stranger that got the pid of a dead holder is never taken for it. A clean end empties the file;
words in a file that nobody holds mean that its writer died.
"""

import fcntl
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

from ohlcvd.errors import AlreadyRunning, PermissionRefused

LOCK_NAME = "ohlcvd.lock"

# Looking at the lock holds it for an instant, and so does a child forked by a supervisor that was just killed.
_PATIENCE_S = 1.0


class Holder(NamedTuple):
    """Who holds the lock; verified to be alive."""

    pid: int
    since: str


class LockState(NamedTuple):
    """What the lock says. `holder` is None if it is not held, or for the instant until its new holder has signed."""

    held: bool
    left_over: bool
    holder: Holder | None


class ServiceLock:
    """The lock, taken. AlreadyRunning if somebody else has it."""

    def __init__(self, run_dir: Path) -> None:
        self._fd = _open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT)
        try:
            _take(self._fd, run_dir / LOCK_NAME)
            signature = f"{os.getpid()} {start_ticks(os.getpid())} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n"
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, signature.encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Give it up. The file stays (removing it would let two processes hold locks of one name), but is empty."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def forget(self) -> None:
        """In a forked child: only the supervisor itself may hold it."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def look(run_dir: Path) -> LockState:
    """Whether the lock is held, and by whom. PermissionRefused if this user may not know."""
    try:
        fd = _open(run_dir / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return LockState(held=False, left_over=False, holder=None)
    try:
        if _try(fd, fcntl.LOCK_SH):
            return LockState(held=False, left_over=os.fstat(fd).st_size > 0, holder=None)
        return LockState(held=True, left_over=False, holder=_signed(fd))
    finally:
        os.close(fd)


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is no such process (or only its zombie)."""
    try:
        # The name, in parentheses, may contain anything; what follows its last one are numbers from the third field on.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _take(fd: int, path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not _try(fd, fcntl.LOCK_EX):
        holder = _signed(fd)
        if holder is not None:
            raise AlreadyRunning(f"already running: process {holder.pid} holds {path} since {holder.since}")
        if time.monotonic() > deadline:
            raise AlreadyRunning(f"already running: another process holds {path}")
        time.sleep(0.02)


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except PermissionError as error:
        raise PermissionRefused(f"{path}: this user may not open it ({error.strerror})") from error


def _signed(fd: int) -> Holder | None:
    words = os.pread(fd, 100, 0).decode("ascii", "replace").split()
    if len(words) != 3 or not (words[0].isdecimal() and words[1].isdecimal()):
        return None
    pid = int(words[0])
    return Holder(pid, words[2]) if start_ticks(pid) == int(words[1]) else None
