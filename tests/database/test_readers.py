"""Reading back: rows in stored digits and venue order, the views for people, candles of any timeframe."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from ohlcvd.database import (
    Database,
    OHLCVDatabase,
    candles_in,
    candles_of,
    migrate,
    newest,
    recent_candles,
    recent_trades,
    trades_of,
)
from ohlcvd.database.bulk import Selection, connected, pieces_over, read_pieces
from ohlcvd.database.conninfo import embedded
from ohlcvd.embedded import EmbeddedServer
from ohlcvd.errors import ServiceUnavailable, UsageError
from ohlcvd.market import MINUTE_US, TIMEFRAMES_S, Candle, Instrument, Trade
from ohlcvd.reading.formats import as_json
from tests.database.support import NOON_US, candle, made_of, query, trade, trades, writing

MARKET = ("kraken", "BTC/USD")


@pytest.fixture
async def filled(database: Database, instrument: Instrument) -> Database:
    async with writing(database) as writer:
        writer.add_trades(instrument, [*trades(range(5)), trade(9, ts_us=NOON_US), trade(10, ts_us=NOON_US)])
        writer.add_candles(instrument, [candle(n, f"{100 + n}.0") for n in range(5)])
        assert await writer.drain(10)
    return database


async def test_trades_come_back_in_the_venues_order_and_digits(filled: Database) -> None:
    expected = [trade(0), trade(9, ts_us=NOON_US), trade(10, ts_us=NOON_US), *trades(range(1, 5))]
    assert [t async for t in trades_of(filled, *MARKET)] == expected
    assert await recent_trades(filled, *MARKET, limit=5) == expected[-5:]
    assert await recent_trades(filled, *MARKET, since_us=NOON_US + 1, limit=2) == expected[3:5]
    assert [t async for t in trades_of(filled, *MARKET, since_us=NOON_US + 1, until_us=NOON_US + 30_000)] == expected[
        3:5
    ]
    assert [t async for t in trades_of(filled, "kraken", "nothing")] == []


async def test_candles_come_back_oldest_first(filled: Database) -> None:
    expected = [candle(n, f"{100 + n}.0") for n in range(5)]
    assert [c async for c in candles_of(filled, *MARKET)] == expected
    assert await recent_candles(filled, *MARKET, limit=2) == expected[-2:]
    assert await recent_candles(filled, *MARKET, since_us=NOON_US + MINUTE_US, limit=2) == expected[1:3]


async def test_a_reader_that_stops_in_the_middle_leaves_nothing_open(filled: Database) -> None:
    rows = trades_of(filled, *MARKET)
    assert await anext(rows) == trade(0)
    await rows.aclose()


async def test_the_newest_rows_of_each_market(filled: Database, other: Instrument) -> None:
    del other
    assert await newest(filled, "kraken") == [
        ("BTC/USD", NOON_US + 40_000, NOON_US + 4 * MINUTE_US),
        ("ETH/USD", None, None),
    ]
    assert (await newest(filled, "kraken", since_us=NOON_US + MINUTE_US))[0].trade_us is None


async def test_views_for_people(filled: Database) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    columns = "SELECT exchange, symbol, ts, trade_id, price, amount, side FROM ohlcvd.named_trades"
    assert query(filled.conninfo, f"{columns} WHERE symbol = 'BTC/USD' ORDER BY ts, trade_id LIMIT 1") == [
        (*MARKET, noon, "0", Decimal("100.10"), Decimal("0.0001"), "buy")
    ]
    columns = "SELECT exchange, symbol, ts, open, high, low, close, volume, trades, source FROM ohlcvd.named_candles"
    assert query(filled.conninfo, f"{columns} ORDER BY ts LIMIT 1") == [
        (*MARKET, noon, 100, 110, 90, Decimal("100.0"), Decimal("12.5"), 7, "venue")
    ]


async def test_gaps_are_what_is_wanted_and_not_covered(database: Database, instrument: Instrument) -> None:
    def gaps() -> list[tuple[int, int]]:
        text = """SELECT kind, (extract(epoch FROM lower(gap)) * 1000000)::bigint,
                         (extract(epoch FROM upper(gap)) * 1000000)::bigint, reason FROM ohlcvd.gaps ORDER BY 2"""
        rows = query(database.conninfo, text)
        assert all(kind == "trades" and reason == "not yet fetched" for kind, _, _, reason in rows)
        return [(lower - NOON_US, upper - NOON_US) for _, lower, upper, _ in rows]

    assert gaps() == []
    async with writing(database) as writer:
        for lower, upper in ((0, 10), (20, 30), (50, 60)):
            writer.cover(instrument, "trades", NOON_US + lower, NOON_US + upper)
        assert await writer.drain(10)
        assert gaps() == [(10, 20), (30, 50)]
        await database.want(instrument.id, "trades", NOON_US - 5)
        assert gaps() == [(-5, 0), (10, 20), (30, 50)]
        writer.cover(instrument, "trades", NOON_US - 10, NOON_US + 60)
        assert await writer.drain(10)
    assert gaps() == []
    text = "SELECT exchange, symbol, kind, covered::text FROM ohlcvd.named_coverage"
    assert query(database.conninfo, text) == [
        (*MARKET, "trades", '{["2026-03-01 11:59:59.99999+00","2026-03-01 12:00:00.00006+00")}')
    ]


async def test_a_market_of_which_nothing_is_covered_is_one_gap_until_now(
    database: Database, instrument: Instrument
) -> None:
    long_ago = datetime(2009, 1, 3, tzinfo=UTC)
    await database.want(instrument.id, "candles", int(long_ago.timestamp()) * 1_000_000)
    rows = query(database.conninfo, "SELECT lower(gap), upper(gap) > now() - interval '1 min' FROM ohlcvd.gaps")
    assert rows == [(long_ago, True)]


# --- any timeframe

MONDAY_US = 1_772_409_600_000_000  # 2026-03-02 00:00 UTC
minutes = st.dictionaries(
    st.integers(0, 120) | st.integers(0, 30 * 1440), st.tuples(st.integers(1, 99), st.integers(1, 99)), max_size=40
)


def model(candles: list[Candle], timeframe: str, since_us: int, until_us: int) -> list[tuple[object, ...]]:
    """What ohlcv() should give, the plain way."""
    rows = made_of(candles, TIMEFRAMES_S[timeframe] * 1_000_000, MONDAY_US if timeframe == "1w" else 0)
    return [row for row in rows if since_us <= row[0] < until_us]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(minutes, st.sampled_from(sorted(TIMEFRAMES_S)), st.integers(-5, 3000), st.integers(0, 45_000))
async def test_candles_of_any_timeframe_equal_the_plain_model(
    database_of_module: tuple[Database, Instrument],
    rows: dict[int, tuple[int, int]],
    timeframe: str,
    since: int,
    span: int,
) -> None:
    database, instrument = database_of_module
    start_us = MONDAY_US - 10 * 1440 * MINUTE_US
    candles = [
        Candle(
            start_us + minute * MINUTE_US,
            str(min(a, b)),
            f"{max(a, b)}.5",
            f"{min(a, b)}.0",
            str(max(a, b)),
            f"{a}.{b:02}",
            a if b % 7 else None,
            "venue",
        )
        for minute, (a, b) in rows.items()
    ]
    query(database.conninfo, "DELETE FROM ohlcvd.candles_1m")
    async with writing(database) as writer:
        writer.add_candles(instrument, candles)
        assert await writer.drain(10)
    since_us = start_us + since * MINUTE_US
    until_us = since_us + span * MINUTE_US
    got = await candles_in(database, *MARKET, timeframe, since_us=since_us, until_us=until_us)
    assert [
        (c.ts_us, Decimal(c.open), Decimal(c.high), Decimal(c.low), Decimal(c.close), Decimal(c.volume), c.trades)
        for c in got
    ] == model(candles, timeframe, since_us, until_us)


@pytest.fixture
async def database_of_module(database: Database, instrument: Instrument) -> tuple[Database, Instrument]:
    return database, instrument


async def test_weeks_start_on_monday_and_bounds_may_be_left_out(database: Database, instrument: Instrument) -> None:
    async with writing(database) as writer:
        writer.add_candles(instrument, [candle(n * 1440) for n in range(3)])
        assert await writer.drain(10)
    rows = query(database.conninfo, "SELECT ts, volume, trades FROM ohlcvd.ohlcv('kraken', 'BTC/USD', '1w')")
    assert rows == [
        (datetime(2026, 2, 23, tzinfo=UTC), Decimal("12.5"), 7),
        (datetime(2026, 3, 2, tzinfo=UTC), Decimal("25.0"), 14),
    ]
    assert query(database.conninfo, "SELECT * FROM ohlcvd.ohlcv('kraken', 'none', '1h')") == []


async def test_a_long_stretch_is_read_as_short_ones_are(database: Database, instrument: Instrument) -> None:
    count = 6_000  # more than one piece of COPY
    query(
        database.conninfo,
        """INSERT INTO ohlcvd.candles_1m (ts, instrument_id, source, open, high, low, close, volume, trades)
        SELECT '2026-03-01 12:00+00'::timestamptz + n * interval '1 minute', %s,
               (CASE mod(n, 3) WHEN 0 THEN 't' ELSE 'v' END)::"char",
               1.50, 2 + n * 0.000000000000000001, 1, 1.5, n * 0.010, nullif(mod(n, 5), 0)
          FROM generate_series(0, %s - 1) AS n""",
        [instrument.id, count],
    )
    long = await candles_in(database, *MARKET, "1m")
    assert long == [one async for one in candles_of(database, *MARKET)]
    assert len(long) == count
    middle_us = NOON_US + count // 2 * MINUTE_US
    assert await candles_in(database, *MARKET, "1m", until_us=middle_us) == long[: count // 2]
    found = await candles_in(database, *MARKET, "1m", since_us=middle_us, until_us=middle_us + MINUTE_US)
    assert found == [long[count // 2]]
    assert await candles_in(database, "kraken", "none", "1m") == []


@pytest.mark.parametrize("timeframe", ["", "0m", "1M", "1 h", "60", "1h; DROP", "99999m"])
async def test_a_timeframe_that_is_none_is_refused(database: Database, timeframe: str) -> None:
    with pytest.raises(ValueError, match="expected a number and m"):
        await candles_in(database, *MARKET, timeframe)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="expected a number and m"):
        query(database.conninfo, "SELECT * FROM ohlcvd.ohlcv('kraken', 'BTC/USD', %s)", [timeframe])


# --- for scripts


async def test_a_script_stores_and_reads(database_url: str) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minutes_us = [int((now - timedelta(minutes=n)).timestamp()) * 1_000_000 for n in (3, 2, 1, 0)]
    given = [candle()._replace(ts_us=ts_us) for ts_us in minutes_us]
    async with OHLCVDatabase(exchange="kraken", symbol="BTC/USD", conninfo=database_url) as db:
        assert await db.store_candles([*given, given[1]._replace(ts_us=minutes_us[0] - MINUTE_US, volume="0.0")]) == 3
        assert await db.store_candles(given[:2]) == 0
        candles = await db.get_recent_candles("BTC/USD", limit=100)
        assert candles == given[:3], "the running minute is no candle yet, and an empty one is none"
        assert [c.volume for c in await db.get_recent_candles(timeframe="1w")] in (
            ["37.5"],
            ["12.5", "25.0"],
            ["25.0", "12.5"],
        )

        one = Trade(minutes_us[0], "1", "1.50", "2", "sell")
        assert await db.store_trades([one, one]) == 1
        assert await db.store_trades([one], symbol="ETH/USD") == 1
        assert await db.store_trades([one]) == 0
        assert await db.get_trades("BTC/USD") == [one]
        assert await db.get_trades("BTC/USD", since_us=minutes_us[0] + 1) == []
        for wrong in ([one._replace(price="-1")], [one._replace(id="")]):
            with pytest.raises(ValueError, match="BTC/USD"):
                await db.store_trades(wrong)
        with pytest.raises(ValueError, match="outside low"):
            await db.store_candles([given[0]._replace(high="1")])
        with pytest.raises(ValueError, match="PostgreSQL refuses a row"):
            await db.store_trades([one._replace(price="9" * 20_000)])
    assert query(database_url, "SELECT count(*) FROM ohlcvd.coverage") == [(0,)]


async def test_the_embedded_server_is_found_where_it_runs(postgres_server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="is not running"):
        embedded(tmp_path)
    state_dir = Path(str(conninfo_to_dict(postgres_server.address)["host"])).parent
    found = conninfo_to_dict(embedded(state_dir))
    assert found == {**conninfo_to_dict(postgres_server.address), "port": "5432"}


async def test_a_script_must_name_its_market_and_needs_a_server(database_url: str, tmp_path: object) -> None:
    async with OHLCVDatabase(conninfo=database_url) as db:
        with pytest.raises(UsageError, match="name an exchange"):
            await db.get_trades("BTC/USD")
    with pytest.raises(ServiceUnavailable):
        async with OHLCVDatabase("kraken", conninfo=f"host={tmp_path}"):
            raise AssertionError("there is no server")


def test_the_newest_candles_are_found_without_reading_all_of_them(database_url: str) -> None:
    """However they are asked for: a year of minutes took a third of a second."""
    asyncio.run(migrate(database_url))
    for where in ("", "WHERE exchange = 'kraken' AND symbol = 'BTC/USD'"):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("SET enable_seqscan = off; SET enable_sort = off")
            newest_first = f"EXPLAIN SELECT * FROM ohlcvd.named_candles {where} ORDER BY ts DESC LIMIT 10"
            plan = "\n".join(row[0] for row in connection.execute(newest_first.encode()))
        assert "Index Scan Backward using candles_1m_ts" in plan
        assert "Sort" not in plan


async def test_json_has_the_digits_and_ids_that_are_stored(database_url: str) -> None:
    ids = ["7", "007", 'a,"b', "back\\slash", "\u20ac \U0001d11e", "}", "Z"]
    digits = ["100.50", "0.00010000", "123456789.123456789012345678", "1"]
    times = [NOON_US, NOON_US + 250_000, NOON_US + 250_001]
    trades = [
        Trade(times[n % 3], one, digits[n % 4], digits[-1 - n % 4], "sell" if n % 2 else "buy")
        for n, one in enumerate(ids)
    ]
    async with OHLCVDatabase(*MARKET, conninfo=database_url) as db:
        await db.store_trades(trades)
        await db.store_candles([candle(0, "101.50"), candle(2, "101", trades=None, source="trades")])
        stored = await db.get_trades()
        unbounded, bounded = await db.get_candles(), await db.get_candles(since=0, until=NOON_US + MINUTE_US)
        assert (unbounded, bounded) == (await db.get_recent_candles(), unbounded[:1])
        hours = await db.get_candles(timeframe="1h")
        assert hours == await db.get_candles(timeframe="1h", since=NOON_US, until=NOON_US + 60 * MINUTE_US)
    assert sorted(stored) == sorted(trades)
    text = b"".join(read_pieces(database_url, Selection(*MARKET, "trades"), "json"))
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["trade_id"], row["price"], row["amount"], row["side"]) for row in rows] == [one[1:] for one in stored]
    assert [row["ts"] for row in rows[::3]] == [f"2026-03-01T12:00:00{part}Z" for part in ("", ".25", ".250001")]
    found = json.loads(b"".join(as_json((), read_pieces(database_url, Selection(*MARKET, "candles"), "json"))))
    assert found[0] == {
        "ts": "2026-03-01T12:00:00Z", "open": "100", "high": "110", "low": "90", "close": "101.50", "volume": "12.5",
        "trades": 7, "source": "venue",
    }  # fmt: skip
    assert (found[1]["trades"], found[1]["source"]) == (None, "trades")
    (hour,) = json.loads(b"".join(as_json((), read_pieces(database_url, Selection(*MARKET, "candles", "1h"), "json"))))
    assert hour["volume"] == "25.0"


@pytest.mark.parametrize("how", ["pg_terminate_backend", "pg_cancel_backend"])
def test_rows_that_are_cut_off_do_not_look_complete(database_url: str, how: str) -> None:
    asyncio.run(migrate(database_url))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO ohlcvd.instruments (exchange, symbol) VALUES ('kraken', 'BTC/USD')")
        connection.execute(
            """INSERT INTO ohlcvd.candles_1m (instrument_id, ts, open, high, low, close, volume, source)
               SELECT i.id, timestamptz '2026-01-01 00:00+00' + n * interval '1 minute', 1, 2, 1, 2, 3, 'v'
                 FROM ohlcvd.instruments AS i, generate_series(1, 60000) AS n"""
        )
        pieces = read_pieces(database_url, Selection(*MARKET, "candles"))
        assert next(pieces).endswith(b"venue\n")
        of_the_reader = "datname = current_database() AND application_name = 'ohlcvd reading'"
        cut = connection.execute(f"SELECT {how}(pid) FROM pg_stat_activity WHERE {of_the_reader}".encode())
        assert cut.fetchall() == [(True,)]
        with pytest.raises(ServiceUnavailable, match="reading rows"):
            list(pieces)
        with connected(database_url) as reading:
            given_up = pieces_over(reading, Selection(*MARKET, "candles"))
            next(given_up)
            given_up.close()
            whole = b"".join(pieces_over(reading, Selection(*MARKET, "candles")))
    assert whole.count(b"\n") == 60_000
