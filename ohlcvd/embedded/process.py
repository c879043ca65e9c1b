"""Start one program: as the right user, tied to its owner's life, with nothing of the owner's but a lock.

Between fork and exec only this module's few calls run. The owner has one thread, so they are safe.

As root a PostgreSQL server must be somebody else. It is the user `postgres`, else `nobody`. That user may be unable to
enter a directory on the way (a checkout in /root, 0700). Changing the modes of such directories is not ours to do, so
the program then keeps one of root's capabilities, CAP_DAC_OVERRIDE: it passes closed doors, and is still not root.
"""

import ctypes
import os
import pwd
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ohlcvd.errors import EmbeddedServerError

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

_LOCK_FD = 3  # where a started program finds the lock it need not know of
_EXEC_FAILED = 127
_REAPED_ELSEWHERE = 255  # how it ended is unknown: never to be taken for success

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """Another user for a program started by root; `through_doors`: able to reach what is closed to it."""

    uid: int
    gid: int
    through_doors: bool


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: its output goes to the end of `log`; `death_signal` reaches it when its starter dies."""

    argv: tuple[str, ...]
    log: Path
    death_signal: signal.Signals
    identity: Identity | None


def start(program: Program, lock_fd: int, stdin_fd: int | None = None) -> int:
    """Fork and exec; returns the process id. If exec fails, the child ends with 127 and a line in its log."""
    log_fd = os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    owner = os.getpid()
    # A handler of ours must not run in the child: it could write into the owner's wake-up descriptor.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become_program(program, owner, log_fd, lock_fd, stdin_fd)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(log_fd)
    return pid


def run_to_end(program: Program, lock_fd: int, stdin: bytes, timeout_s: float) -> int:
    """Start a program, give it `stdin` (less than a pipe holds) and wait for its exit status (negative: signal)."""
    reader, writer = os.pipe()
    try:
        os.write(writer, stdin)
        os.close(writer)
        pid = start(program, lock_fd, reader)
    finally:
        os.close(reader)
    try:
        status = wait_for_end(pid, timeout_s)
    except BaseException:
        end(pid, ((signal.SIGKILL, 5.0),))
        raise
    if status is None:
        end(pid, ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)))
        raise EmbeddedServerError(f"{program.argv[0]} did not end within {timeout_s:g} s; see {program.log}")
    return status


def wait_for_end(pid: int, timeout_s: float) -> int | None:
    """The exit status of our child (negative: signal), None if it still runs, 255 if somebody else reaped it."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return _REAPED_ELSEWHERE
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.01)


def end(pid: int, signals: Iterable[tuple[int, float]]) -> bool:
    """Send each signal in turn, giving it its seconds. True once the process is gone and reaped."""
    for number, patience_s in signals:
        if wait_for_end(pid, 0) is not None:
            return True
        os.kill(pid, number)
        if wait_for_end(pid, patience_s) is not None:
            return True
    return False


def choose_identity(reached: Iterable[Path], owner: Path | None) -> Identity | None:
    """Who a server runs as that needs to reach these paths: None for an ordinary caller, who stays itself.

    `owner` is a data directory that exists: its user is the only one who can go on with it.
    """
    if os.geteuid() != 0:
        return None
    if owner is not None and owner.stat().st_uid != 0:
        found = owner.stat()
        uid, gid = found.st_uid, found.st_gid
    else:
        uid, gid = _unprivileged()
    paths = [str(path) for path in reached]
    for through_doors in (False, True):
        identity = Identity(uid, gid, through_doors)
        if _can_reach(identity, paths):
            return identity
    raise EmbeddedServerError(
        f"root may not start a server as uid {uid} that reaches {' and '.join(paths)}; "
        "choose a state_dir that others may enter, or run as an ordinary user"
    )


def _unprivileged() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return entry.pw_uid, entry.pw_gid
    raise EmbeddedServerError("root needs a user to run PostgreSQL as, and there is neither `postgres` nor `nobody`")


def _can_reach(identity: Identity, paths: list[str]) -> bool:
    """Ask the kernel by becoming that user in a child: modes, ACLs and mounts all count."""

    def look() -> int:
        _change_user(identity)
        return 0 if all(os.access(path, os.X_OK) for path in paths) else 1

    return _in_child(look) == 0


def _in_child(look: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        status = _EXEC_FAILED
        try:
            status = look()
        except OSError:
            status = _EXEC_FAILED  # the caller treats it as "no"
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _become_program(program: Program, owner: int, log_fd: int, lock_fd: int, stdin_fd: int | None) -> NoReturn:
    try:
        os.dup2(log_fd, 2)
        _forget_signals()
        os.setsid()
        os.umask(0o077)
        os.chdir("/")
        _arrange_descriptors(log_fd, lock_fd, stdin_fd)
        if program.identity is not None:
            _change_user(program.identity)
        # After the change of user, which clears it; and the owner may have died before it took hold.
        prctl(_PR_SET_PDEATHSIG, program.death_signal)
        if os.getppid() == owner:
            os.execve(program.argv[0], program.argv, _environment())
        os.write(2, b"ohlcvd: the process that wanted this server is gone; it is not started\n")
    except OSError as error:
        os.write(2, f"ohlcvd: cannot start {program.argv[0]}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(_EXEC_FAILED)


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _arrange_descriptors(log_fd: int, lock_fd: int, stdin_fd: int | None) -> None:
    """0 is `stdin_fd` or empty, 1 and 2 the log, 3 the lock; the rest is closed."""
    top = max(log_fd, lock_fd, stdin_fd or 0, _LOCK_FD) + 1
    source = os.open(os.devnull, os.O_RDONLY) if stdin_fd is None else stdin_fd
    moved = []
    for offset, fd in enumerate((source, log_fd, log_fd, lock_fd)):
        moved.append(top + 8 + offset)
        os.dup2(fd, moved[-1])
    for target, fd in enumerate(moved):
        os.dup2(fd, target)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > _LOCK_FD:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of this listing itself


def _change_user(identity: Identity) -> None:
    os.setgroups([])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    if identity.through_doors:
        # Without this bit access(2), which PostgreSQL asks about its own binary, ignores capabilities.
        prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if identity.through_doors:
        keep_only(_CAP_DAC_OVERRIDE)


def keep_only(*capabilities: int) -> None:
    """Give up all other capabilities of this process; exec keeps these."""
    bits = sum(1 << capability for capability in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)  # effective, permitted, inheritable; then their high halves
    if _libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset is refused")
    for capability in capabilities:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)  # an inheritable one alone would not survive


def prctl(option: int, *arguments: int) -> None:
    """prctl(2); OSError if the kernel refuses."""
    words = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)][:4]
    if _libc.prctl(ctypes.c_int(option), *words) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) is refused")


def _environment() -> Mapping[str, str]:
    """Little: PG* variables would change what the server does, and passwords are none of its business."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **kept}


def last_lines(log: Path, count: int = 3) -> str:
    """The end of a server's log on one line, for an error message."""
    with open(log, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 4096))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return " | ".join([line.strip() for line in lines if line.strip()][-count:])
