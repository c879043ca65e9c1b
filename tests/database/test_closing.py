"""A day that is over is closed once, and again when it has grown; its rows stay what they are."""

import asyncio

import psycopg

from ohlcvd.database import Database
from ohlcvd.database.closing import AFTER_US, close_partitions, is_due
from ohlcvd.database.migrate import migrate
from ohlcvd.database.partitions import DAY_US

DAY = 20_000  # 2024-10-04
NAME = "trades_20241004"
OVER_US = (DAY + 1) * DAY_US + AFTER_US


def test_a_partition_is_closed_when_its_time_is_over_and_again_when_it_has_grown() -> None:
    assert is_due(NAME, 8192, None, OVER_US)
    assert not is_due(NAME, 8192, None, OVER_US - 1)
    assert not is_due(NAME, 0, None, OVER_US)
    assert not is_due("trades_default", 8192, None, OVER_US)
    assert not is_due(NAME, 100_000, "closed at 90000 bytes", OVER_US)
    assert is_due(NAME, 200_000, "closed at 90000 bytes", OVER_US)
    assert is_due("trades_202409", 8192, "made by hand", OVER_US)


def test_a_closed_partition_is_smaller_and_has_the_same_rows(module_database: str) -> None:
    dsn = module_database
    asyncio.run(migrate(dsn))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE ohlcvd.{NAME} PARTITION OF ohlcvd.trades FOR VALUES FROM ('2024-10-04') TO ('2024-10-05')"
            .encode()
        )  # fmt: skip
        for market in range(20):  # many places in the index
            connection.execute(
                """INSERT INTO ohlcvd.trades (ts, trade_id, instrument_id, side, price, amount)
                   SELECT '2024-10-04'::timestamptz + n * interval '1 second', n, n %% 50, 'b', 1, 1
                     FROM generate_series(%s::int, %s::int) n""",
                (market * 500, market * 500 + 499),
            )
        before = connection.execute(f"SELECT pg_indexes_size('ohlcvd.{NAME}')".encode()).fetchone()
        assert asyncio.run(_close(dsn)) == 1
        after = connection.execute(f"SELECT pg_indexes_size('ohlcvd.{NAME}')".encode()).fetchone()
        assert before is not None
        assert after is not None
        assert after[0] < before[0]
        assert connection.execute("SELECT count(*) FROM ohlcvd.trades").fetchone() == (10_000,)
        assert asyncio.run(_close(dsn)) == 0


async def _close(dsn: str) -> int:
    return await close_partitions(Database(dsn), OVER_US)
