"""Drops rows that are older than they are to be kept: whole partitions of trades, and minutes with their hours.

In two steps, so that nobody fetches anew what is about to go. First what is wanted begins later (`want_less`): running
processes read that every few seconds. Later the rows go (`drop`), and in the same transaction what was covered of them:
missing = wanted - covered stays true at every moment. Both do nothing when there is nothing to do, and any process may
call them; one at a time does the work.

A partition goes when all of its time is over, so the rows of a month may stay until the month is.
"""

from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql

from ohlcvd.database.encode import moment
from ohlcvd.database.errors import first_line
from ohlcvd.database.partitions import DAY_US, Partition, named
from ohlcvd.database.pool import Database
from ohlcvd.log import get_component_logger
from ohlcvd.market import Kind

_LOCK_KEY: Final = 0x6F686C637274  # another one than those of migrations, of making and of closing partitions
# Whoever waits for the whole table makes everybody else wait behind.
_LOCK_TIMEOUT_S: Final = 2
# Minutes of one market deleted at once.
_STRETCH: Final = "30 days"

_WANT_LESS: Final = """
UPDATE ohlcvd.coverage c SET wanted_from = %(bound)s
  FROM (SELECT instrument_id, kind FROM ohlcvd.coverage WHERE kind = %(kind)s AND wanted_from < %(bound)s
         ORDER BY instrument_id, kind FOR UPDATE) AS n
 WHERE (c.instrument_id, c.kind) = (n.instrument_id, n.kind)"""
_EXISTING: Final = """
SELECT c.relname FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class c ON c.oid = inhrelid
 WHERE inhparent = 'ohlcvd.trades'::regclass ORDER BY 1"""
_LEFT: Final = """
SELECT EXISTS (SELECT FROM ohlcvd.trades_default WHERE ts < %(bound)s)
    OR EXISTS (SELECT FROM ohlcvd.coverage WHERE kind = 'trades' AND covered && tstzrange(NULL, %(bound)s))"""
_OLD_MARKETS: Final = """
SELECT id FROM ohlcvd.instruments
 WHERE EXISTS (SELECT FROM ohlcvd.candles_1m WHERE instrument_id = id AND ts < %(bound)s)
    OR EXISTS (SELECT FROM ohlcvd.coverage WHERE instrument_id = id AND kind = 'candles'
                  AND covered && tstzrange(NULL, %(bound)s)) ORDER BY id"""
# In one order everywhere, so that two processes cannot lock each other out.
_LOCK: Final = """
SELECT FROM ohlcvd.coverage WHERE kind = %(kind)s AND instrument_id = coalesce(%(market)s, instrument_id)
 ORDER BY instrument_id, kind FOR UPDATE"""
_UNCOVER: Final = """
UPDATE ohlcvd.coverage SET covered = covered - tstzmultirange(tstzrange(NULL, %(bound)s))
 WHERE kind = %(kind)s AND instrument_id = coalesce(%(market)s, instrument_id)
   AND covered && tstzrange(NULL, %(bound)s)"""
_FORGET: Final = """
DELETE FROM ohlcvd.unfillable WHERE kind = %(kind)s AND instrument_id = coalesce(%(market)s, instrument_id)
   AND upper(gap) <= %(bound)s"""
_DELETE_CANDLES: Final = f"""
DELETE FROM ohlcvd.candles_1m WHERE instrument_id = %(market)s AND ts < least(%(bound)s,
    (SELECT min(ts) FROM ohlcvd.candles_1m WHERE instrument_id = %(market)s) + interval '{_STRETCH}')"""

log = get_component_logger("ohlcvd.database.retention")


def expired(names: list[str], bound_us: int) -> list[Partition]:
    """Those of the partitions of which everything is older."""
    found = [partition for partition in map(named, names) if partition is not None]
    return [partition for partition in found if partition.upper * DAY_US <= bound_us]


async def want_less(database: Database, kind: Kind, bound_us: int) -> int:
    """Nothing from before `bound_us` is wanted any more; of how many markets it was. ServiceUnavailable."""
    async with database.connection("noting what is to be dropped") as connection:
        return (await connection.execute(_WANT_LESS, {"kind": kind, "bound": moment(bound_us)})).rowcount


async def drop(database: Database, kind: Kind, bound_us: int) -> int:
    """Drop what is older than `bound_us`; how many rows of candles, or partitions. What cannot be dropped now is logged
    and left for the next time."""
    try:
        connection = await database.connect()
    except psycopg.Error as error:
        log.debug("old rows cannot be looked at", reason=first_line(error))
        return 0
    try:
        await connection.execute("SET statement_timeout = 0")
        row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_KEY,))).fetchone()
        if row is None or not row[0]:
            return 0
        return await (_drop_trades if kind == "trades" else _drop_candles)(connection, bound_us)
    except psycopg.Error as error:
        log.warning("old rows could not be dropped, tried again later", kind=kind, reason=first_line(error))
        return 0
    finally:
        await connection.close()  # and with it the lock


async def _drop_trades(connection: AsyncConnection[Any], bound_us: int) -> int:
    words = {"kind": "trades", "market": None, "bound": moment(bound_us)}
    names = [name for (name,) in await (await connection.execute(_EXISTING)).fetchall()]
    partitions = expired(names, bound_us)
    left = await (await connection.execute(_LEFT, words)).fetchone()
    if not partitions and not (left and left[0]):
        return 0
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
        # First, as those who write do it: rows, and then coverage.
        await connection.execute("LOCK TABLE ohlcvd.trades IN ACCESS EXCLUSIVE MODE")
        await connection.execute(_LOCK, words)
        await connection.execute(_UNCOVER, words)
        await connection.execute(_FORGET, words)
        deleted = (await connection.execute("DELETE FROM ohlcvd.trades_default WHERE ts < %(bound)s", words)).rowcount
        for partition in partitions:
            await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("ohlcvd", partition.name)))
    log.warning(
        "trades older than retention_trades are dropped", before=words["bound"].isoformat(),  # type: ignore[union-attr]
        partitions=[partition.name for partition in partitions], rows_beside_them=deleted,
    )  # fmt: skip
    return len(partitions)


async def _drop_candles(connection: AsyncConnection[Any], bound_us: int) -> int:
    bound = moment(bound_us)
    dropped = 0
    markets = await (await connection.execute(_OLD_MARKETS, {"bound": bound})).fetchall()
    for (market,) in markets:
        words = {"kind": "candles", "market": market, "bound": bound}
        while True:
            async with connection.transaction():
                deleted = (await connection.execute(_DELETE_CANDLES, words)).rowcount
                await connection.execute(_UNCOVER, words)
                await connection.execute(_FORGET, words)
            dropped += deleted
            if not deleted:
                break
    if markets:
        log.warning(
            "candles older than retention_candles are dropped", before=bound.isoformat(), markets=len(markets),
            rows=dropped,
        )  # fmt: skip
    return dropped
