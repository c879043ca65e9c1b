"""Partitions of `trades`: days for the present, months for older history, made before the rows that need them.

A row never fails for want of a partition: where one cannot be made (no right to, locked for too long), the rows go
into DEFAULT, and it is tried again later. A partition whose rows lie in DEFAULT already is made by moving them.
"""

import re
from collections.abc import Collection, Iterable
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import AsyncConnection, sql
from psycopg import errors as pg

from ohlcvd.database.errors import first_line
from ohlcvd.log import get_component_logger
from ohlcvd.market import SECOND_US

DAY_US: Final = 86_400 * SECOND_US
# History older than this is stored by months: years of days would be thousands of tables.
_DAILY_DAYS: Final = 60
_RETRY_S: Final = 60.0
# Waiting for a lock on DEFAULT makes every other user of it wait behind.
_LOCK_TIMEOUT_S: Final = 2
_LOCK_KEY: Final = 0x6F686C637065  # another one than that of the migrations
_EPOCH: Final = date(1970, 1, 1)
_EXISTING: Final = """SELECT relname FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class c ON c.oid = inhrelid
                       WHERE inhparent = 'ohlcvd.trades'::regclass"""
_CREATE: Final = "CREATE TABLE {table} (LIKE ohlcvd.trades INCLUDING ALL)"
_MOVE: Final = """WITH moved AS (DELETE FROM ohlcvd.trades_default WHERE ts >= {lower} AND ts < {upper} RETURNING *)
                   INSERT INTO {table} SELECT * FROM moved"""
_ATTACH: Final = "ALTER TABLE ohlcvd.trades ATTACH PARTITION {table} FOR VALUES FROM ({lower}) TO ({upper})"
_NAME: Final = re.compile(r"trades_([0-9]{4})([0-9]{2})([0-9]{2})?")

log = get_component_logger("ohlcvd.database.partitions")


class Partition(NamedTuple):
    """Days since 1970, `[lower, upper)`; its name is that of its table, trades_20260131 or trades_202601."""

    lower: int
    upper: int
    name: str


def of_day(day: int) -> Partition:
    return Partition(day, day + 1, f"trades_{_EPOCH + timedelta(day):%Y%m%d}")


def of_month(day: int) -> Partition:
    """The month that `day` lies in."""
    first = (_EPOCH + timedelta(day)).replace(day=1)
    following = (first + timedelta(31)).replace(day=1)
    return Partition((first - _EPOCH).days, (following - _EPOCH).days, f"trades_{first:%Y%m}")


def named(name: str) -> Partition | None:
    """The partition that a table's name stands for, or None for any other table."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    day = (date(int(match[1]), int(match[2]), int(match[3] or 1)) - _EPOCH).days
    return of_day(day) if match[3] else of_month(day)


def lacking(days: Iterable[int], today: int, existing: Collection[Partition]) -> list[Partition]:
    """The partitions to make so that every one of `days` has one, given those that exist. None overlaps another."""
    made: list[Partition] = []
    for day in sorted(days):
        have = [*existing, *made]
        if any(p.lower <= day < p.upper for p in have):
            continue
        month = of_month(day)
        free = not any(p.lower < month.upper and month.lower < p.upper for p in have)
        made.append(month if free and month.upper <= today - _DAILY_DAYS else of_day(day))
    return made


class Partitions:
    """What one process knows of the partitions that exist. Nothing is asked of the server while it knows enough."""

    def __init__(self) -> None:
        self._existing: set[Partition] = set()
        self._days: set[int] = set()  # all days of them, so that the usual question is one set operation
        self._retry_at_s = 0.0

    async def ensure(self, connection: AsyncConnection[Any], days: set[int], today: int, mono_s: float) -> None:
        """Make what `days` and the morrow need. Raises only when the connection is lost."""
        wanted = days | {today, today + 1}
        if wanted <= self._days or mono_s < self._retry_at_s:
            return
        await self._look(connection)
        for partition in lacking(wanted, today, self._existing):
            try:
                await _make(connection, partition)
            except pg.InvalidObjectDefinition as error:  # it would overlap one that is not ours, which serves as well
                log.info("partition is not needed", partition=partition.name, reason=first_line(error))
            except psycopg.Error as error:
                if connection.broken:
                    raise
                log.warning(
                    "partition cannot be made, its rows go into the default one",
                    partition=partition.name,
                    reason=first_line(error),
                    retry_in_s=_RETRY_S,
                )
                self._retry_at_s = mono_s + _RETRY_S
                return
            self._add(partition)

    async def _look(self, connection: AsyncConnection[Any]) -> None:
        for (name,) in await (await connection.execute(_EXISTING)).fetchall():
            partition = named(name)
            if partition is not None:
                self._add(partition)

    def _add(self, partition: Partition) -> None:
        self._existing.add(partition)
        self._days.update(range(partition.lower, partition.upper))


async def _make(connection: AsyncConnection[Any], partition: Partition) -> None:
    """CREATE and ATTACH: unlike CREATE .. PARTITION OF, that does not lock out those who write to the others."""
    lower, upper = (sql.Literal(f"{_EPOCH + timedelta(day)} 00:00:00+00") for day in (partition.lower, partition.upper))
    create, move, attach = (
        sql.SQL(statement).format(table=sql.Identifier("ohlcvd", partition.name), lower=lower, upper=upper)
        for statement in (_CREATE, _MOVE, _ATTACH)
    )
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        there = await connection.execute(_EXISTING + " AND relname = %s", (partition.name,))
        if there.rowcount:
            return  # another process was faster
        # What ATTACH needs anyway, taken before the move: a lock that is raised later can deadlock.
        await connection.execute("LOCK TABLE ohlcvd.trades_default IN ACCESS EXCLUSIVE MODE")
        await connection.execute(create)
        moved = await connection.execute(move)
        await connection.execute(attach)
    log.info("partition made", partition=partition.name, rows_moved_from_default=moved.rowcount)
