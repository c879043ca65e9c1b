"""A prepared server: everything is decided and made, so that starting it again is one fork and exec.

`spawn`, `is_ready` and `stop_signals` are what a supervisor needs; `running` is the same for a `with` block.
"""

import logging
import os
import re
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from ohlcvd.embedded.lock import DirectoryLock
from ohlcvd.embedded.process import Identity, Program, end, last_lines, start, wait_for_end
from ohlcvd.errors import EmbeddedServerError

log = logging.getLogger("ohlcvd.embedded")

SOCKET_PATH_BYTES = 100  # the kernel's limit is 107; PostgreSQL makes a `.lock` file beside its socket, which is longer
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+@=~-]+")  # means itself in a conninfo, in PostgreSQL's -k list and in a URL


@dataclass(slots=True, eq=False)
class EmbeddedServer:
    """One private server, down until `spawn`. Holds its directory's lock until `release`.

    `address` is what clients connect to; `stop_signals` are to be sent in turn, each with its seconds of patience.
    """

    name: str
    address: str
    stop_signals: tuple[tuple[int, float], ...]
    program: Program
    lock: DirectoryLock
    sockets: Path
    probe: Callable[[int], bool] = field(repr=False)
    before_spawn: Callable[[], None] = field(repr=False, default=lambda: None)
    pid: int = 0

    def spawn(self) -> int:
        """Start it as the leader of its own session; returns its process id, which the caller reaps.

        Raises EmbeddedServerError where the system refuses now what it may allow later.
        """
        try:
            make_directory(self.sockets, self.program.identity)  # whoever tidies /tmp may have taken it meanwhile
            self.before_spawn()
            fd = self.lock.duplicate()
            try:
                self.pid = start(self.program, fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise EmbeddedServerError(f"cannot start {self.name}: {error}") from error
        log.info("started %s as process %d: %s", self.name, self.pid, self.program.argv[0])
        return self.pid

    def is_ready(self) -> bool:
        """Does the process that `spawn` started last serve clients? Never blocks."""
        try:
            return self.pid != 0 and self.probe(self.pid)
        except OSError as error:
            log.warning("cannot look whether %s is ready, it counts as not: %s", self.name, error)
            return False

    def release(self) -> None:
        """Let others have the directory (once the server is gone too). It cannot be spawned again."""
        try:
            os.rmdir(self.sockets)
        except OSError:
            pass  # not empty: it still runs, or was killed; the next start uses the directory again
        self.lock.release()


@contextmanager
def running(server: EmbeddedServer, timeout_s: float = 60.0) -> Iterator[EmbeddedServer]:
    """Spawn, wait until ready, hand over; then stop and release. EmbeddedServerError cites the log's last lines."""
    try:
        server.spawn()
        try:
            wait_until_ready(server, timeout_s)
            yield server
        finally:
            if not end(server.pid, server.stop_signals):
                log.error("%s, process %d, survives every signal; it is left behind", server.name, server.pid)
    finally:
        server.release()


def wait_until_ready(server: EmbeddedServer, timeout_s: float) -> None:
    """Wait for the process that was spawned last; EmbeddedServerError if it ends or is late."""
    deadline = time.monotonic() + timeout_s
    while not server.is_ready():
        status = wait_for_end(server.pid, 0.02)
        if status is not None or time.monotonic() >= deadline:
            what = "is not ready" if status is None else f"ended with status {status}"
            words = last_lines(server.program.log)
            raise EmbeddedServerError(f"{server.name} {what}; {server.program.log} ends with: {words}")


def make_directory(path: Path, identity: Identity | None) -> None:
    """A private directory of the server's user, made or found as such."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    wanted = os.geteuid() if identity is None else identity.uid
    if identity is not None and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
        os.chown(
            path, identity.uid, identity.gid, follow_symlinks=False
        )  # made by us, now or before we were killed here
        found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != wanted or found.st_mode & 0o077:
        raise EmbeddedServerError(
            f"{path} must be a directory of uid {wanted} with mode 0700, and it is "
            f"{stat.filemode(found.st_mode)} of uid {found.st_uid}; remove it or choose another state_dir"
        )


def socket_directory(state_dir: Path, name: str, identity: Identity | None, socket_name: str) -> Path:
    """Where a server's socket goes: below `state_dir` if such a path can be used, else a place in /tmp made from it."""
    folder = state_dir / f"{name}.socket"
    if len(os.fsencode(folder / socket_name)) > SOCKET_PATH_BYTES or not _PLAIN_PATH.fullmatch(str(folder)):
        uid = os.geteuid() if identity is None else identity.uid
        folder = Path(f"/tmp/ohlcvd-{uid}-{sha256(os.fsencode(folder)).hexdigest()[:16]}")
    return folder


@contextmanager
def preparing(name: str, state_dir: Path, lock: DirectoryLock) -> Iterator[None]:
    """Give the lock back if the preparation in this block fails, and say so in our own words."""
    try:
        yield
    except OSError as error:
        lock.release()
        raise EmbeddedServerError(f"cannot prepare {name} in {state_dir}: {error}") from error
    except BaseException:
        lock.release()
        raise


def prepare_state_dir(state_dir: Path) -> Path:
    """The absolute `state_dir`, made if missing: 0711 by root, to let a server's user through, else private."""
    path = state_dir.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    except OSError as error:
        raise EmbeddedServerError(f"cannot make the directory {path}: {error.strerror}") from error
    return path.resolve()


def make_log(folder: Path, name: str) -> Path:
    """The log file's path; its directory is made if missing, private."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.absolute() / name


POSTGRES_STOP = ((int(signal.SIGINT), 60.0), (int(signal.SIGQUIT), 10.0), (int(signal.SIGKILL), 5.0))
VALKEY_STOP = ((int(signal.SIGTERM), 10.0), (int(signal.SIGKILL), 5.0))
