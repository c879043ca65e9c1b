"""Real servers for tests: private, in directories of their own, on free sockets; safe beside another test run."""

import json
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

from ohlcvd.embedded import EmbeddedServer, prepare_postgres, prepare_valkey, running
from ohlcvd.embedded.process import prctl

_PR_SET_DUMPABLE = 4

# What a crash would lose does not matter for a server that lives for one test run. Everything else is as in production.
FAST = {"fsync": "off", "full_page_writes": "off"}


# Tests write some gigabytes of files that nobody reads again: memory spares a slow disk.
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30


def scratch() -> Path:
    """A folder with a short path for what tests write: in memory where there is room and programs may be run."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= ROOM_BYTES and not found.f_flag & os.ST_NOEXEC:
            return MEMORY
    return Path("/tmp")


@contextmanager
def private_directory() -> Iterator[Path]:
    """A new directory with a short path (sockets go below it), removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="ohlcvd-test-", dir=scratch()))
    path.chmod(0o755)  # as any checkout is: whoever a server runs as may pass
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def temporary_postgres() -> Iterator[EmbeddedServer]:
    """A running PostgreSQL that is gone afterwards."""
    with private_directory() as folder, running(prepare_postgres(folder, settings=FAST)) as server:
        try:
            yield server
        finally:
            if connection := _administrators.pop(server.address, None):
                connection.close()


@contextmanager
def temporary_valkey() -> Iterator[EmbeddedServer]:
    """A running Valkey that is gone afterwards."""
    with private_directory() as folder, running(prepare_valkey(folder)) as server:
        yield server


@contextmanager
def fresh_database(server: EmbeddedServer, template: str = "template1") -> Iterator[str]:
    """The conninfo of a new database like `template` (an empty one), dropped afterwards whoever is still connected."""
    name = f"test_{uuid4().hex}"
    # Copying files is faster than logging every page, the default since PostgreSQL 15
    strategy = " STRATEGY file_copy" if _administrator(server).info.server_version >= 150000 else ""
    _administrator(server).execute(f"CREATE DATABASE {name} TEMPLATE {template}{strategy}".encode())
    try:
        yield make_conninfo(server.address, dbname=name)
    finally:
        _administrator(server).execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


# One connection a server stays: each new one costs PostgreSQL a process.
_administrators: dict[str, psycopg.Connection] = {}


def _administrator(server: EmbeddedServer) -> psycopg.Connection:
    connection = _administrators.get(server.address)
    if connection is None or connection.broken or connection.closed:
        connection = _administrators[server.address] = psycopg.connect(server.address, autocommit=True)
    return connection


def wait_until(condition: Callable[[], bool], timeout_s: float = 120.0, what: str = "the condition") -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} does not hold after {timeout_s} s"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """True if the process has ended (whether or not anybody has reaped it)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


def run_as(uid: int, work: Callable[[], object]) -> None:
    """Do `work` in a process of that user, ours staying as it is. AssertionError carries its traceback."""

    def work_and_end(report: Callable[[list[int]], None]) -> None:
        work()
        report([])

    with forked(uid, work_and_end) as (pid, answer):
        text = answer.read()
        os.waitpid(pid, 0)
    assert text == "[]\n", text or f"process {pid} died"


@contextmanager
def owner(uid: int, work: Callable[[], list[int]]) -> Iterator[tuple[int, list[int]]]:
    """A process that does `work`, reports the numbers it returns, and stays until the block ends or kills it."""

    def work_and_stay(report: Callable[[list[int]], None]) -> None:
        report(work())
        while True:
            signal.pause()

    with forked(uid, work_and_stay) as (pid, answer):
        try:
            text = answer.readline()
            assert text.startswith("["), text + answer.read()
            yield pid, json.loads(text)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextmanager
def forked(uid: int, work: Callable[[Callable[[list[int]], None]], None]) -> Iterator[tuple[int, TextIO]]:
    """Fork; `work` gets a function that writes a line to the pipe that the block reads."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            if uid != os.geteuid():
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                prctl(_PR_SET_DUMPABLE, 1)  # else /proc treats it as a program with privileges
            work(lambda numbers: _send(writer, json.dumps(numbers) + "\n"))
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the parent shows it, and no fork goes on as pytest
            _send(writer, traceback.format_exc())
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, encoding="utf-8") as answer:
        yield pid, answer


def _send(fd: int, text: str) -> None:
    os.write(fd, text.encode())
