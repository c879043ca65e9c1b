"""What children that are not configured any more left on disk is stored by those that are."""

import asyncio
import logging
from pathlib import Path

import pytest

from ohlcvd.database import Batch, Database, Quarantine, Spool
from ohlcvd.database.batch import Ordinals, Pending
from ohlcvd.market import Instrument
from ohlcvd.worker.inheriting import Inheriting
from tests.database.support import NOON_US, candle, query, stored_ids, trades

LIMIT = 1 << 24
SHARDS = ("binance-1", "binance-2")


def heir(
    folder: Path, database: Database, child: str = "binance/1", committed: list[Batch] | None = None
) -> Inheriting:
    news = committed if committed is not None else []
    quarantine = Quarantine(folder / "quarantine.jsonl")
    return Inheriting(child, folder / "spool", SHARDS, database, quarantine, news.append, LIMIT)


def batch(instrument: Instrument, numbers: range) -> Pending:
    pending = Pending()
    pending.add_trades(instrument, trades(numbers), Ordinals())
    pending.add_candle(instrument, candle(numbers.start))
    pending.cover(instrument, "trades", NOON_US + numbers.start * 10_000, NOON_US + numbers.stop * 10_000)
    return pending


async def leave(folder: Path, *batches: Pending) -> None:
    """As a child does that ends while the database is away."""
    spool = Spool(folder, LIMIT)
    await spool.open()
    spool.append(batches)
    spool.close()


async def test_rows_of_a_child_that_is_gone_are_stored_once_by_whoever_comes(
    database: Database, instrument: Instrument, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await leave(tmp_path / "spool" / "binance", batch(instrument, range(100)), batch(instrument, range(100, 150)))
    await leave(tmp_path / "spool" / "kraken", batch(instrument, range(150, 200)))
    await leave(tmp_path / "spool" / "binance-2", batch(instrument, range(500, 600)))
    committed: list[Batch] = []
    with caplog.at_level(logging.INFO):
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for child in ("binance/1", "binance/2"):
                group.create_task(heir(tmp_path, database, child, committed).run())
    assert stored_ids(database.conninfo, instrument) == [*range(200)], "a configured child's are its own affair"
    assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.candles_1m") == [(3,)]
    assert await database.coverage(instrument.id, "trades") == [(NOON_US, NOON_US + 2_000_000)]
    assert [path.parent.name for path in tmp_path.rglob("*.spool")] == ["binance-2"]
    told = [trade for one in committed for several in one.trades.values() for trade in several]
    assert len(told) == 200
    said = [record.getMessage() for record in caplog.records]
    assert sum("storing the rows that binance left" in line for line in said) == 1
    assert sum("the rows that kraken left are stored" in line for line in said) == 1


async def test_an_owner_that_still_drains_is_waited_for(
    database: Database, instrument: Instrument, tmp_path: Path
) -> None:
    owner = Spool(tmp_path / "spool" / "binance", LIMIT)
    await owner.open()
    inheriting = asyncio.create_task(heir(tmp_path, database).run())
    await asyncio.sleep(0.2)
    owner.append([batch(instrument, range(20))])
    await asyncio.sleep(0.2)
    assert stored_ids(database.conninfo, instrument) == []
    assert not inheriting.done()
    owner.close()
    await asyncio.wait_for(inheriting, 60)
    assert stored_ids(database.conninfo, instrument) == [*range(20)]


async def test_what_cannot_be_read_is_told_and_the_rest_is_stored(
    database: Database, instrument: Instrument, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool" / "binance" / "lock").mkdir(parents=True)
    await leave(tmp_path / "spool" / "kraken", batch(instrument, range(10)))
    await asyncio.wait_for(heir(tmp_path, database).run(), 60)
    assert stored_ids(database.conninfo, instrument) == [*range(10)]
    assert "rows that binance left cannot be read, left to the next start" in caplog.text


async def test_nothing_is_left(database: Database, tmp_path: Path) -> None:
    await asyncio.wait_for(heir(tmp_path, database).run(), 5)
