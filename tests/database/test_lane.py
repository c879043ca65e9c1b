"""History beside live rows in the writer: who comes first, claims behind their rows, and what is taken back."""

from pathlib import Path

import psycopg
import pytest

from ohlcvd.coverage import contains
from ohlcvd.database import Batch, Database, Spool
from ohlcvd.database import writer as module
from ohlcvd.database.lane import SLICE_ROWS, HistoryLane
from ohlcvd.market import MINUTE_US, Instrument
from tests.database.proxy import Proxy
from tests.database.support import NOON_US, candle, stored_ids, trade, trades, until, writing

MARKET = Instrument(1, "binance", "BTC/USDT")
OTHER = Instrument(2, "binance", "ETH/USDT")


def lane() -> HistoryLane:
    return HistoryLane(lambda rows: None, lambda *claim: None, lambda: 5.0)


def test_slices_keep_the_order_and_a_claim_comes_with_the_last_of_its_rows() -> None:
    line = lane()
    assert not line
    assert (line.rows, line.since_s) == (0, None)
    line.add_trades(MARKET, trades(range(10)))
    line.cover(MARKET, "trades", 0, 100)
    line.add_candles(OTHER, [candle(0), candle(1)])
    line.cover(OTHER, "candles", 0, 50)
    assert line.rows == 12
    assert line.since_s == 5.0
    first = line.take(7)
    assert ([row[1] for row in first.rows], first.covered) == ([*range(7)], {})
    assert line.rows == 5
    second = line.take(4)
    assert ([row[1] for row in second.rows], len(second.candles)) == ([7, 8, 9], 1)
    assert second.covered == {(MARKET, "trades"): [(0, 100)]}
    third = line.take(1)
    assert third.covered == {(OTHER, "candles"): [(0, 50)]}
    assert not line


def test_a_claim_that_is_taken_back_while_it_waits_is_never_made() -> None:
    line = lane()
    line.add_trades(MARKET, trades(range(10)))
    line.cover(MARKET, "trades", 0, 100)
    line.cover(OTHER, "trades", 0, 100)
    line.strike(MARKET, "trades", 30, 40)
    line.cover(MARKET, "trades", 35, 37)  # later claims stand
    assert line.take(100).covered == {(MARKET, "trades"): [(0, 30), (35, 37), (40, 100)], (OTHER, "trades"): [(0, 100)]}


async def test_live_rows_do_not_wait_for_the_history_before_them(
    database: Database, instrument: Instrument, other: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (SLICE_ROWS, module.LIVE_S) == (500, 1.0)
    monkeypatch.setattr(module, "LIVE_S", 300.0)  # however slow the machine is
    told: list[Batch] = []
    async with writing(database, told.append) as writer:
        writer.add_trades(other, [trade(1)])
        assert await writer.drain(10)
        writer.history.add_trades(instrument, trades(range(4 * SLICE_ROWS)))
        writer.history.cover(instrument, "trades", NOON_US, NOON_US + MINUTE_US)
        writer.add_trades(other, [trade(2)])
        assert writer.backlog == 4 * SLICE_ROWS + 1
        assert await writer.drain(10)
        assert writer.backlog == 0
    sizes = [len(batch.trades.get(instrument, ())) for batch in told[1:]]
    assert [other in batch.trades for batch in told[1:]].index(True) <= 1, "it waited for one slice at the most"
    assert max(sizes) == SLICE_ROWS
    assert [batch for batch in told if batch.covered] == told[-1:], "claimed with the last of the rows"
    assert stored_ids(database.conninfo, instrument) == [*range(4 * SLICE_ROWS)]


async def test_coverage_of_history_is_never_ahead_of_its_rows_beside_live_ones(
    database: Database, instrument: Instrument, other: Instrument
) -> None:
    step, pages = 10_000, 30
    async with (
        writing(database) as writer,
        await psycopg.AsyncConnection.connect(database.conninfo, autocommit=True) as connection,
    ):
        for page in range(pages):
            first = page * 800
            writer.history.add_trades(instrument, trades(range(first, first + 800)))
            writer.history.cover(instrument, "trades", NOON_US + first * step, NOON_US + (first + 800) * step)
            writer.add_trades(other, trades(range(page * 10, page * 10 + 10)))
            covered = await database.coverage(instrument.id, "trades")
            found = await (
                await connection.execute(
                    "SELECT trade_id FROM ohlcvd.trades WHERE instrument_id = %s", (instrument.id,)
                )
            ).fetchall()
            stored = {row[0] for row in found}
            for lower, upper in covered:
                assert stored >= {*range((lower - NOON_US) // step, (upper - NOON_US) // step)}
        assert await writer.drain(30)
    assert contains(await database.coverage(instrument.id, "trades"), NOON_US, NOON_US + pages * 800 * step)


async def test_history_that_meets_stored_rows_is_stored_once(database: Database, instrument: Instrument) -> None:
    """Also a trade whose time differs in the last microsecond, alone in its stretch."""
    async with writing(database) as writer:
        writer.add_trades(instrument, trades([500, 2_000]))
        assert await writer.drain(10)
        late = trade(500, ts_us=trade(500).ts_us + 1)
        for page in (trades(range(400)), [late], trades(range(300, 600)), trades(range(1_000, 1_500))):
            writer.history.add_trades(instrument, page)
            assert await writer.drain(10)
        assert (writer.counters.trades, writer.counters.duplicates) == (600 + 500 + 1, 1 + 101)
    assert stored_ids(database.conninfo, instrument) == [*range(600), *range(1_000, 1_500), 2_000]


async def test_history_waits_on_disk_too_while_the_database_is_away(
    database: Database, instrument: Instrument, short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.MOMENT_S == 2.0
    monkeypatch.setattr(module, "MOMENT_S", 0.2)
    async with Proxy(database.conninfo, short_path) as proxy, Database(proxy.conninfo) as behind:
        await behind.wait_until_up()
        async with writing(behind, spool=Spool(tmp_path / "kraken", 10_000_000)) as writer:
            writer.add_trades(instrument, [trade(5_000)])
            await until(lambda: writer.backlog == 0)
            await proxy.cut()
            writer.history.add_trades(instrument, trades(range(1_000)))
            writer.history.cover(instrument, "trades", NOON_US, NOON_US + MINUTE_US)
            await until(lambda: writer.counters.spooled >= 1_000)
            assert stored_ids(database.conninfo, instrument) == [5_000]
            proxy.mend()
            await until(lambda: writer.backlog == 0)
    assert stored_ids(database.conninfo, instrument) == [*range(1_000), 5_000]
    assert await database.coverage(instrument.id, "trades") == [(NOON_US, NOON_US + MINUTE_US)]
