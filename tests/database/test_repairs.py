"""What repair needs of the database: seams, what cannot be filled, candles built from trades, claims taken back."""

import asyncio
from decimal import Decimal
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ohlcvd.coverage import Range
from ohlcvd.database import Batch, Database, Writer, candles_of
from ohlcvd.database.batch import Pending, differs
from ohlcvd.database.inventory import check_readable, extents_of, gaps_of, markets_of
from ohlcvd.database.repairs import (
    STRETCH_US,
    Unfillable,
    build_candles,
    built_candles,
    end_outages,
    record_outage,
    record_unfillable,
    seam_after,
    seam_before,
    unfillable_of,
    whole_minutes,
)
from ohlcvd.errors import DatabaseTooNew, ServiceUnavailable
from ohlcvd.market import MINUTE_US, SECOND_US, Candle, Instrument, Kind, Trade
from ohlcvd.ohlcv.candles import CandleBuilder
from tests.database.support import NOON_US, candle, query, trade, writing

FAR_US = NOON_US + 30 * 86_400 * SECOND_US


def missing(lower: int, upper: int, **changes: object) -> Unfillable:
    """A record of [NOON + lower, NOON + upper)."""
    found = Unfillable(
        NOON_US + lower, NOON_US + upper, "unfillable", "123-125", "Trades?since=1", "no such ids", 3,
        NOON_US + SECOND_US, NOON_US + 2 * SECOND_US, NOON_US + 3600 * SECOND_US,
    )  # fmt: skip
    return found._replace(**changes)  # type: ignore[arg-type]


async def cover(database: Database, instrument: Instrument, kind: Kind, *ranges: Range) -> None:
    async with writing(database) as writer:
        for lower, upper in ranges:
            writer.cover(instrument, kind, lower, upper)
        assert await writer.drain(10)


# --- seams


async def test_the_trades_around_a_hole_are_the_venues_last_and_first(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    assert await seam_before(database, instrument.id, NOON_US) is None
    assert await seam_after(database, instrument.id, NOON_US) is None
    moment_us = NOON_US + 1_000
    same_moment = [trade(n, ts_us=moment_us, price=f"{n}.50") for n in (7, 8, 9)]
    long_ago = trade(1, ts_us=NOON_US - 400 * 86_400 * SECOND_US)
    async with writing(database) as writer:
        writer.add_trades(instrument, [long_ago, *same_moment])
        writer.add_trades(other, [trade(50, ts_us=moment_us + 5)])
        assert await writer.drain(10)
    assert await seam_before(database, instrument.id, moment_us + 10) == same_moment[-1]
    assert await seam_before(database, instrument.id, moment_us) == long_ago
    assert await seam_after(database, instrument.id, moment_us) == same_moment[0]
    assert await seam_after(database, instrument.id, moment_us + 1) is None
    assert await seam_after(database, instrument.id, NOON_US - 800 * 86_400 * SECOND_US) == long_ago


async def test_seams_of_text_ids_follow_the_order_of_execution(database: Database, instrument: Instrument) -> None:
    given_ = [Trade(NOON_US, name, "1", "1", "buy") for name in ("zz", "aa", "mm")]
    async with writing(database) as writer:
        writer.add_trades(instrument, given_)
        assert await writer.drain(10)
    assert await seam_before(database, instrument.id, NOON_US + 1) == given_[-1]
    assert await seam_after(database, instrument.id, NOON_US) == given_[0]


# --- what cannot be filled


async def test_records_of_one_stretch_add_up(database: Database, instrument: Instrument) -> None:
    assert await unfillable_of(database, instrument.id, "trades") == []
    assert await record_unfillable(database, instrument.id, "trades", missing(0, 10)) == missing(0, 10)
    later = missing(0, 10, answered="nothing", attempts=1, first_us=FAR_US, last_us=FAR_US, next_us=FAR_US + 5)
    merged = later._replace(attempts=4, first_us=NOON_US + SECOND_US)
    assert await record_unfillable(database, instrument.id, "trades", later) == merged
    assert await unfillable_of(database, instrument.id, "trades") == [merged]
    assert await unfillable_of(database, instrument.id, "candles") == []


async def test_evidence_may_be_anything(database: Database, instrument: Instrument) -> None:
    odd = missing(0, 10, asked="?\0\ud800", answered="<html>" + "x" * 1_000_000)
    kept = odd._replace(asked="?\\0\\ud800", answered="<html>" + "x" * 1_994)
    assert await record_unfillable(database, instrument.id, "trades", odd) == kept
    assert await unfillable_of(database, instrument.id, "trades") == [kept]


async def test_a_record_takes_the_place_of_those_it_overlaps(database: Database, instrument: Instrument) -> None:
    for lower, upper, attempts in ((0, 10, 1), (20, 30, 5), (40, 50, 2)):
        await record_unfillable(database, instrument.id, "trades", missing(lower, upper, attempts=attempts))
    await record_unfillable(database, instrument.id, "trades", missing(5, 25, attempts=1))
    assert await unfillable_of(database, instrument.id, "trades") == [
        missing(5, 25, attempts=6),
        missing(40, 50, attempts=2),
    ]


async def test_a_record_says_nothing_once_its_time_is_covered(database: Database, instrument: Instrument) -> None:
    for lower in (0, 20):
        await record_unfillable(database, instrument.id, "trades", missing(lower, lower + 10))
    await cover(database, instrument, "trades", (NOON_US - 5, NOON_US + 10), (NOON_US + 15, NOON_US + 25))
    assert [found.lower_us - NOON_US for found in await unfillable_of(database, instrument.id, "trades")] == [20]


async def test_records_made_at_once_do_not_overlap(database: Database, instrument: Instrument) -> None:
    found = [missing(lower, lower + 15, attempts=1) for lower in range(0, 100, 5)]
    await asyncio.gather(*(record_unfillable(database, instrument.id, "trades", one) for one in found))
    kept = await unfillable_of(database, instrument.id, "trades")
    assert all(one.upper_us <= next_.lower_us for one, next_ in pairwise(kept))


# --- what is missing, and why


async def test_gaps_are_told_with_their_reasons_and_evidence(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    assert await markets_of(database) == [instrument, other]
    assert (await gaps_of(database), await extents_of(database)) == ([], [])
    await database.want(instrument.id, "trades", NOON_US - 100)
    await cover(database, instrument, "trades", (NOON_US, NOON_US + 10), (NOON_US + 30, NOON_US + 60))
    await cover(database, other, "candles", (NOON_US, NOON_US + MINUTE_US))
    no_history = missing(-200, -50, reason="venue has no history", ids="")
    outage = missing(25, 40, reason="venue outage", ids="")
    for found in (no_history, missing(12, 15)):
        await record_unfillable(database, instrument.id, "trades", found)
    for _ in range(2):  # told again while it lasts
        await record_outage(database, instrument.id, "trades", [outage])
    expected = [
        (-100, -50, "venue has no history", no_history),
        (-50, 0, "not yet fetched", None),
        (10, 12, "not yet fetched", None),
        (12, 15, "unfillable", missing(12, 15)),
        (15, 25, "not yet fetched", None),
        (25, 30, "venue outage", outage),
    ]
    gaps = await gaps_of(database)
    assert {(g.exchange, g.symbol, g.kind) for g in gaps} == {("kraken", "BTC/USD", "trades")}
    assert [(g.lower_us - NOON_US, g.upper_us - NOON_US, g.reason, g.evidence) for g in gaps] == expected
    assert await gaps_of(database, "kraken", "BTC/USD") == gaps
    assert await gaps_of(database, "kraken", "ETH/USD") == await gaps_of(database, "binance") == []
    rows = query(database.conninfo, "SELECT reason FROM ohlcvd.gaps ORDER BY gap")
    assert [reason for (reason,) in rows] == [reason for _, _, reason, _ in expected]
    assert [(e.symbol, e.kind, e.since_us, e.until_us) for e in await extents_of(database)] == [
        ("BTC/USD", "trades", NOON_US - 100, NOON_US + 60),
        ("ETH/USD", "candles", NOON_US, NOON_US + MINUTE_US),
    ]
    assert await unfillable_of(database, instrument.id, "trades") == [no_history, missing(12, 15)]
    await end_outages(database, "binance")
    assert await gaps_of(database) == gaps
    await end_outages(database, "kraken")
    assert "venue outage" not in {gap.reason for gap in await gaps_of(database)}
    assert await unfillable_of(database, instrument.id, "trades") == [no_history, missing(12, 15)]


async def test_a_market_that_nothing_is_covered_of_reaches_nowhere(database: Database, instrument: Instrument) -> None:
    await database.want(instrument.id, "trades", NOON_US)
    assert [(e.since_us, e.until_us) for e in await extents_of(database, "kraken", "BTC/USD")] == [(NOON_US, None)]


async def test_only_a_database_of_this_schema_can_be_read(database_url: str) -> None:
    with pytest.raises(ServiceUnavailable, match="has no tables of ohlcvd yet: start ohlcvd once"):
        await check_readable(database_url)
    async with Database(database_url) as database:
        await database.wait_until_up()
    await check_readable(database_url)
    query(database_url, "DELETE FROM ohlcvd.migrations WHERE version > 2")
    with pytest.raises(ServiceUnavailable, match="has schema version 2, this ohlcvd reads"):
        await check_readable(database_url)
    query(database_url, "INSERT INTO ohlcvd.migrations (version, name) VALUES (9999, 'of_the_future')")
    with pytest.raises(DatabaseTooNew, match="version 9999"):
        await check_readable(database_url)
    with pytest.raises(ServiceUnavailable, match="cannot be reached for reading"):
        await check_readable("host=/nowhere dbname=none")


# --- candles from trades


def test_only_whole_minutes_count() -> None:
    assert whole_minutes([(1, MINUTE_US), (MINUTE_US - 1, 3 * MINUTE_US + 1), (4 * MINUTE_US, 4 * MINUTE_US + 5)]) == [
        (MINUTE_US, 3 * MINUTE_US)
    ]
    # two claims that only together hold a minute do not touch, or they would be one
    assert whole_minutes([(0, 30), (31, MINUTE_US)]) == []


async def fill(database: Database, instrument: Instrument, given_: list[Trade], *covered: Range) -> None:
    async with writing(database) as writer:
        writer.add_trades(instrument, given_)
        for lower, upper in covered:
            writer.cover(instrument, "trades", lower, upper)
        assert await writer.drain(30)


async def stored(database: Database, instrument: Instrument) -> list[Candle]:
    return [one async for one in candles_of(database, instrument.exchange, instrument.symbol)]


def minutes(count: int, *, start: int = 0) -> Range:
    return NOON_US + start * MINUTE_US, NOON_US + (start + count) * MINUTE_US


async def test_candles_are_built_for_whole_covered_minutes_and_claimed(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    def at(second: float, number: int, price: str, amount: str) -> Trade:
        return Trade(NOON_US + int(second * SECOND_US), str(number), price, amount, "buy")

    given_ = [
        at(0, 10, "100.5", "0.000000000000000001"), at(30, 11, "99", "2"), at(30, 12, "101.50", "3"),
        at(59.999999, 13, "100.25", "0.5"), at(59.999999, 9, "100.75", "0.5"),  # one moment: the id decides
        at(120, 14, "7", "1"),  # nothing in between
        at(185, 15, "8", "1"), at(239, 16, "9", "1"),  # of a minute not covered to its end
    ]  # fmt: skip
    await fill(database, instrument, given_, (NOON_US - 1, NOON_US + 239 * SECOND_US))
    await fill(database, other, [trade(99)], minutes(5))
    assert await build_candles(database, instrument, [minutes(10, start=-3)]) == 2
    assert await stored(database, instrument) == [
        Candle(NOON_US, "100.5", "101.50", "99", "100.25", "6.000000000000000001", 5, "trades"),
        Candle(NOON_US + 2 * MINUTE_US, "7", "7", "7", "7", "1", 1, "trades"),
    ]
    assert await database.coverage(instrument.id, "candles") == [minutes(3)]
    assert await stored(database, other) == []
    assert await build_candles(database, instrument, [minutes(10, start=-3)]) == 0, "again changes nothing"
    assert await build_candles(database, instrument, []) == 0
    assert await build_candles(database, instrument, [(NOON_US + 1, NOON_US + MINUTE_US)]) == 0


async def test_only_the_ranges_asked_for_are_built(database: Database, instrument: Instrument) -> None:
    await fill(database, instrument, [trade(n, ts_us=NOON_US + n * MINUTE_US) for n in range(10)], minutes(10))
    assert await build_candles(database, instrument, [minutes(2, start=1), minutes(1, start=5)]) == 3
    assert [c.ts_us for c in await stored(database, instrument)] == [NOON_US + n * MINUTE_US for n in (1, 2, 5)]
    assert await database.coverage(instrument.id, "candles") == [minutes(2, start=1), minutes(1, start=5)]


async def test_the_venues_candle_stands_and_a_stale_built_one_does_not(
    database: Database, instrument: Instrument
) -> None:
    given_ = [trade(n, ts_us=NOON_US + n * MINUTE_US) for n in range(3)]
    async with writing(database) as writer:
        writer.add_candles(instrument, [candle(0), candle(1, source="trades")])
        assert await writer.drain(10)
    await fill(database, instrument, given_, minutes(3))
    assert await build_candles(database, instrument, [minutes(3)]) == 2
    rows = await stored(database, instrument)
    assert rows[0] == candle(0)
    assert [(row.close, row.source, row.trades) for row in rows[1:]] == [("100.10", "trades", 1)] * 2
    assert await database.coverage(instrument.id, "candles") == [minutes(3)]


async def test_days_and_months_are_built_across_their_partitions(database: Database, instrument: Instrument) -> None:
    start_us = NOON_US - 70 * 86_400 * SECOND_US
    step_us = 5 * 3600 * SECOND_US
    given_ = [trade(n, ts_us=start_us + n * step_us) for n in range(400)]
    await fill(database, instrument, given_, (start_us, given_[-1].ts_us + MINUTE_US))
    assert await build_candles(database, instrument, [(start_us, FAR_US)]) == 400
    assert [c.ts_us for c in await stored(database, instrument)] == [t.ts_us for t in given_]
    assert await database.coverage(instrument.id, "candles") == [(start_us, given_[-1].ts_us + MINUTE_US)]


async def test_a_claim_for_trades_taken_back_meanwhile_is_not_built_upon(
    database: Database, instrument: Instrument
) -> None:
    """The candles are inserted and wait for the lock on coverage, which the one who takes the claim back holds."""
    await fill(database, instrument, [trade(n, ts_us=NOON_US + n * MINUTE_US) for n in range(4)], minutes(4))
    await cover(database, instrument, "candles", (NOON_US - MINUTE_US, NOON_US))
    async with await psycopg.AsyncConnection.connect(database.conninfo) as taking:
        await taking.execute("SELECT FROM ohlcvd.coverage WHERE kind = 'candles' FOR UPDATE")
        building = asyncio.create_task(build_candles(database, instrument, [minutes(4)]))
        waiting = (
            b"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        async with await psycopg.AsyncConnection.connect(database.conninfo, autocommit=True) as watching:
            async with asyncio.timeout(30):
                while (await (await watching.execute(waiting)).fetchone() or (0,))[0] == 0:
                    await asyncio.sleep(0.01)
        await taking.execute(
            """UPDATE ohlcvd.coverage SET covered = covered - tstzmultirange(tstzrange(
                   '2026-03-01 12:01+00', '2026-03-01 12:01:01+00')) WHERE kind = 'trades'"""
        )
        await taking.commit()
        assert await building == 3
    assert await database.coverage(instrument.id, "candles") == [minutes(2, start=-1), minutes(2, start=2)]
    assert [c.ts_us for c in await stored(database, instrument)] == [NOON_US + n * MINUTE_US for n in (0, 2, 3)]


async def test_what_was_built_before_an_end_in_the_middle_holds(database: Database, instrument: Instrument) -> None:
    given_ = [trade(n, ts_us=NOON_US + n * STRETCH_US) for n in range(4)]
    await fill(database, instrument, given_, (NOON_US, NOON_US + 4 * STRETCH_US))
    query(
        database.conninfo,
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               RAISE EXCEPTION 'no' USING ERRCODE = 'admin_shutdown'; END $$;
           CREATE TRIGGER refuse BEFORE INSERT ON ohlcvd.candles_1m FOR EACH ROW
               WHEN (NEW.ts >= '2026-03-02') EXECUTE FUNCTION refuse()""",
    )
    with pytest.raises(ServiceUnavailable, match="building candles from trades: no"):
        await build_candles(database, instrument, [(NOON_US, NOON_US + 4 * STRETCH_US)])
    assert len(await stored(database, instrument)) == 2
    assert await database.coverage(instrument.id, "candles") == [(NOON_US, NOON_US + 2 * STRETCH_US)]
    query(database.conninfo, "DROP TRIGGER refuse ON ohlcvd.candles_1m")
    assert await build_candles(database, instrument, [(NOON_US, NOON_US + 4 * STRETCH_US)]) == 2


executions = st.lists(
    st.tuples(
        st.integers(0, 4 * MINUTE_US - 1) | st.sampled_from([0, MINUTE_US - 1, MINUTE_US, 2 * MINUTE_US]),
        st.decimals("0.01", "99", places=2), st.decimals("0.00000001", "9", places=8),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(executions, st.booleans())
async def test_built_candles_equal_those_of_the_live_builder(
    database: Database, instrument: Instrument, rows: list[tuple[int, Decimal, Decimal]], text_ids: bool
) -> None:
    """The two ways from trades to candles, SQL and Python, agree in every value and in the order of one moment."""
    query(database.conninfo, "TRUNCATE ohlcvd.trades")
    rows.sort(key=lambda row: row[0])
    given_ = [
        Trade(NOON_US + offset, f"id-{1000 - n}" if text_ids else str(n + 1), f"{price:f}", f"{amount:f}", "buy")
        for n, (offset, price, amount) in enumerate(rows)
    ]
    await fill(database, instrument, given_)
    builder = CandleBuilder()
    builder.restart_from(NOON_US)
    for one in given_:
        builder.add(one)
    expected = builder.close(NOON_US + 4 * MINUTE_US)
    built = await built_candles(database, instrument, *minutes(4))
    assert [c.ts_us for c in built] == [c.ts_us for c in expected]
    assert not [pair for pair in zip(built, expected, strict=True) if differs(*pair)]


# --- claims taken back


async def test_a_claim_is_taken_back_in_the_order_of_the_calls(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    told: list[Batch] = []
    await cover(database, instrument, "trades", (NOON_US, NOON_US + 100))
    async with writing(database, told.append) as writer:
        writer.uncover(instrument, "trades", NOON_US + 10, NOON_US + 30)
        writer.cover(instrument, "trades", NOON_US + 20, NOON_US + 25)
        writer.cover(instrument, "trades", NOON_US + 100, NOON_US + 150)
        writer.uncover(instrument, "trades", NOON_US + 140, NOON_US + 160)
        writer.uncover(other, "trades", NOON_US, NOON_US + 5)
        assert await writer.drain(10)
        assert len(told) == 1
        assert told[0].uncovered == {
            (instrument, "trades"): [(NOON_US + 10, NOON_US + 30), (NOON_US + 140, NOON_US + 160)],
            (other, "trades"): [(NOON_US, NOON_US + 5)],
        }
        assert told[0].covered == {
            (instrument, "trades"): [(NOON_US + 20, NOON_US + 25), (NOON_US + 100, NOON_US + 140)]
        }
    assert await database.coverage(instrument.id, "trades") == [
        (NOON_US, NOON_US + 10), (NOON_US + 20, NOON_US + 25), (NOON_US + 30, NOON_US + 140),
    ]  # fmt: skip
    assert await database.coverage(other.id, "trades") == []


steps = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 12), st.booleans()), max_size=15)


@given(steps)
def test_batches_of_claims_given_and_taken_back_equal_the_plain_order(
    steps_: list[tuple[bool, int, int, bool]],
) -> None:
    """Applied as the database does, each batch at once, first what it takes and then what it gives."""
    instrument = Instrument(1, "kraken", "BTC/USD")
    key: tuple[Instrument, Kind] = (instrument, "trades")
    plain: set[int] = set()
    in_batches: set[int] = set()

    def flush(pending: Pending) -> None:
        for lower, upper in pending.uncovered.get(key, []):
            in_batches.difference_update(range(lower, upper))
        for lower, upper in pending.covered.get(key, []):
            in_batches.update(range(lower, upper))

    pending = Pending()
    for gives, lower, length, ends_batch in steps_:
        moments = range(lower, lower + length)
        if gives:
            pending.cover(instrument, "trades", lower, lower + length)
            plain.update(moments)
        else:
            pending.uncover(instrument, "trades", lower, lower + length)
            plain.difference_update(moments)
        if ends_batch:
            flush(pending)
            pending = Pending()
    flush(pending)
    assert in_batches == plain


async def test_a_claim_is_taken_back_also_beside_rows_that_are_refused(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    await cover(database, instrument, "trades", (NOON_US, NOON_US + 100))
    query(database.conninfo, "DELETE FROM ohlcvd.instruments WHERE id = %s", [other.id])
    async with writing(database) as writer:
        writer.add_trades(instrument, [trade(1), trade(2)._replace(id="with\0zero")])
        writer.cover(other, "trades", NOON_US, NOON_US + 5)  # of a market that somebody deleted
        writer.uncover(instrument, "trades", NOON_US + 10, NOON_US + 20)
        assert await writer.drain(10)
        assert writer.counters.refused == 1
    assert await database.coverage(instrument.id, "trades") == [
        (NOON_US, NOON_US + 10),
        (NOON_US + 20, NOON_US + 100),
    ]


async def test_two_writers_that_give_and_take_do_not_lock_each_other_out(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    async def work(writer: Writer, first: Instrument, second: Instrument) -> None:
        for n in range(100):
            writer.uncover(first, "trades", NOON_US + n, NOON_US + n + 1)
            writer.cover(second, "trades", NOON_US + n, NOON_US + n + 1)
            await asyncio.sleep(0)
            assert await writer.drain(20)

    await cover(database, instrument, "trades", (NOON_US, NOON_US + 1))
    await cover(database, other, "trades", (NOON_US, NOON_US + 1))
    async with writing(database) as one, writing(database) as two:
        await asyncio.gather(work(one, instrument, other), work(two, other, instrument))
        assert (one.counters.retries, two.counters.retries) == (0, 0)
