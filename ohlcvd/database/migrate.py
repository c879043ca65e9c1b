"""Brings the schema to this program's version: numbered SQL files, one transaction each, recorded in ohlcvd.migrations.

Any number of processes may migrate at once: each file is applied under an advisory lock, after looking again whether
somebody else has applied it. A file that was released is never changed; what comes next is another file. A database
that has migrations which this program does not know was used by a newer one, and is left alone.
"""

import re
from importlib.resources import files
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg import errors as pg

from ohlcvd.database.conninfo import with_defaults
from ohlcvd.database.errors import first_line, translated
from ohlcvd.errors import ConfigError, DatabaseTooNew, PermissionRefused, ServiceUnavailable
from ohlcvd.log import get_component_logger

LOCK_KEY = 0x6F686C637664  # "ohlcvd"
MINIMUM_SERVER = 14

_FILE_NAME = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")
# What a role needs that is not the owner: enough to collect, once an owner has migrated.
_NEEDED = {
    "migrations": ("SELECT",),
    "instruments": ("SELECT", "INSERT"),
    "trades": ("SELECT", "INSERT"),
    "candles_1m": ("SELECT", "INSERT", "UPDATE"),
    "coverage": ("SELECT", "INSERT", "UPDATE"),
    "unfillable": ("SELECT", "INSERT", "DELETE"),
    "symbols": ("SELECT",),
}

log = get_component_logger("ohlcvd.database.migrate")


class Migration(NamedTuple):
    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """Every migration of this program, in order."""
    found = []
    for entry in files("ohlcvd.database").joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text("utf-8")))
    return sorted(found)


async def migrate(conninfo: str) -> None:
    """Apply what is missing; when nothing is, only read.

    DatabaseTooNew; ConfigError for a server older than PostgreSQL 14; PermissionRefused naming the missing grant;
    ServiceUnavailable when the server cannot be used now (away, starting up, a standby).
    """
    with translated("migrating the schema"):
        connection = await AsyncConnection.connect(with_defaults(conninfo), autocommit=True)
        try:
            await connection.execute("SET statement_timeout = '10min'")
            await _check_server(connection)
            known = migrations()
            try:
                applied = await _applied(connection, known)
            except pg.InsufficientPrivilege:
                await _check_grants(connection)  # says what is missing
                raise
            for migration in known[applied:]:
                await _apply(connection, migration, known)
            await _check_grants(connection)
        finally:
            await connection.close()


async def _check_server(connection: AsyncConnection[Any]) -> None:
    version = connection.info.server_version
    if version < MINIMUM_SERVER * 10_000:
        raise ConfigError(f"PostgreSQL is version {version // 10_000}, ohlcvd needs {MINIMUM_SERVER} or newer")
    query = "SELECT current_user, pg_is_in_recovery(), current_setting('transaction_read_only')::boolean"
    user, standby, read_only = await _row(connection, query)
    if standby:
        raise ServiceUnavailable(
            "PostgreSQL is a standby: name all hosts and target_session_attrs=read-write, or promote it"
        )
    if read_only:
        raise PermissionRefused(
            f'role "{user}" may only read: let it write by ALTER ROLE "{user}" SET default_transaction_read_only = off'
        )


async def _applied(connection: AsyncConnection[Any], known: list[Migration]) -> int:
    """How many of the known migrations are applied."""
    # Catalogs, not to_regclass: that one fails for a role without USAGE on the schema.
    query = """SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                               WHERE n.nspname = 'ohlcvd' AND c.relname = 'migrations')"""
    (exists,) = await _row(connection, query)
    if not exists:
        return 0
    (newest,) = await _row(connection, "SELECT coalesce(max(version), 0) FROM ohlcvd.migrations")
    if newest > known[-1].version:
        raise DatabaseTooNew(
            f"the database has schema version {newest}, this ohlcvd knows {known[-1].version}: "
            "it was used by a newer ohlcvd; install that one, or use another database"
        )
    return sum(migration.version <= newest for migration in known)


async def _apply(connection: AsyncConnection[Any], migration: Migration, known: list[Migration]) -> None:
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
            if await _applied(connection, known) > known.index(migration):
                return  # another process was faster
            if migration is known[0]:
                await _make_schema(connection)
            await connection.execute(migration.sql.encode())
            await connection.execute(
                "INSERT INTO ohlcvd.migrations (version, name) VALUES (%s, %s)", (migration.version, migration.name)
            )
    except pg.InsufficientPrivilege as error:
        user, database = await _row(connection, "SELECT current_user, current_database()")
        raise PermissionRefused(
            f'role "{user}" may not migrate the schema to version {migration.version} ({first_line(error)}): '
            f'GRANT CREATE ON DATABASE "{database}" TO "{user}" for a new one, or migrate as the owner of schema ohlcvd'
        ) from error
    log.info("schema migrated", version=migration.version, name=migration.name)


async def _make_schema(connection: AsyncConnection[Any]) -> None:
    # Looking first: IF NOT EXISTS asks for the right to create even where an administrator has made the schema.
    (exists,) = await _row(connection, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'ohlcvd')")
    if not exists:
        await connection.execute("CREATE SCHEMA ohlcvd")
    await connection.execute(
        """CREATE TABLE ohlcvd.migrations
           (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"""
    )


async def _check_grants(connection: AsyncConnection[Any]) -> None:
    (user,) = await _row(connection, "SELECT current_user")
    (usable,) = await _row(connection, "SELECT has_schema_privilege('ohlcvd', 'USAGE')")
    lacking = [] if usable else [f'GRANT USAGE ON SCHEMA ohlcvd TO "{user}"']
    # By oid: has_table_privilege with a name fails without USAGE on the schema.
    query = """SELECT c.relname, p FROM unnest(%s::text[], %s::text[]) AS needed (relname, p)
                 JOIN pg_catalog.pg_namespace n ON n.nspname = 'ohlcvd'
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = needed.relname
                WHERE NOT has_table_privilege(c.oid, p)"""
    pairs = [(table, privilege) for table, privileges in _NEEDED.items() for privilege in privileges]
    refused = await (await connection.execute(query, ([t for t, _ in pairs], [p for _, p in pairs]))).fetchall()
    lacking += [f'GRANT {privilege} ON ohlcvd.{table} TO "{user}"' for table, privilege in refused]
    if lacking:
        raise PermissionRefused(f'role "{user}" lacks rights in the database: {"; ".join(lacking)}')


async def _row(connection: AsyncConnection[Any], query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = await (await connection.execute(query.encode())).fetchone()
    assert row is not None, query
    return row
