"""The writer on a healthy server: what it stores, what goes together, and what becomes of rows that are refused."""

import asyncio
import logging
import time
from decimal import Decimal

import psycopg
import pytest

from ohlcvd.coverage import contains
from ohlcvd.database import Batch, Database, Writer
from ohlcvd.database.store import Storing, Work
from ohlcvd.database.writer import BATCH_ROWS
from ohlcvd.market import MINUTE_US, Candle, Candles, Instrument, Trade
from tests.database.support import NOON_US, candle, query, stored_ids, trade, trades, until, writing


async def test_trades_are_stored_digit_for_digit_and_told_after_the_commit(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    told: list[Batch] = []

    def on_commit(batch: Batch) -> None:
        told.append(batch)
        ids = {int(t.id) for several in batch.trades.values() for t in several}
        assert ids <= {*stored_ids(database.conninfo, instrument), *stored_ids(database.conninfo, other)}

    odd = Trade(NOON_US + 1, "7", "123456789.120", "0.000000000000000001", "sell")
    async with writing(database, on_commit) as writer:
        writer.add_trades(instrument, [trade(1), odd])
        writer.add_trades(other, [trade(2)])
        assert writer.backlog == 3
        waiting_since_s = writer.waiting_since_s
        assert waiting_since_s is not None
        assert 0 <= time.monotonic() - waiting_since_s < 10
        writer.cover(instrument, "trades", NOON_US, NOON_US + MINUTE_US)
        assert await writer.drain(10)
        assert (writer.backlog, writer.waiting_since_s) == (0, None)
        writer.cover(other, "trades", NOON_US, NOON_US + 5)
        assert await writer.drain(10), "coverage alone is drained too"
    assert query(database.conninfo, "SELECT price::text, amount::text, side FROM ohlcvd.named_trades ORDER BY ts") == [
        ("123456789.120", "0.000000000000000001", "sell"),
        ("100.10", "0.0002", "buy"),
        ("100.10", "0.0003", "buy"),
    ]
    assert told[0].trades == {instrument: [trade(1), odd], other: [trade(2)]}
    assert told[0].covered == {(instrument, "trades"): [(NOON_US, NOON_US + MINUTE_US)]}
    assert await database.coverage(instrument.id, "trades") == [(NOON_US, NOON_US + MINUTE_US)]
    assert (writer.counters.trades, writer.counters.duplicates, writer.counters.commits) == (3, 0, 2)


async def test_duplicates_overlaps_and_the_identical_batch_are_stored_once(
    database: Database, instrument: Instrument
) -> None:
    async with writing(database) as writer:
        for numbers in (range(100), range(100), range(50, 150), range(140, 145), range(100, 200)):
            writer.add_trades(instrument, trades(numbers))
            assert await writer.drain(10)
    async with writing(database) as writer:  # another process's first batch
        writer.add_trades(instrument, trades(range(150, 250)))
        assert await writer.drain(10)
        assert (writer.counters.trades, writer.counters.duplicates) == (50, 50)
    assert stored_ids(database.conninfo, instrument) == [*range(250)]


@pytest.mark.parametrize("careful", [False, True])
async def test_a_trade_whose_time_differs_by_a_microsecond_is_the_same(
    database: Database, instrument: Instrument, careful: bool
) -> None:
    late = [t._replace(ts_us=t.ts_us + off) for t, off in zip(trades(range(40)), [1, -1, 2, 1_000] * 10, strict=True)]
    async with writing(database, careful=careful) as writer:
        writer.add_trades(instrument, trades(range(20)))
        assert await writer.drain(10)
        writer.add_trades(instrument, late)
        assert await writer.drain(10)
    assert stored_ids(database.conninfo, instrument) == [*range(40)]
    async with writing(database, careful=careful) as writer:  # started anew, history brings the live ones again
        writer.add_trades(instrument, trades(range(41)))
        assert await writer.drain(10)
    assert stored_ids(database.conninfo, instrument) == [*range(41)]


async def test_text_ids_are_kept_exactly_and_in_order_of_execution(database: Database, instrument: Instrument) -> None:
    names = ["zz", "0012", "aé", "18446744073709551616", "-5"]
    given = [Trade(NOON_US, name, "1", "1", "buy") for name in names]
    async with writing(database) as writer:
        for _ in range(2):
            writer.add_trades(instrument, given)
            assert await writer.drain(10)
    rows = query(database.conninfo, "SELECT venue_id FROM ohlcvd.trades ORDER BY ts, ordinal, trade_id")
    assert [row[0] for row in rows] == names
    assert {r[0] for r in query(database.conninfo, "SELECT trade_id FROM ohlcvd.named_trades")} == set(names)


async def test_a_flood_goes_in_full_batches_and_the_loop_stays_responsive(
    database: Database, instrument: Instrument
) -> None:
    sizes: list[int] = []
    async with writing(database, lambda batch: sizes.append(sum(map(len, batch.trades.values())))) as writer:
        writer.add_trades(instrument, trades(range(3 * BATCH_ROWS + 5)))
        assert writer.backlog == 3 * BATCH_ROWS + 5
        assert await writer.drain(60)
    assert sizes == [BATCH_ROWS, BATCH_ROWS, BATCH_ROWS, 5]
    assert len(stored_ids(database.conninfo, instrument)) == 3 * BATCH_ROWS + 5


async def test_a_quiet_market_is_stored_without_waiting_for_company(database: Database, instrument: Instrument) -> None:
    async with writing(database) as writer:
        writer.add_trades(instrument, [trade(0)])
        await until(lambda: writer.backlog == 0)  # partitions are made, marks are read
        took = []
        for number in range(1, 31):
            start = time.perf_counter()
            writer.add_trades(instrument, [trade(number)])
            await until(lambda: writer.backlog == 0)
            took.append(time.perf_counter() - start)
    assert sorted(took)[len(took) // 2] < 0.1


async def test_two_collectors_of_the_same_markets_store_everything_once(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    async with writing(database) as one, writing(database) as two:
        for start in range(0, 4_000, 50):
            for writer, markets in ((one, (instrument, other)), (two, (other, instrument))):
                for market in markets:  # in opposite order: they will wait for each other
                    writer.add_trades(market, trades(range(start, start + 50)))
                    writer.cover(market, "trades", NOON_US, NOON_US + (start + 50) * 10_000)
            await asyncio.sleep(0.002)
        assert await one.drain(60)
        assert await two.drain(60)
        assert one.counters.trades + two.counters.trades == 8_000
        assert one.counters.duplicates + two.counters.duplicates == 8_000
    for market in (instrument, other):
        assert stored_ids(database.conninfo, market) == [*range(4_000)]
        assert await database.coverage(market.id, "trades") == [(NOON_US, NOON_US + 40_000_000)]


# --- candles


def stored_candles(conninfo: str) -> list[tuple[object, ...]]:
    return query(conninfo, "SELECT close, trades, source, corrections FROM ohlcvd.candles_1m ORDER BY ts")


async def test_the_venues_candle_beats_a_built_one_and_its_corrections_are_counted(
    database: Database, instrument: Instrument
) -> None:
    built = candle(close="99", source="trades", trades=3)
    steps: list[tuple[Candle, tuple[object, ...], int]] = [
        (built, (Decimal(99), 3, "t", 0), 0),
        (built._replace(close="98"), (Decimal(98), 3, "t", 0), 0),
        (candle(trades=None), (Decimal(101), None, "v", 0), 0),
        (candle(), (Decimal(101), 7, "v", 0), 0),
        (candle(trades=None), (Decimal(101), 7, "v", 0), 0),
        (built, (Decimal(101), 7, "v", 0), 0),
        (candle(close="101.0"), (Decimal(101), 7, "v", 0), 0),
        (candle(close="105"), (Decimal(105), 7, "v", 1), 1),
        (candle(close="105", trades=8), (Decimal(105), 8, "v", 2), 2),
    ]
    async with writing(database) as writer:
        for given, row, corrections in steps:
            writer.add_candles(instrument, [given])
            assert await writer.drain(10)
            assert stored_candles(database.conninfo) == [row], given
            assert writer.counters.corrections == corrections
        assert writer.counters.candles == 6


async def test_candles_and_trades_of_many_markets_go_together(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    async with writing(database) as writer:
        writer.add_candles(instrument, [candle(n) for n in range(100)])
        writer.add_trades(other, trades(range(10)))
        writer.add_candles(other, [candle(0), candle(0, close="102")])
        assert await writer.drain(10)
        assert (writer.counters.commits, writer.counters.candles, writer.counters.corrections) == (1, 101, 1)
    assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.named_candles WHERE symbol = 'BTC/USD'") == [(100,)]


# --- coverage


async def test_coverage_is_never_ahead_of_the_rows(database: Database, instrument: Instrument) -> None:
    """Seen from another connection, whenever it looks: everything called covered is there."""
    looks = 0
    text = """SELECT (extract(epoch FROM upper(covered)) * 1000000)::bigint,
                     (SELECT count(*) FROM ohlcvd.trades WHERE instrument_id = c.instrument_id AND ts < upper(covered))
                FROM ohlcvd.coverage c"""

    async def look(connection: psycopg.AsyncConnection) -> None:
        nonlocal looks
        while True:
            for upper_us, rows in await (await connection.execute(text)).fetchall():
                assert rows == (upper_us - NOON_US) // 10_000
                looks += 1

    async with await psycopg.AsyncConnection.connect(database.conninfo, autocommit=True) as connection:
        looking = asyncio.create_task(look(connection))
        async with writing(database) as writer:
            for start in range(0, 3_000, 7):
                writer.add_trades(instrument, trades(range(start, start + 7)))
                writer.cover(instrument, "trades", NOON_US, NOON_US + (start + 7) * 10_000)
                await asyncio.sleep(0.001)
            assert await writer.drain(30)
            seen = looks
            await until(lambda: looks > seen or looking.done())
        assert not looking.done(), looking.exception()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert looks > 10


async def test_coverage_is_joined_across_commits_and_kinds_are_apart(
    database: Database, instrument: Instrument
) -> None:
    async with writing(database) as writer:
        for lower, upper in ((0, 10), (20, 30), (10, 20), (5, 25), (40, 50)):
            writer.cover(instrument, "candles", NOON_US + lower, NOON_US + upper)
            assert await writer.drain(10)
    assert await database.coverage(instrument.id, "candles") == [
        (NOON_US, NOON_US + 30),
        (NOON_US + 40, NOON_US + 50),
    ]
    assert await database.coverage(instrument.id, "trades") == []


async def test_what_was_once_wanted_stays_wanted(database: Database, instrument: Instrument) -> None:
    assert await database.want(instrument.id, "trades", NOON_US) == NOON_US
    assert await database.want(instrument.id, "trades", NOON_US + 5) == NOON_US
    assert await database.want(instrument.id, "trades", NOON_US - 5) == NOON_US - 5
    assert await database.want(instrument.id, "candles", NOON_US + 5) == NOON_US + 5


# --- refusals


async def test_refused_rows_are_left_out_told_in_full_and_never_called_covered(
    database: Database, instrument: Instrument, other: Instrument, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        trade(50)._replace(id="with\0zero"),
        trade(300)._replace(price="9" * 140_000),
        trade(301)._replace(amount="0." + "1" * 20_000),
    ]
    good = [trade(n) for n in range(600) if n not in (50, 300, 301)]
    wrong_candle = candle(3, high="1")
    told: list[Batch] = []
    with caplog.at_level(logging.ERROR, "ohlcvd"):
        async with writing(database, told.append) as writer:
            writer.add_trades(instrument, sorted([*good, *bad]))
            writer.add_candles(other, Candles.of([*(candle(n) for n in range(3)), wrong_candle, candle(4)]))
            writer.cover(instrument, "trades", NOON_US, NOON_US + 6_000_000)
            writer.cover(other, "candles", NOON_US, NOON_US + 5 * MINUTE_US)
            assert await writer.drain(60)
            assert writer.counters.refused == 4
            assert writer.backlog == 0
            # Another claim of the same stretch does not cover it either.
            writer.cover(instrument, "trades", NOON_US, NOON_US + 7_000_000)
            writer.add_trades(instrument, [trade(600)])
            assert await writer.drain(10)
    assert stored_ids(database.conninfo, instrument) == [int(t.id) for t in good] + [600]
    assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.candles_1m") == [(4,)]
    covered = await database.coverage(instrument.id, "trades")
    for one in bad:
        assert not contains(covered, one.ts_us, one.ts_us + 1)
    assert all(contains(covered, one.ts_us, one.ts_us + 1) for one in good)
    assert not contains(await database.coverage(other.id, "candles"), wrong_candle.ts_us, wrong_candle.ts_us + 1)
    assert told[0].trades == {instrument: good}
    lines = [record for record in caplog.records if "row is refused" in record.getMessage()]
    assert len(lines) == 4


async def test_a_market_that_was_deleted_does_not_stop_the_others(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    query(database.conninfo, "DELETE FROM ohlcvd.instruments WHERE id = %s", [other.id])
    async with writing(database) as writer:
        writer.cover(other, "trades", NOON_US, NOON_US + 5)
        writer.add_trades(instrument, [trade(1)])
        assert await writer.drain(10)
        writer.add_trades(instrument, [trade(2)])
        assert await writer.drain(10)
    assert stored_ids(database.conninfo, instrument) == [1, 2]


async def test_a_listener_that_fails_does_not_stop_the_storing(database: Database, instrument: Instrument) -> None:
    def fail(batch: Batch) -> None:
        raise RuntimeError(f"cannot publish {len(batch.trades)} markets")

    async with writing(database, fail) as writer:
        for number in range(2):
            writer.add_trades(instrument, [trade(number)])
            assert await writer.drain(10)
    assert stored_ids(database.conninfo, instrument) == [0, 1]


async def test_candles_and_their_claims_are_one_transaction(database: Database, instrument: Instrument) -> None:
    unknown = instrument._replace(id=999_999)
    stretch = [(NOON_US, NOON_US + 10 * MINUTE_US)]
    work = Work(candles=[(instrument.id, Candles.of([candle(n) for n in range(10)]))])
    async with await database.connect() as connection:
        work.covered = {(instrument, "candles"): stretch, (unknown, "candles"): stretch}
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await Storing().store(connection, work, careful=False)
        assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.candles_1m") == [(0,)]
        assert await database.coverage(instrument.id, "candles") == []
        work.covered = {(instrument, "candles"): stretch}
        assert await Storing().store(connection, work, careful=False) == (0, 0, 10, 0)
    assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.candles_1m") == [(10,)]
    assert await database.coverage(instrument.id, "candles") == stretch


@pytest.mark.parametrize("table", ["candles_1m", "candles_1h", "coverage"])
async def test_candles_that_wait_in_the_server_can_be_cancelled(
    database: Database, instrument: Instrument, table: str
) -> None:
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    writer = Writer(database)
    with psycopg.connect(database.conninfo) as blocker:
        blocker.execute(f"LOCK TABLE ohlcvd.{table}".encode())
        running = asyncio.create_task(writer.run())
        writer.add_candles(instrument, Candles.of([candle(n) for n in range(1000)]))
        writer.cover(instrument, "candles", NOON_US, NOON_US + 1000 * MINUTE_US)
        await until(lambda: query(database.conninfo, blocked) == [(1,)])
        running.cancel()
        await asyncio.wait([running], timeout=10)
        assert running.cancelled()
        assert writer.backlog == 1000
    running = asyncio.create_task(writer.run())
    assert await writer.drain(10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.candles_1m") == [(1000,)]
    assert await database.coverage(instrument.id, "candles") == [(NOON_US, NOON_US + 1000 * MINUTE_US)]


async def test_what_is_not_committed_stays_in_the_backlog_when_cancelled(
    database: Database, instrument: Instrument
) -> None:
    writer = Writer(database)
    with psycopg.connect(database.conninfo) as blocker:
        blocker.execute("LOCK TABLE ohlcvd.coverage")
        running = asyncio.create_task(writer.run())
        writer.add_trades(instrument, trades(range(10)))
        writer.cover(instrument, "trades", NOON_US, NOON_US + 100_000)
        assert not await writer.drain(0.5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert writer.backlog == 10
        assert stored_ids(database.conninfo, instrument) == []
    running = asyncio.create_task(writer.run())
    assert await writer.drain(10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert stored_ids(database.conninfo, instrument) == [*range(10)]
