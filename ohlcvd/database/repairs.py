"""What repair needs of the database: the rows around a hole, what cannot be filled, candles built from stored trades.

ServiceUnavailable when the database cannot be reached. Extending coverage with fetched rows is the writer's job; here
it is extended only for candles that follow from trades which are covered already.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final, Literal, NamedTuple

from psycopg import AsyncConnection, AsyncCursor, Rollback

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.database.encode import moment
from ohlcvd.database.pool import Database
from ohlcvd.database.store import cover
from ohlcvd.market import MINUTE_US, Candle, Instrument, Kind, Trade

Reason = Literal["unfillable", "venue has no history", "venue outage"]

# One transaction builds the candles of at most this long, so that none is held open over days of trades.
STRETCH_US: Final = 6 * 60 * MINUTE_US
_EVIDENCE_CHARACTERS: Final = 2_000
_LOCK_CLASS: Final = 0x6F686C63  # with an instrument's id


class Unfillable(NamedTuple):
    """A stretch that the venue did not give. `ids` ("123-125") where ids tell; not asked again before `next_us`.

    `attempts` and `first_us` are of all that was recorded of it, `asked`, `answered` and `last_us` of the last one.
    """

    lower_us: int
    upper_us: int
    reason: Reason
    ids: str
    asked: str
    answered: str
    attempts: int
    first_us: int
    last_us: int
    next_us: int


def us(expression: str) -> str:
    """The SQL for a timestamptz as microseconds."""
    return f"(extract(epoch FROM {expression}) * 1000000)::bigint"


# The columns of an Unfillable, from the table as `u`.
EVIDENCE: Final = (
    f"{us('lower(u.gap)')}, {us('upper(u.gap)')}, u.reason, u.ids, u.asked, u.answered, u.attempts, "
    f"{us('u.first_at')}, {us('u.last_at')}, {us('u.next_at')}"
)
_UNFILLABLE: Final = f"""
SELECT {EVIDENCE} FROM ohlcvd.unfillable u
 WHERE u.instrument_id = %s AND u.kind = %s AND u.reason <> 'venue outage' AND NOT EXISTS (
       SELECT FROM ohlcvd.coverage c
        WHERE c.instrument_id = u.instrument_id AND c.kind = u.kind AND c.covered @> u.gap)
 ORDER BY u.gap"""
_OVERLAPPING: Final = f"""
DELETE FROM ohlcvd.unfillable u
 WHERE u.instrument_id = %s AND u.kind = %s AND u.gap && tstzrange(%s, %s)
RETURNING u.attempts, {us("u.first_at")}"""
_RECORD: Final = """
INSERT INTO ohlcvd.unfillable
       (instrument_id, kind, gap, reason, ids, asked, answered, attempts, first_at, last_at, next_at)
VALUES (%s, %s, tstzrange(%s, %s), %s, %s, %s, %s, %s, %s, %s, %s)"""

_FORGET_OUTAGE: Final = (
    "DELETE FROM ohlcvd.unfillable WHERE instrument_id = %s AND kind = %s AND reason = 'venue outage'"
)
_END_OUTAGES: Final = """
DELETE FROM ohlcvd.unfillable u USING ohlcvd.instruments i
 WHERE u.instrument_id = i.id AND i.exchange = %s AND u.reason = 'venue outage'"""

# In the venue's order: by id where ids are numbers, else by the ordinal they were stored with.
_TRADE: Final = f"""
SELECT {us("ts")}, coalesce(venue_id, trade_id::text), price::text, amount::text,
       CASE side WHEN 'b' THEN 'buy' ELSE 'sell' END FROM ohlcvd.trades WHERE instrument_id = %s"""
_BEFORE: Final = f"{_TRADE} AND ts < %s ORDER BY ts DESC, ordinal DESC, trade_id DESC LIMIT 1"
_AFTER: Final = f"{_TRADE} AND ts >= %s ORDER BY ts, ordinal, trade_id LIMIT 1"

# Open and close are looked up afterwards, by their times: cheaper than aggregates in order. The bounds are repeated so
# that the planner leaves out all partitions but theirs.
_BUILT: Final = """
SELECT m.ts,
       (SELECT f.price FROM ohlcvd.trades f
         WHERE f.instrument_id = %(instrument)s AND f.ts = m.first_ts AND f.ts >= %(lower)s AND f.ts < %(upper)s
         ORDER BY f.ordinal, f.trade_id LIMIT 1) AS open,
       m.high, m.low,
       (SELECT l.price FROM ohlcvd.trades l
         WHERE l.instrument_id = %(instrument)s AND l.ts = m.last_ts AND l.ts >= %(lower)s AND l.ts < %(upper)s
         ORDER BY l.ordinal DESC, l.trade_id DESC LIMIT 1) AS close,
       m.volume, m.trades
  FROM (SELECT date_bin('1 minute', t.ts, '1970-01-01 00:00+00') AS ts, min(t.ts) AS first_ts, max(t.ts) AS last_ts,
               max(t.price) AS high, min(t.price) AS low, sum(t.amount) AS volume, count(*) AS trades
          FROM ohlcvd.trades t
         WHERE t.instrument_id = %(instrument)s AND t.ts >= %(lower)s AND t.ts < %(upper)s
         GROUP BY 1) AS m"""
_READ_BUILT: Final = f"""
SELECT {us("b.ts")}, b.open::text, b.high::text, b.low::text, b.close::text, b.volume::text, b.trades, 'trades'
  FROM ({_BUILT}) AS b ORDER BY 1"""
# The venue's own candle stands. One built before some of its trades were there is put right.
_STORE_BUILT: Final = f"""
INSERT INTO ohlcvd.candles_1m AS c (ts, instrument_id, source, open, high, low, close, volume, trades)
SELECT b.ts, %(instrument)s, 't', b.open, b.high, b.low, b.close, b.volume, b.trades FROM ({_BUILT}) AS b
    ON CONFLICT (instrument_id, ts) DO UPDATE SET
       (open, high, low, close, volume, trades) =
           (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.trades)
 WHERE c.source = 't'
   AND (c.open, c.high, c.low, c.close, c.volume, c.trades) IS DISTINCT FROM
       (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.trades)"""
_COVERED: Final = f"""
SELECT {us("lower(r)")}, {us("upper(r)")} FROM ohlcvd.coverage c, unnest(c.covered) AS r
 WHERE c.instrument_id = %s AND c.kind = 'trades' ORDER BY 1"""
_LOCK: Final = "SELECT FROM ohlcvd.coverage WHERE instrument_id = %s AND kind = 'trades' FOR SHARE"


# --- the rows around a hole


async def seam_before(database: Database, instrument_id: int, ts_us: int) -> Trade | None:
    """The newest stored trade before `ts_us`."""
    return await _seam(database, _BEFORE, instrument_id, ts_us)


async def seam_after(database: Database, instrument_id: int, ts_us: int) -> Trade | None:
    """The oldest stored trade at or after `ts_us`."""
    return await _seam(database, _AFTER, instrument_id, ts_us)


async def _seam(database: Database, query: str, instrument_id: int, ts_us: int) -> Trade | None:
    async with database.connection("reading the trades around a gap") as connection:
        row = await (await _run(connection, query, (instrument_id, moment(ts_us)))).fetchone()
    return None if row is None else Trade._make(row)


# --- what cannot be filled


async def unfillable_of(database: Database, instrument_id: int, kind: Kind) -> list[Unfillable]:
    """What is known not to come, oldest first; without what is covered by now."""
    async with database.connection("reading what cannot be filled") as connection:
        rows = await (await _run(connection, _UNFILLABLE, (instrument_id, kind))).fetchall()
    return [Unfillable._make(row) for row in rows]


async def record_unfillable(database: Database, instrument_id: int, kind: Kind, found: Unfillable) -> Unfillable:
    """Record what the venue did not give. Takes the place of earlier records of the same time, wholly or in part.

    Returns what is recorded: with the attempts of earlier records added, and the time of the first of them.
    """
    bounds = moment(found.lower_us), moment(found.upper_us)
    async with database.connection("recording what cannot be filled") as connection, connection.transaction():
        # One after the other: two records of one moment would list it twice.
        await _run(connection, "SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK_CLASS, instrument_id))
        before = await (await _run(connection, _OVERLAPPING, (instrument_id, kind, *bounds))).fetchall()
        found = found._replace(
            asked=_storable(found.asked),
            answered=_storable(found.answered),
            attempts=found.attempts + max((attempts for attempts, _ in before), default=0),
            first_us=min([found.first_us, *(first_us for _, first_us in before)]),
        )
        times = moment(found.first_us), moment(found.last_us), moment(found.next_us)
        what = found.reason, found.ids, found.asked, found.answered, found.attempts
        await _run(connection, _RECORD, (instrument_id, kind, *bounds, *what, *times))
    return found


async def record_outage(database: Database, instrument_id: int, kind: Kind, found: Iterable[Unfillable]) -> None:
    """Record what is missing because the venue answers nothing; takes the place of what was recorded so before.

    None of `found` may overlap anything else that is recorded.
    """
    async with database.connection("recording an outage of the venue") as connection, connection.transaction():
        await _run(connection, _FORGET_OUTAGE, (instrument_id, kind))
        for one in found:
            times = moment(one.first_us), moment(one.last_us), moment(one.next_us)
            what = one.reason, one.ids, _storable(one.asked), _storable(one.answered), one.attempts
            await _run(
                connection, _RECORD, (instrument_id, kind, moment(one.lower_us), moment(one.upper_us), *what, *times)
            )


async def end_outages(database: Database, exchange: str) -> None:
    """Nothing of this exchange is missing because it did not answer."""
    async with database.connection("ending an outage of the venue") as connection:
        await _run(connection, _END_OUTAGES, (exchange,))


def _storable(text: str) -> str:
    """What came back may be anything, and long; a server refuses NUL and lone surrogates."""
    return text[:_EVIDENCE_CHARACTERS].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


# --- candles from trades


async def build_candles(database: Database, instrument: Instrument, ranges: Iterable[Range]) -> int:
    """Store candles built from stored trades for the whole minutes of `ranges`, and claim those minutes for candles.

    Only minutes whose trades are covered are built and claimed. The venue's own candles stay as they are. Rows and
    claim of each six hours are one transaction: whatever ends this in the middle, what was done until then holds.
    Returns how many rows are new or were changed.
    """
    stored = 0
    async with database.connection("building candles from trades") as connection:
        for stretch in _stretches(ranges):
            stored += await _build(connection, instrument, stretch)
    return stored


async def built_candles(database: Database, instrument: Instrument, lower_us: int, upper_us: int) -> list[Candle]:
    """The candles that the stored trades of [lower_us, upper_us) make, oldest first; nothing is stored."""
    candles: list[Candle] = []
    async with database.connection("building candles from trades") as connection:
        for stretch in _stretches([(lower_us, upper_us)]):
            for part in stretch:
                rows = await (await _run(connection, _READ_BUILT, _bounds(instrument, part))).fetchall()
                candles += map(Candle._make, rows)
    return candles


async def _build(connection: AsyncConnection[Any], instrument: Instrument, stretch: list[Range]) -> int:
    while True:
        async with connection.transaction():
            await _run(connection, "SET LOCAL jit = off")
            parts = whole_minutes(coverage.intersect(stretch, await _covered(connection, instrument)))
            if not parts:
                return 0
            stored = 0
            for part in parts:
                stored += (await _run(connection, _STORE_BUILT, _bounds(instrument, part))).rowcount
            await cover(connection, {(instrument, "candles"): parts})
            # Only now, and after the claim for candles, as the writer does it: earlier it would hold up live trades.
            await _run(connection, _LOCK, (instrument.id,))
            still_covered = await _covered(connection, instrument)
            if all(coverage.contains(still_covered, *part) for part in parts):
                return stored
            raise Rollback  # a claim for these trades was taken back meanwhile: look again


async def _covered(connection: AsyncConnection[Any], instrument: Instrument) -> list[Range]:
    return await (await _run(connection, _COVERED, (instrument.id,))).fetchall()


def whole_minutes(ranges: Iterable[Range]) -> list[Range]:
    """The minutes that lie in one of `ranges` from beginning to end."""
    inner = [(-(-lower // MINUTE_US) * MINUTE_US, upper // MINUTE_US * MINUTE_US) for lower, upper in ranges]
    return coverage.normalise((lower, upper) for lower, upper in inner if lower < upper)


def _stretches(ranges: Iterable[Range]) -> Iterator[list[Range]]:
    """The whole minutes of `ranges`, cut where stretches meet; each list is within one stretch."""
    cut = [
        (max(lower, start), min(upper, start + STRETCH_US))
        for lower, upper in whole_minutes(coverage.normalise(ranges))
        for start in range(lower // STRETCH_US * STRETCH_US, upper, STRETCH_US)
    ]
    for _, parts in groupby(cut, key=lambda part: part[0] // STRETCH_US):
        yield list(parts)


def _bounds(instrument: Instrument, part: Range) -> dict[str, object]:
    return {"instrument": instrument.id, "lower": moment(part[0]), "upper": moment(part[1])}


async def _run(connection: AsyncConnection[Any], query: str, parameters: Any = None) -> AsyncCursor[Any]:
    # Not prepared: a generic plan would look through every partition.
    return await connection.execute(query.encode(), parameters, prepare=False)
