"""Puts rows and coverage into the database, all in one transaction. The SQL of writing is here and nowhere else.

Trades that are certainly new go by binary COPY straight into the table, at every batch size the cheapest. All others
go the careful way: one INSERT from arrays that leaves out what is there. It is as fast as a temporary table with ON
CONFLICT, needs no right to make one, and fewer round trips. Storing the same again the careful way changes nothing.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection, AsyncCursor
from psycopg import errors as pg

from ohlcvd.coverage import Range
from ohlcvd.database import encode
from ohlcvd.database.batch import SAME_TRADE_US, Claim
from ohlcvd.database.encode import TradeRow
from ohlcvd.database.freshness import LOOK_BACK_US, Extent, HighWater, Mark, extents
from ohlcvd.database.partitions import DAY_US, Partitions
from ohlcvd.market import Candles

# Rows encoded without giving the event loop a turn: about 2 ms.
_SLICE_ROWS: Final = 1_000
_COLUMNS: Final = "ts, trade_id, instrument_id, side, price, amount, venue_id, ordinal"
_COPY: Final = f"COPY ohlcvd.trades ({_COLUMNS}) FROM STDIN (FORMAT binary)".encode()

# The bounds let the planner leave out all partitions but those of the batch, when looking for the same trade.
_INSERT: Final = f"""
INSERT INTO ohlcvd.trades ({_COLUMNS})
SELECT {_COLUMNS} FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s) AS n ({_COLUMNS})
 WHERE n.trade_id < 0 OR NOT EXISTS (
       SELECT FROM ohlcvd.trades t
        WHERE t.instrument_id = n.instrument_id AND t.trade_id = n.trade_id
          AND t.ts BETWEEN n.ts - interval '{SAME_TRADE_US} us' AND n.ts + interval '{SAME_TRADE_US} us'
          AND t.ts BETWEEN %s AND %s)
ON CONFLICT DO NOTHING""".encode()

# The venue's candle beats one built from trades and never the other way round. A correction is a venue's candle that
# changes the values of an earlier one of its own. A count that the venue gave stays when it sends none later.
_UPSERT: Final = b"""
WITH stored AS (
    INSERT INTO ohlcvd.candles_1m AS c (ts, trades, instrument_id, source, open, high, low, close, volume)
    SELECT * FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (instrument_id, ts) DO UPDATE SET
        (open, high, low, close, volume, source) =
            (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.source),
        trades = CASE WHEN c.source = 'v' THEN coalesce(excluded.trades, c.trades) ELSE excluded.trades END,
        (corrections, corrected_at) = (
            SELECT least(c.corrections + 1, 32767), now()
             WHERE c.source = 'v'
               AND ((c.open, c.high, c.low, c.close, c.volume) IS DISTINCT FROM
                    (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume)
                    OR excluded.trades <> c.trades)
             UNION ALL SELECT c.corrections, c.corrected_at LIMIT 1)
     WHERE (excluded.source = 'v' OR c.source = 't')
       AND ((c.open, c.high, c.low, c.close, c.volume, c.source) IS DISTINCT FROM
            (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.source)
            OR excluded.trades IS DISTINCT FROM c.trades AND (excluded.trades IS NOT NULL OR c.source = 't'))
    RETURNING corrected_at IS NOT DISTINCT FROM now() AS corrected
)
SELECT count(*), count(*) FILTER (WHERE corrected) FROM stored"""

# In one order everywhere, so that two processes cannot lock each other out.
_COVER: Final = b"""
INSERT INTO ohlcvd.coverage AS c (instrument_id, kind, covered)
SELECT instrument_id, kind, range_agg(tstzrange(lower, upper))
  FROM unnest(%s, %s, %s, %s) AS n (instrument_id, kind, lower, upper)
 GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (instrument_id, kind) DO UPDATE SET covered = c.covered + excluded.covered
 WHERE NOT c.covered @> excluded.covered"""

# Taken before two statements touch the same coverage, in the order of _COVER.
_LOCK: Final = b"""
SELECT FROM ohlcvd.coverage c JOIN unnest(%s, %s) AS n (instrument_id, kind) USING (instrument_id, kind)
 ORDER BY instrument_id, kind FOR UPDATE OF c"""

_UNCOVER: Final = b"""
UPDATE ohlcvd.coverage c SET covered = c.covered - n.taken
  FROM (SELECT instrument_id, kind, range_agg(tstzrange(lower, upper)) AS taken
          FROM unnest(%s, %s, %s, %s) AS n (instrument_id, kind, lower, upper) GROUP BY 1, 2) AS n
 WHERE (c.instrument_id, c.kind) = (n.instrument_id, n.kind) AND c.covered && n.taken"""

_NEWEST: Final = b"""
SELECT w.instrument_id, (extract(epoch FROM newest.ts) * 1000000)::bigint,
       (SELECT max(t.trade_id) FROM ohlcvd.trades t
         WHERE t.instrument_id = w.instrument_id AND t.ts >= %(since)s AND t.ts >= newest.ts - %(window)s)
  FROM unnest(%(instruments)s) AS w (instrument_id)
 CROSS JOIN LATERAL (SELECT max(t.ts) AS ts FROM ohlcvd.trades t
                      WHERE t.instrument_id = w.instrument_id AND t.ts >= %(since)s) AS newest"""


# Whether anything is stored where history is about to go.
_NEAR: Final = f"""
SELECT FROM unnest(%s, %s, %s) AS n (instrument_id, oldest, newest)
 WHERE EXISTS (
       SELECT FROM ohlcvd.trades t
        WHERE t.instrument_id = n.instrument_id
          AND t.ts BETWEEN n.oldest - interval '{SAME_TRADE_US} us' AND n.newest + interval '{SAME_TRADE_US} us'
          AND t.ts BETWEEN %s AND %s) LIMIT 1""".encode()


_Statement = tuple[bytes, tuple[object, ...]]  # with its parameters


class RowRefused(Exception):
    """A value that PostgreSQL's types cannot hold, found before anything was sent."""


# What the rows are to blame for; everything else is trouble with the server and worth another attempt.
REFUSALS: Final = (pg.DataError, pg.IntegrityError, RowRefused)


@dataclass(slots=True)
class Work:
    """What one transaction stores."""

    rows: Sequence[TradeRow] = ()
    candles: Sequence[tuple[int, Candles]] = ()  # with the instrument's id; none is empty
    covered: Mapping[Claim, Sequence[Range]] = field(default_factory=dict)
    uncovered: Mapping[Claim, Sequence[Range]] = field(default_factory=dict)  # taken away before `covered` is added


class Stored(NamedTuple):
    """What became of it: new trades, trades that were there, candles added or changed, candles the venue corrected."""

    trades: int = 0
    duplicates: int = 0
    candles: int = 0
    corrections: int = 0

    def plus(self, other: "Stored") -> "Stored":
        return Stored(*(a + b for a, b in zip(self, other, strict=True)))


class Storing:
    """What one writer knows of the database: partitions, and which trades are certainly new. Outlives connections."""

    def __init__(self, now_us: Callable[[], int] = lambda: time.time_ns() // 1_000) -> None:
        self._partitions = Partitions()
        self._high_water = HighWater()
        self._now_us = now_us

    async def store(self, connection: AsyncConnection[Any], work: Work, *, careful: bool) -> Stored:
        """One transaction; when this returns, it is committed. `careful`: as if every row might be there already.

        Raises one of REFUSALS when a row is to blame (among them UniqueViolation, when not careful), or whatever
        psycopg raises. After any error but those, it is not known whether it was committed: store again, careful.
        """
        fresh: Sequence[TradeRow] = ()
        doubtful = work.rows
        batch = extents(work.rows)
        if batch:
            await self._prepare(connection, work.rows, batch)
            if not careful:
                fresh, doubtful = self._high_water.split(work.rows, batch)
                if doubtful and not await _any_near(connection, doubtful):
                    fresh, doubtful = work.rows, ()
        if not (work.rows or work.candles or work.uncovered):  # one statement is a transaction by itself
            await cover(connection, work.covered)
            return Stored()
        try:
            claims = _claims(work.uncovered, work.covered)
            if not work.rows:
                return await _store_in_one_go(connection, work.candles, claims)
            async with connection.transaction():
                stored = Stored(trades=len(fresh))
                if fresh:
                    await _copy(connection, fresh)
                if doubtful:
                    stored = stored.plus(await _insert(connection, doubtful))
                if work.candles:
                    stored = stored.plus(await _counted(await _upsert(connection, work.candles)))
                for statement, parameters in claims:
                    await connection.execute(statement, parameters)
        except (ValueError, struct.error) as error:
            raise RowRefused(str(error)) from error
        self._high_water.advance(batch)
        return stored

    async def _prepare(
        self, connection: AsyncConnection[Any], rows: Sequence[TradeRow], batch: Mapping[int, Extent]
    ) -> None:
        days = {ts_us // DAY_US for extent in batch.values() for ts_us in (extent.oldest_us, extent.newest_us)}
        if len(days) > 1:
            days = {row[3].ts_us // DAY_US for row in rows}
        await self._partitions.ensure(connection, days, self._now_us() // DAY_US, time.monotonic())
        unknown = self._high_water.unknown(batch)
        if unknown:
            await self._look_up(connection, unknown)

    async def _look_up(self, connection: AsyncConnection[Any], earliest: Mapping[int, int]) -> None:
        since_us = min(earliest.values()) - LOOK_BACK_US
        parameters = {
            "instruments": encode.int4_array(earliest),
            "since": _moment(since_us),
            "window": timedelta(microseconds=LOOK_BACK_US),
        }
        for instrument_id, ts_us, trade_id in await (await connection.execute(_NEWEST, parameters)).fetchall():
            found = Mark(since_us, -1) if ts_us is None else Mark(ts_us, max(trade_id, -1))
            self._high_water.found(instrument_id, found)


async def _any_near(connection: AsyncConnection[Any], rows: Sequence[TradeRow]) -> bool:
    """Whether one of these trades might be stored already: anything of its market is, between the first and last."""
    found = extents(rows)
    oldest, newest = [one.oldest_us for one in found.values()], [one.newest_us for one in found.values()]
    parameters = encode.int4_array(found), encode.timestamp_array(oldest), encode.timestamp_array(newest)
    bounds = (_moment(min(oldest) - SAME_TRADE_US), _moment(max(newest) + SAME_TRADE_US))
    # Not prepared: a generic plan would look through every partition.
    return bool((await connection.execute(_NEAR, (*parameters, *bounds), prepare=False)).rowcount)


async def _copy(connection: AsyncConnection[Any], rows: Sequence[TradeRow]) -> None:
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(encode.COPY_HEAD)
        for start in range(0, len(rows), _SLICE_ROWS):
            await copy.write(encode.copy_rows(rows[start : start + _SLICE_ROWS]))
            await asyncio.sleep(0)
        await copy.write(encode.COPY_TAIL)


async def _insert(connection: AsyncConnection[Any], rows: Sequence[TradeRow]) -> Stored:
    times = [row[3].ts_us for row in rows]
    bounds = (_moment(min(times) - SAME_TRADE_US), _moment(max(times) + SAME_TRADE_US))
    # Not prepared: a generic plan would look through every partition.
    cursor = await connection.execute(_INSERT, (*encode.trade_columns(rows), *bounds), prepare=False)
    return Stored(trades=cursor.rowcount, duplicates=len(rows) - cursor.rowcount)


async def _store_in_one_go(
    connection: AsyncConnection[Any], candles: Sequence[tuple[int, Candles]], claims: Sequence[_Statement]
) -> Stored:
    """Without trades: all statements travel together, where each would be waited for. What is between the ends of a
    pipeline is one transaction, committed when its end has returned."""
    upserted: AsyncCursor[Any] | None = None
    async with connection.pipeline():
        if candles:
            upserted = await _upsert(connection, candles)
        for statement, parameters in claims:
            await connection.execute(statement, parameters)
    return Stored() if upserted is None else await _counted(upserted)


async def _upsert(connection: AsyncConnection[Any], candles: Sequence[tuple[int, Candles]]) -> AsyncCursor[Any]:
    return await connection.execute(_UPSERT, encode.candle_columns(candles))


async def _counted(upserted: AsyncCursor[Any]) -> Stored:
    row = await upserted.fetchone()
    assert row is not None
    return Stored(candles=row[0], corrections=row[1])


async def cover(connection: AsyncConnection[Any], covered: Mapping[Claim, Sequence[Range]]) -> None:
    """Extend coverage, in the caller's transaction: the one in which the rows it speaks of are stored."""
    columns = _columns(covered)
    if columns is not None:
        await connection.execute(_COVER, columns)


def _claims(uncovered: Mapping[Claim, Sequence[Range]], covered: Mapping[Claim, Sequence[Range]]) -> list[_Statement]:
    """What takes claims back, and then makes others."""
    statements: list[_Statement] = []
    taken, made = _columns(uncovered), _columns(covered)
    if taken is not None:
        claims = {(instrument.id, kind) for instrument, kind in (*uncovered, *covered)}
        parameters = encode.int4_array(i for i, _ in claims), encode.text_array(kind for _, kind in claims)
        statements += (_LOCK, parameters), (_UNCOVER, taken)
    if made is not None:
        statements.append((_COVER, made))
    return statements


def _columns(claims: Mapping[Claim, Sequence[Range]]) -> tuple[object, ...] | None:
    """As arrays: instruments, kinds, lower and upper bounds; None where there is no range."""
    flat = [(instrument.id, kind, *r) for (instrument, kind), ranges in claims.items() for r in ranges]
    if not flat:
        return None
    return (
        encode.int4_array(entry[0] for entry in flat),
        encode.text_array(entry[1] for entry in flat),
        encode.timestamp_array(entry[2] for entry in flat),
        encode.timestamp_array(entry[3] for entry in flat),
    )


def _moment(ts_us: int) -> datetime:
    """For bounds that the planner shall see; a time outside of datetime's years would be refused by the server too."""
    try:
        return encode.moment(ts_us)
    except OverflowError as error:
        raise RowRefused(f"time {ts_us} us is beyond the year 9999") from error


def split_in_halves(work: Work) -> Iterable[Work]:
    """Rows and candles apart first, then each halved; a single one yields nothing. Coverage is left out."""
    if work.rows and work.candles:
        yield Work(rows=work.rows)
        yield Work(candles=work.candles)
    elif len(work.rows) > 1:
        middle = len(work.rows) // 2
        yield Work(rows=work.rows[:middle])
        yield Work(rows=work.rows[middle:])
    elif len(work.candles) > 1:
        middle = len(work.candles) // 2
        yield Work(candles=work.candles[:middle])
        yield Work(candles=work.candles[middle:])
    elif work.candles and len(work.candles[0][1]) > 1:
        [(instrument_id, candles)] = work.candles
        middle = len(candles) // 2
        yield Work(candles=[(instrument_id, candles[:middle])])
        yield Work(candles=[(instrument_id, candles[middle:])])
