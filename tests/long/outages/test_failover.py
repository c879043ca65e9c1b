"""A primary with a synchronous replica is killed, the replica promoted: collection goes on there, nothing is lost."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ohlcvd.embedded.binaries import find_postgres
from tests.process.harness import wait_for
from tests.process.sites import STORING_AGAIN_S, Server, collecting, now_us, site
from tests.servers import private_directory

USER = "ohlcvd"


class Cluster:
    """One PostgreSQL of its own on a TCP port, run by an ordinary user."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.data = folder / name
        self.port = port
        self._bin = find_postgres("any", None).path.parent
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} dbname={USER} user={USER}"

    def make(self) -> None:
        self._run("initdb", "-D", str(self.data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C")
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write("listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfull_page_writes = off\n")

    def copy_from(self, primary: "Cluster") -> None:
        """A streaming replica named `replica`."""
        source = f"host=127.0.0.1 port={primary.port} user={USER} application_name=replica"
        self._run("pg_basebackup", "-D", str(self.data), "-d", source, "-X", "stream", "-R", "-c", "fast")

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data, "-p", str(self.port)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, user=_uid(), group=_gid(), extra_groups=_none(),
            )  # fmt: skip
        wait_for(f"{self.data} takes connections", self._answers, 60)

    def promote(self) -> float:
        """Returns when it takes writes."""
        self._run("pg_ctl", "promote", "-D", str(self.data), "-w")
        return time.monotonic()

    def query(self, text: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn.replace("dbname=ohlcvd", "dbname=postgres"), autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """The whole server at once, as a machine dies."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self._process.wait(30)
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        try:
            self.query("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *words: str) -> None:
        path = shutil.which(str(self._bin / program)) or shutil.which(program)
        assert path, f"{program} is not here: install PostgreSQL's server programs"
        answer = subprocess.run(
            [path, *words], capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
            user=_uid(), group=_gid(), extra_groups=_none(),
        )  # fmt: skip
        assert answer.returncode == 0, answer.stdout + answer.stderr


def _uid() -> int | None:
    return _stranger().pw_uid if os.geteuid() == 0 else None


def _gid() -> int | None:
    return _stranger().pw_gid if os.geteuid() == 0 else None


def _none() -> list[int] | None:
    return [] if os.geteuid() == 0 else None


def _stranger() -> pwd.struct_passwd:
    """PostgreSQL never runs as root."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def free_ports() -> tuple[int, int]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary that waits for its replica at every commit."""
    with private_directory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, _stranger().pw_uid, _stranger().pw_gid)
        ports = free_ports()
        primary, replica = Cluster(folder, "primary", ports[0]), Cluster(folder, "replica", ports[1])
        try:
            primary.make()
            primary.start()
            primary.query(f"CREATE DATABASE {USER}")
            replica.copy_from(primary)
            replica.start()
            primary.query("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
            primary.query("SELECT pg_reload_conf()")
            wait_for(
                "the replica is synchronous",
                lambda: primary.query("SELECT sync_state FROM pg_stat_replication") == [("sync",)],
            )
            yield primary, replica
        finally:
            replica.stop()
            primary.stop()


def test_the_primary_is_killed_and_the_replica_promoted(tmp_path: Path, cache: Server) -> None:
    with pair() as (primary, replica):
        dsn = (
            f"host=127.0.0.1,127.0.0.1 port={primary.port},{replica.port} dbname={USER} user={USER} "
            "target_session_attrs=read-write"
        )
        with site(tmp_path, dsn, cache.address) as here, collecting(here) as from_us:
            newest_us = here.newest_us()
            killed_s = time.monotonic()
            primary.kill()
            time.sleep(8)
            writable_s = replica.promote()
            took_s = here.wait_until_storing(max(newest_us, now_us() - 2_000_000), since_s=writable_s)
            figures = here.check(from_us)
            assert took_s < STORING_AGAIN_S + 3
        print(
            f"failover: {figures}; without a primary for {writable_s - killed_s:.0f} s, the present stored "
            f"{took_s:.1f} s after the promotion"
        )
