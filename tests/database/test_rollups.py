"""The hours beside the minutes: whatever is done to the minutes, by whomever and at the same time, they add up."""

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from ohlcvd.database import Database, candles_in, recent_candles
from ohlcvd.database.bulk import Selection, read_pieces
from ohlcvd.database.migrate import migrate, migrations
from ohlcvd.market import MINUTE_US, Candle, Instrument
from tests.database.support import NOON_US, candle, made_of, query, writing
from tests.database.test_migrate import role

HOUR_US = 60 * MINUTE_US

# Written as simply as possible: what the hours must be.
ANEW = """
SELECT instrument_id, date_trunc('hour', ts, 'UTC') AS hour, min(ts), max(ts), (array_agg(open ORDER BY ts))[1],
       max(high), min(low), (array_agg(close ORDER BY ts DESC))[1], sum(volume), coalesce(sum(trades), 0)::bigint,
       count(*)::smallint, count(trades)::smallint
  FROM ohlcvd.candles_1m GROUP BY 1, 2 ORDER BY 1, 2"""
KEPT = """
SELECT instrument_id, ts, first_ts, last_ts, open, high, low, close, volume, trades, minutes, counted
  FROM ohlcvd.candles_1h ORDER BY 1, 2"""
UPSERT = """
INSERT INTO ohlcvd.candles_1m AS c (ts, instrument_id, source, open, high, low, close, volume, trades)
SELECT 'epoch'::timestamptz + m * interval '1 minute', i, 'v', o, greatest(o, c) + 1, least(o, c) - 1, c, v, t
  FROM unnest(%s::bigint[], %s::int[], %s::numeric[], %s::numeric[], %s::numeric[], %s::bigint[])
       AS n (m, i, o, c, v, t)
    ON CONFLICT (instrument_id, ts) DO UPDATE SET (open, high, low, close, volume, trades) =
       (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.trades)"""
FIRST_MINUTE = NOON_US // MINUTE_US


def assert_hours_add_up(conninfo: str) -> int:
    kept = query(conninfo, KEPT)
    assert kept == query(conninfo, ANEW)
    return len(kept)


def act(connection: "psycopg.Connection[Any]", chance: random.Random) -> None:
    """Something that changes minutes of two markets within a few hours."""
    minutes = sorted(chance.sample(range(FIRST_MINUTE, FIRST_MINUTE + 240), chance.choice((1, 3, 20))))
    markets = [chance.choice((1, 2)) for _ in minutes]
    what = chance.random()
    if what < 0.6:
        rows = [
            (m, i, chance.randint(50, 99), chance.randint(50, 99), Decimal(chance.randint(1, 9999)) / 100,
             chance.choice((None, 1, 7)))
            for m, i in zip(minutes, markets, strict=True)
        ]  # fmt: skip
        connection.execute(UPSERT.encode(), [list(column) for column in zip(*rows, strict=True)])
    elif what < 0.8:
        connection.execute(
            """DELETE FROM ohlcvd.candles_1m WHERE instrument_id = %s
                  AND ts = ANY(SELECT 'epoch'::timestamptz + m * interval '1 minute' FROM unnest(%s::bigint[]) AS m)""",
            (markets[0], minutes),
        )
    elif what < 0.9:
        connection.execute(
            """UPDATE ohlcvd.candles_1m SET low = low - 1, volume = volume + 0.001
                WHERE instrument_id = %s AND random() < 0.2""",
            (markets[0],),
        )
    else:  # nobody does this; the hours do not mind
        connection.execute(
            """UPDATE ohlcvd.candles_1m SET ts = ts + interval '1 year'
                WHERE instrument_id = %s AND ts = 'epoch'::timestamptz + %s * interval '1 minute'
                  AND NOT EXISTS (SELECT FROM ohlcvd.candles_1m o WHERE o.instrument_id = candles_1m.instrument_id
                                     AND o.ts = candles_1m.ts + interval '1 year')""",
            (markets[0], minutes[0]),
        )


@pytest.mark.parametrize("seed", range(3))
async def test_the_hours_add_up_after_anything(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for _ in range(60):
            with connection.transaction(force_rollback=chance.random() < 0.1):
                for _ in range(chance.choice((1, 1, 3))):
                    act(connection, chance)
            assert connection.execute(KEPT.encode()).fetchall() == connection.execute(ANEW.encode()).fetchall()
        connection.execute("TRUNCATE ohlcvd.candles_1m")
    assert assert_hours_add_up(database.conninfo) == 0


async def test_the_hours_add_up_when_several_write_at_once(database: Database) -> None:
    def write(seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            for _ in range(40):
                try:
                    with connection.transaction():
                        act(connection, chance)
                        connection.execute("SELECT pg_sleep(%s)", (chance.random() * 0.003,))
                except (psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
                    pass  # the same rows in another order: the program's writer tries again

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(10, 14)))
    assert assert_hours_add_up(database.conninfo) > 3


async def test_the_writers_corrections_reach_every_timeframe(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    market = database, instrument.exchange, instrument.symbol
    async with writing(database) as writer:
        writer.add_candles(other, [candle(minute) for minute in range(90)])
        writer.add_candles(instrument, [candle(minute) for minute in range(90)])
        assert await writer.drain(30)
        writer.add_candles(instrument, [candle(7, "105", high="500", low="0.5", volume="2", trades=9)])
        assert await writer.drain(30)
    assert_hours_add_up(database.conninfo)
    for timeframe, bounds, trades in (
        ("1h", (NOON_US, NOON_US + HOUR_US), 59 * 7 + 9),
        ("1d", (NOON_US // 86_400_000_000 * 86_400_000_000,), 89 * 7 + 9),
    ):
        candles = await candles_in(*market, timeframe)
        assert tuple(one.ts_us for one in candles) == bounds
        assert (candles[0].high, candles[0].low, candles[0].trades) == ("500", "0.5", trades)
    hours = await candles_in(*market, "1h")
    assert Decimal(hours[0].volume) == 59 * Decimal("12.5") + 2
    assert hours[1].trades == 30 * 7


async def test_every_timeframe_is_what_its_minutes_make(database: Database, instrument: Instrument) -> None:
    chance = random.Random(5)
    minutes = sorted(chance.sample(range(12_000), 3_000))
    rows = [
        (FIRST_MINUTE + m, 1, chance.randint(50, 99), chance.randint(50, 99), 3, chance.choice((1, None)))
        for m in minutes
    ]
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(UPSERT.encode(), [list(column) for column in zip(*rows, strict=True)])
    stored = await recent_candles(database, "kraken", "BTC/USD", limit=5_000)
    assert len(stored) == 3_000
    for timeframe, minutes_each in (("30m", 30), ("60m", 60), ("1h", 60), ("2h", 120), ("90m", 90), ("1d", 1_440)):
        expected = made_of(stored, minutes_each * MINUTE_US)
        found = await candles_in(database, "kraken", "BTC/USD", timeframe)
        assert [exact(one) for one in found] == expected, timeframe
        since_us, until_us = NOON_US + 20 * HOUR_US + 1, NOON_US + 99 * HOUR_US
        part = await candles_in(database, "kraken", "BTC/USD", timeframe, since_us=since_us, until_us=until_us)
        assert [exact(one) for one in part] == [one for one in expected if since_us <= one[0] < until_us], timeframe


def exact(one: Candle) -> tuple[Any, ...]:
    return (one.ts_us, *map(Decimal, one[1:6]), one.trades)


async def test_hours_are_read_instead_of_minutes(database: Database, instrument: Instrument) -> None:
    """Held against a timeframe that has to be made of minutes, on the same machine at the same time."""
    query(
        database.conninfo,
        """INSERT INTO ohlcvd.candles_1m (ts, instrument_id, source, open, high, low, close, volume, trades)
           SELECT '2025-01-01 00:00+00'::timestamptz + m * interval '1 minute', %s, 'v', 100.5, 101.25, 99.75, 100.25,
                  1.12345678, 3 FROM generate_series(0, 525599, 5) AS m""",
        [instrument.id],
    )
    query(database.conninfo, "ANALYZE ohlcvd.candles_1m, ohlcvd.candles_1h")
    minutes_s = min(seconds_to_read(database.conninfo, "90m", 5_840) for _ in range(3))
    assert min(seconds_to_read(database.conninfo, "1h", 8_760) for _ in range(5)) < minutes_s / 2
    assert min(seconds_to_read(database.conninfo, "1d", 365) for _ in range(5)) < minutes_s / 4


async def test_very_much_comes_in_pieces_of_whole_lines(database: Database, instrument: Instrument) -> None:
    async with writing(database) as writer:
        writer.add_candles(instrument, [candle(minute) for minute in range(10_000)])
        assert await writer.drain(60)
    pieces = list(read_pieces(database.conninfo, Selection("kraken", "BTC/USD", "candles")))
    assert len(pieces) > 1
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert sum(piece.count(b"\n") for piece in pieces) == 10_000


async def test_who_may_write_and_read_minutes_needs_no_right_to_the_hours(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with role(database_url) as (name, conninfo):
        with monkeypatch.context() as older:
            older.setattr(sys.modules[migrate.__module__], "migrations", lambda: migrations()[:3])
            await migrate(database_url)
        query(database_url, f"GRANT USAGE ON SCHEMA ohlcvd TO {name}")
        query(database_url, f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA ohlcvd TO {name}")
        query(database_url, "INSERT INTO ohlcvd.instruments (exchange, symbol) VALUES ('kraken', 'BTC/USD')")
        columns = [[FIRST_MINUTE], [1], [100], [101], [5], [3]]
        query(conninfo, UPSERT, columns)
        await migrate(database_url)
        assert assert_hours_add_up(database_url) == 1, "hours of the minutes that were there"
        query(conninfo, UPSERT, [[FIRST_MINUTE, FIRST_MINUTE + 60], [1, 1], [90, 80], [91, 81], [5, 6], [None, None]])
        assert assert_hours_add_up(database_url) == 2
        assert len(query(conninfo, "SELECT * FROM ohlcvd.ohlcv('kraken', 'BTC/USD', '1d')")) == 1


def seconds_to_read(conninfo: str, timeframe: str, rows: int) -> float:
    statement = "SELECT count(*) FROM ohlcvd.ohlcv('kraken', 'BTC/USD', %s, '2025-01-01', '2026-01-01')"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        began_s = time.perf_counter()
        assert connection.execute(statement.encode(), (timeframe,)).fetchone() == (rows,)
        return time.perf_counter() - began_s
