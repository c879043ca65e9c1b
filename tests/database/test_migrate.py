"""The schema: made once by whoever comes first, never by two, never backwards."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ohlcvd.database import Database
from ohlcvd.database.migrate import migrate, migrations
from ohlcvd.embedded import prepare_postgres, running
from ohlcvd.errors import DatabaseTooNew, Exit, PermissionRefused, ServiceUnavailable
from tests.database.support import query
from tests.servers import FAST

VERSIONS = [(m.version, m.name) for m in migrations()]


def applied(conninfo: str) -> list[tuple[int, str]]:
    return query(conninfo, "SELECT version, name FROM ohlcvd.migrations ORDER BY 1")


def _migrate_in_child(conninfo: str, start: "multiprocessing.synchronize.Event") -> None:
    start.wait()
    asyncio.run(migrate(conninfo))


def test_every_sql_file_is_a_migration_and_they_are_numbered_without_holes() -> None:
    sql_files = [entry.name for entry in files("ohlcvd.database").joinpath("migrations").iterdir()]
    assert len([name for name in sql_files if name.endswith(".sql")]) == len(VERSIONS)
    assert [version for version, _ in VERSIONS] == list(range(1, len(VERSIONS) + 1))


def test_eight_processes_at_once_make_the_schema_once(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    children = [context.Process(target=_migrate_in_child, args=(database_url, start)) for _ in range(8)]
    for child in children:
        child.start()
    start.set()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 8
    assert applied(database_url) == VERSIONS


async def test_many_at_once_in_one_process_too_and_again_changes_nothing(database_url: str) -> None:
    await asyncio.gather(*(migrate(database_url) for _ in range(8)))
    before = query(database_url, "SELECT version, applied_at FROM ohlcvd.migrations")
    await migrate(database_url)
    assert query(database_url, "SELECT version, applied_at FROM ohlcvd.migrations") == before


async def test_an_older_schema_is_brought_up_from_where_it_is(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        # by its module's name: the package gives the function of that name
        older.setattr(sys.modules[migrate.__module__], "migrations", lambda: migrations()[:1])
        await migrate(database_url)
    assert applied(database_url) == VERSIONS[:1]
    query(database_url, "INSERT INTO ohlcvd.instruments (exchange, symbol) VALUES ('kraken', 'BTC/USD')")
    await migrate(database_url)
    assert applied(database_url) == VERSIONS
    assert query(database_url, "SELECT symbol FROM ohlcvd.instruments") == [("BTC/USD",)]


async def test_a_failing_migration_leaves_nothing_of_itself(database_url: str) -> None:
    # Something of ours in the way of the second file.
    query(database_url, "CREATE SCHEMA ohlcvd; CREATE TABLE ohlcvd.gaps ()")
    with pytest.raises(psycopg.errors.DuplicateTable):
        await migrate(database_url)
    assert applied(database_url) == VERSIONS[:1]
    assert query(database_url, "SELECT to_regclass('ohlcvd.named_trades')") == [(None,)]
    query(database_url, "DROP TABLE ohlcvd.gaps")
    await migrate(database_url)
    assert applied(database_url) == VERSIONS


async def test_a_newer_database_is_left_alone(database_url: str) -> None:
    await migrate(database_url)
    newer = VERSIONS[-1][0] + 1
    query(database_url, "INSERT INTO ohlcvd.migrations (version, name) VALUES (%s, 'of_the_future')", [newer])
    with pytest.raises(DatabaseTooNew, match=f"version {newer}, this ohlcvd knows {newer - 1}") as caught:
        await migrate(database_url)
    assert caught.value.exit_code == Exit.CONFIG
    async with Database(database_url) as database:
        with pytest.raises(DatabaseTooNew):
            await database.wait_until_up()


@contextmanager
def role(conninfo: str) -> Iterator[tuple[str, str]]:
    """A role of no rights, and the conninfo to come as it."""
    name = f"r_{uuid4().hex}"
    query(conninfo, f"CREATE ROLE {name} LOGIN")
    try:
        yield name, make_conninfo(conninfo, user=name)
    finally:
        query(conninfo, f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_missing_right_is_named_as_the_grant_that_gives_it(database_url: str) -> None:
    with role(database_url) as (name, conninfo):
        with pytest.raises(PermissionRefused, match=f'GRANT CREATE ON DATABASE ".*" TO "{name}"') as caught:
            await migrate(conninfo)
        assert caught.value.exit_code == Exit.PERMISSION
        await migrate(database_url)
        with pytest.raises(PermissionRefused, match=f'GRANT USAGE ON SCHEMA ohlcvd TO "{name}"'):
            await migrate(conninfo)
        query(database_url, f"GRANT USAGE ON SCHEMA ohlcvd TO {name}")
        query(database_url, f"GRANT SELECT ON ALL TABLES IN SCHEMA ohlcvd TO {name}")
        with pytest.raises(PermissionRefused, match=f'GRANT INSERT ON ohlcvd.trades TO "{name}"'):
            await migrate(conninfo)
        query(database_url, f"GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA ohlcvd TO {name}")
        with pytest.raises(PermissionRefused, match=f'GRANT DELETE ON ohlcvd.unfillable TO "{name}"'):
            await migrate(conninfo)
        query(database_url, f"GRANT DELETE ON ohlcvd.unfillable TO {name}")
        await migrate(conninfo)


async def test_a_role_that_may_only_read_is_told_so(database_url: str) -> None:
    with pytest.raises(PermissionRefused, match="may only read"):
        await migrate(make_conninfo(database_url, options="-c default_transaction_read_only=on"))


async def test_a_standby_is_not_usable_now(short_path: Path) -> None:
    with running(prepare_postgres(short_path, settings=FAST)):
        pass  # a data directory is what is needed
    data = short_path / "postgres"
    (data / "standby.signal").touch()
    os.chown(data / "standby.signal", data.stat().st_uid, data.stat().st_gid)
    server = prepare_postgres(short_path, settings=FAST)
    server.spawn()
    try:
        async with asyncio.timeout(30):
            said = ""
            while "is a standby" not in said:
                with pytest.raises(ServiceUnavailable) as caught:
                    await migrate(server.address)
                said = str(caught.value)
                await asyncio.sleep(0.05)
    finally:
        os.kill(server.pid, signal.SIGINT)
        await asyncio.to_thread(os.waitpid, server.pid, 0)
        server.release()


async def test_an_unreachable_server_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="cannot be reached for migrating the schema") as caught:
        await migrate(f"host={tmp_path} dbname=nothing password=secret-word")
    assert "secret-word" not in str(caught.value)
