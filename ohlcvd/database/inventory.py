"""What there is and what is missing, for people: markets, how far each is complete, every gap with its evidence.

ServiceUnavailable when the database cannot be reached, or holds nothing of ohlcvd's.
"""

from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection
from psycopg import errors as pg

from ohlcvd.database.conninfo import with_defaults
from ohlcvd.database.errors import translated
from ohlcvd.database.migrate import migrations
from ohlcvd.database.pool import Database
from ohlcvd.database.repairs import EVIDENCE, Unfillable, us
from ohlcvd.errors import DatabaseTooNew, ServiceUnavailable
from ohlcvd.market import Instrument, Kind

_MARKETS: Final = "SELECT id, exchange, symbol FROM ohlcvd.instruments ORDER BY exchange, symbol"
_GAPS: Final = f"""
SELECT g.exchange, g.symbol, g.kind, {us("lower(g.gap)")}, {us("upper(g.gap)")}, g.reason, {EVIDENCE}
  FROM ohlcvd.gaps g
  JOIN ohlcvd.instruments i ON i.exchange = g.exchange AND i.symbol = g.symbol
  LEFT JOIN ohlcvd.unfillable u
    ON u.instrument_id = i.id AND u.kind = g.kind AND u.gap @> g.gap AND u.reason = g.reason
 WHERE g.exchange = coalesce(%(exchange)s::text, g.exchange) AND g.symbol = coalesce(%(symbol)s::text, g.symbol)
 ORDER BY g.exchange, g.symbol, g.kind DESC, g.gap"""
_EXTENTS: Final = f"""
SELECT i.exchange, i.symbol, c.kind, {us("least(c.wanted_from, lower(c.covered))")}, {us("upper(c.covered)")}
  FROM ohlcvd.coverage c JOIN ohlcvd.instruments i ON i.id = c.instrument_id
 WHERE i.exchange = coalesce(%(exchange)s::text, i.exchange) AND i.symbol = coalesce(%(symbol)s::text, i.symbol)
   AND (c.wanted_from IS NOT NULL OR NOT isempty(c.covered))
 ORDER BY i.exchange, i.symbol, c.kind DESC"""


_TABLES: Final[dict[Kind, str]] = {"trades": "trades", "candles": "candles_1m"}
_BOUNDS: Final = f"""
SELECT (SELECT {us("min(r.ts)")} FROM ohlcvd.{{table}} r WHERE r.instrument_id = i.id),
       (SELECT {us("max(r.ts)")} FROM ohlcvd.{{table}} r WHERE r.instrument_id = i.id),
       (SELECT {us("upper(c.covered)")} FROM ohlcvd.coverage c WHERE c.instrument_id = i.id AND c.kind = %(kind)s)
  FROM ohlcvd.instruments i WHERE i.exchange = %(exchange)s AND i.symbol = %(symbol)s"""


class Bounds(NamedTuple):
    """The times of the first and the last row, [lower, upper), and up to where the market is covered (0: nowhere)."""

    rows: tuple[int, int] | None
    covered_to_us: int


class Gap(NamedTuple):
    """What is missing of one market now. `evidence` is None where the venue was not asked in vain yet."""

    exchange: str
    symbol: str
    kind: Kind
    lower_us: int
    upper_us: int
    reason: str
    evidence: Unfillable | None


class Extent(NamedTuple):
    """From where on a market is wanted (or covered), and up to where it is covered, None where nothing is."""

    exchange: str
    symbol: str
    kind: Kind
    since_us: int
    until_us: int | None


async def check_readable(conninfo: str) -> None:
    """Return if the database is there and its schema is this program's; else raise what keeps it from being read.

    Asks on a connection of its own: unlike a pool's, its error says why.
    """
    newest = migrations()[-1].version
    with translated("reading"):
        connection = await AsyncConnection.connect(with_defaults(conninfo), autocommit=True)
        try:
            found = await _schema_version(connection)
        finally:
            await connection.close()
    if found > newest:
        raise DatabaseTooNew(f"the database has schema version {found}, this ohlcvd knows {newest}: use a newer ohlcvd")
    if found < newest:
        state = f"has schema version {found}, this ohlcvd reads {newest}" if found else "has no tables of ohlcvd yet"
        raise ServiceUnavailable(f"the database {state}: start ohlcvd once, it brings them up to date")


async def _schema_version(connection: AsyncConnection[Any]) -> int:
    try:
        cursor = await connection.execute("SELECT coalesce(max(version), 0) FROM ohlcvd.migrations")
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        return 0
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def markets_of(database: Database) -> list[Instrument]:
    """Every market that was ever collected, sorted."""
    async with database.connection("reading markets") as connection:
        return [Instrument._make(row) for row in await (await connection.execute(_MARKETS)).fetchall()]


async def gaps_of(database: Database, exchange: str | None = None, symbol: str | None = None) -> list[Gap]:
    """What is missing now, of everything or of one exchange or market; by market, trades first, oldest first."""
    async with database.connection("reading gaps") as connection:
        rows = await (await connection.execute(_GAPS.encode(), {"exchange": exchange, "symbol": symbol})).fetchall()
    return [Gap._make((*row[:6], Unfillable._make(row[6:]) if row[6] is not None else None)) for row in rows]


async def extents_of(database: Database, exchange: str | None = None, symbol: str | None = None) -> list[Extent]:
    """How far each market reaches, in the same order."""
    async with database.connection("reading coverage") as connection:
        cursor = await connection.execute(_EXTENTS.encode(), {"exchange": exchange, "symbol": symbol})
        return [Extent._make(row) for row in await cursor.fetchall()]


async def bounds_of(database: Database, exchange: str, symbol: str, kind: Kind) -> Bounds:
    """Of one market; without rows if there is no such market."""
    parameters = {"exchange": exchange, "symbol": symbol, "kind": kind}
    async with database.connection("reading how far a market reaches") as connection:
        cursor = await connection.execute(_BOUNDS.format(table=_TABLES[kind]).encode(), parameters)
        first_us, last_us, covered_to_us = await cursor.fetchone() or (None, None, None)
    rows = None if first_us is None or last_us is None else (first_us, last_us + 1)
    return Bounds(rows, covered_to_us or 0)
