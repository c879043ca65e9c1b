"""Partitions: never in a row's way, made ahead, made late, made by two at once."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.database import Database
from ohlcvd.database.batch import Ordinals, Pending
from ohlcvd.database.partitions import DAY_US, Partition, Partitions, lacking, named, of_day, of_month
from ohlcvd.database.store import Storing, Work
from ohlcvd.market import Instrument, Trade
from tests.database.support import NOON_US, query, trade

TODAY = NOON_US // DAY_US


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) // 86_400


def test_names_stand_for_their_ranges() -> None:
    assert of_day(day("2026-03-01")) == Partition(day("2026-03-01"), day("2026-03-02"), "trades_20260301")
    assert of_month(day("2024-02-29")) == Partition(day("2024-02-01"), day("2024-03-01"), "trades_202402")
    assert of_month(day("2025-12-31")).upper == day("2026-01-01")
    for partition in (of_day(day("2026-03-01")), of_month(day("2026-03-01"))):
        assert named(partition.name) == partition
    assert named("trades_default") is None


def test_days_for_the_present_and_months_for_older_history() -> None:
    days = [day("2019-07-03"), day("2019-07-30"), day("2025-12-31"), TODAY - 1, TODAY, TODAY + 1]
    names = [p.name for p in lacking(days, TODAY, [])]
    assert names == [
        "trades_201907", "trades_20251231", "trades_20260228", "trades_20260301", "trades_20260302",
    ]  # fmt: skip


def test_a_month_that_has_days_already_gets_days() -> None:
    have = [of_day(day("2019-07-15"))]
    assert [p.name for p in lacking([day("2019-07-03")], TODAY, have)] == ["trades_20190703"]
    assert lacking([day("2019-07-15")], TODAY, have) == []


@given(st.lists(st.integers(TODAY - 400, TODAY + 2), max_size=10), st.integers(-30, 400))
def test_every_day_gets_one_and_none_overlaps(days: list[int], ago: int) -> None:
    earlier = lacking(days[::2], TODAY - ago, [])
    partitions = [*earlier, *lacking(days, TODAY, earlier)]
    for wanted in days:
        assert len([p for p in partitions if p.lower <= wanted < p.upper]) == 1
    ends = sorted((p.lower, p.upper) for p in partitions)
    assert all(a[1] <= b[0] for a, b in pairwise(ends))


def rows_of(instrument: Instrument, trades: list[Trade]) -> Work:
    pending = Pending()
    pending.add_trades(instrument, trades, Ordinals())
    return Work(rows=pending.rows)


def where(conninfo: str) -> dict[str, int]:
    """Rows by partition."""
    text = "SELECT relname, count(*) FROM ohlcvd.trades t JOIN pg_class c ON c.oid = t.tableoid GROUP BY 1"
    return dict(query(conninfo, text))


async def test_rows_of_any_year_find_their_partition(database: Database, instrument: Instrument) -> None:
    storing = Storing(now_us=lambda: NOON_US)
    years = [trade(n, ts_us=NOON_US - n * 200 * DAY_US) for n in range(12)]
    async with database.connection("testing") as connection:
        assert (await storing.store(connection, rows_of(instrument, years), careful=False)).trades == 12
    counts = where(database.conninfo)
    assert sum(counts.values()) == 12
    assert "trades_default" not in counts
    exists = query(database.conninfo, "SELECT to_regclass('ohlcvd.trades_20260302') IS NOT NULL")
    assert exists == [(True,)], "the morrow's partition is made ahead"


async def test_where_no_partition_can_be_made_rows_go_into_default_and_are_moved_later(
    database: Database, instrument: Instrument
) -> None:
    # A reader that does not end holds the lock that ATTACH needs.
    with psycopg.connect(database.conninfo) as reader:
        reader.execute("SELECT FROM ohlcvd.trades_default")
        async with database.connection("testing") as connection:
            storing = Storing(now_us=lambda: NOON_US)
            await storing.store(connection, rows_of(instrument, [trade(1), trade(2)]), careful=False)
    assert where(database.conninfo) == {"trades_default": 2}
    async with database.connection("testing") as connection:
        storing = Storing(now_us=lambda: NOON_US)
        stored = await storing.store(connection, rows_of(instrument, [trade(2), trade(3)]), careful=False)
    assert (stored.trades, stored.duplicates) == (1, 1)
    assert where(database.conninfo) == {"trades_20260301": 3}


async def test_a_partition_of_somebody_else_is_used_as_it_is(database: Database, instrument: Instrument) -> None:
    query(
        database.conninfo,
        "CREATE TABLE ohlcvd.own PARTITION OF ohlcvd.trades FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    )
    async with database.connection("testing") as connection:
        await Storing(now_us=lambda: NOON_US).store(connection, rows_of(instrument, [trade(1)]), careful=False)
    assert where(database.conninfo) == {"own": 1}


@pytest.mark.parametrize("round_", range(3))
async def test_several_at_once_make_each_partition_once(database: Database, round_: int) -> None:
    del round_
    connections = [await database.connect() for _ in range(6)]
    try:
        days = {TODAY - n for n in range(5)}
        await asyncio.gather(*(Partitions().ensure(c, days, TODAY, 0.0) for c in connections))
    finally:
        for connection in connections:
            await connection.close()
    made = query(database.conninfo, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'ohlcvd.trades'::regclass")
    assert made == [(7,)], "five days, the morrow, and the default one"
