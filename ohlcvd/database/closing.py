"""Closes partitions of `trades` whose time is over: their index is built anew and takes a third less room.

While a day is written, each market's trades come in at a place of their own in the index, whose pages stay half full.
What is written later still finds its place; a partition that has grown a good deal since is closed again. One process
at a time does it, and nobody who reads or writes waits for it. When it was closed stands in the table's comment.
"""

import re
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql

from ohlcvd.database.errors import first_line
from ohlcvd.database.partitions import DAY_US, named
from ohlcvd.database.pool import Database
from ohlcvd.log import get_component_logger
from ohlcvd.market import SECOND_US

# How long after its end: stragglers and what an outage left out have come by then.
AFTER_US: Final = 3_600 * SECOND_US
_LOCK_KEY: Final = 0x6F686C636C73  # another one than those of migrations and of making partitions
_GROWTH: Final = 1.25
_PARTITIONS: Final = """
SELECT c.relname, pg_relation_size(c.oid), obj_description(c.oid, 'pg_class')
  FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class c ON c.oid = inhrelid
 WHERE inhparent = 'ohlcvd.trades'::regclass ORDER BY 1"""
# What an attempt that was cut short has left behind.
_UNFINISHED: Final = """
SELECT c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = %s::regclass AND NOT i.indisvalid"""
_CLOSED: Final = re.compile(r"closed at ([0-9]+) bytes")

log = get_component_logger("ohlcvd.database.closing")


def is_due(name: str, size: int, comment: str | None, now_us: int) -> bool:
    """Whether the partition of this name and size, with this comment, is to be closed."""
    partition = named(name)
    if partition is None or partition.upper * DAY_US + AFTER_US > now_us or not size:
        return False
    closed = _CLOSED.fullmatch(comment or "")
    return closed is None or size > int(closed[1]) * _GROWTH


async def close_partitions(database: Database, now_us: int) -> int:
    """Close what is due; how many. A partition that cannot be closed is logged and left for the next time."""
    try:
        connection = await database.connect()
    except psycopg.Error as error:
        log.debug("partitions cannot be looked at", reason=first_line(error))
        return 0
    try:
        found = await (await connection.execute(_PARTITIONS)).fetchall()
        due = [(name, size) for name, size, comment in found if is_due(name, size, comment, now_us)]
        if not due or not await _is_mine(connection):
            return 0
        await connection.execute("SET statement_timeout = 0")
        for name, size in due:
            await _close(connection, name, size)
        return len(due)
    except psycopg.Error as error:
        log.warning("a partition could not be closed, tried again later", reason=first_line(error))
        return 0
    finally:
        await connection.close()  # and with it the lock


async def _is_mine(connection: AsyncConnection[Any]) -> bool:
    row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_KEY,))).fetchone()
    return row is not None and bool(row[0])


async def _close(connection: AsyncConnection[Any], name: str, size: int) -> None:
    table = sql.Identifier("ohlcvd", name)
    for (index,) in await (await connection.execute(_UNFINISHED, (f"ohlcvd.{name}",))).fetchall():
        await connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier("ohlcvd", index)))
    await connection.execute(sql.SQL("REINDEX TABLE CONCURRENTLY {}").format(table))
    comment = sql.Literal(f"closed at {size} bytes")
    await connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, comment))
    log.info("partition is closed, its index is built anew", partition=name, bytes=size)
