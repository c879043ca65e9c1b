"""What is older than it is to be kept: said first, dropped later, and not missing ever after."""

import logging
import time

import pytest

from ohlcvd.config import Config
from ohlcvd.config.retention import DAY_US, kept_from
from ohlcvd.database import Database
from ohlcvd.database.retention import drop, expired, want_less
from ohlcvd.market import MINUTE_US, Candle, Instrument, Kind, Trade
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.plan import Market, missing, wanted
from ohlcvd.worker.retaining import SAID_S, Retaining
from tests.database.support import query, stored_ids, writing

# The last one: partitions are days only where they are not long ago.
MIDNIGHT_US = time.time_ns() // 1000 // DAY_US * DAY_US
NOW_US = MIDNIGHT_US + 7 * 3_600_000_000
LONG_AGO_US = 1_773_100_800_000_000  # 2026-03-10 00:00 UTC
KINDS: tuple[Kind, Kind] = ("trades", "candles")


def trade(days_ago: int, number: int) -> Trade:
    return Trade(MIDNIGHT_US - days_ago * DAY_US + number, str(number), "1.5", "2", "buy")


def candle(days_ago: int, minute: int = 0) -> Candle:
    return Candle(MIDNIGHT_US - days_ago * DAY_US + minute * MINUTE_US, "2", "3", "1", "2", "1", 1, "venue")


async def stored(database: Database, instrument: Instrument) -> None:
    """A row a day for three days, and a hole in the oldest of them."""
    async with writing(database) as writer:
        for days_ago in (3, 2, 1):
            lower_us = MIDNIGHT_US - days_ago * DAY_US
            writer.add_trades(instrument, [trade(days_ago, 10 - days_ago)])
            writer.add_candles(instrument, [candle(days_ago), candle(days_ago, 60)])
            for kind in KINDS:
                writer.cover(instrument, kind, lower_us + (days_ago == 3) * 1_000_000, lower_us + DAY_US)
        assert await writer.drain(30)
    for kind in KINDS:
        await database.want(instrument.id, kind, MIDNIGHT_US - 3 * DAY_US)


def test_only_whole_days_that_are_over_long_enough_are_dropped() -> None:
    assert kept_from(2 * DAY_US, LONG_AGO_US + 1) == kept_from(2 * DAY_US, LONG_AGO_US) == LONG_AGO_US - 2 * DAY_US
    names = ["trades_20260307", "trades_20260308", "trades_202602", "trades_202603", "trades_default", "other"]
    found = [partition.name for partition in expired(names, LONG_AGO_US - 2 * DAY_US)]
    assert found == ["trades_20260307", "trades_202602"]


async def test_old_trades_go_with_their_coverage_and_are_not_missing(
    database: Database, instrument: Instrument, other: Instrument, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bound_us = MIDNIGHT_US - 2 * DAY_US
    await stored(database, instrument)
    await stored(database, other)
    gaps = "SELECT count(*) FROM ohlcvd.gaps"
    assert query(database.conninfo, gaps) == [(4,)]
    assert await want_less(database, "trades", bound_us) == 2
    assert await want_less(database, "trades", bound_us) == 0
    assert query(database.conninfo, gaps) == [(2,)], "what is about to go is not missing"
    assert stored_ids(database.conninfo, instrument) == [7, 8, 9]
    assert await drop(database, "trades", bound_us) == 1
    assert "trades older than retention_trades are dropped" in caplog.text
    assert await drop(database, "trades", bound_us) == 0
    for market in (instrument, other):
        assert stored_ids(database.conninfo, market) == [8, 9]
        assert await database.coverage(market.id, "trades") == [(bound_us, MIDNIGHT_US)]
        assert len(await database.coverage(market.id, "candles")) == 1
    assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.candles_1m") == [(12,)], "candles are kept"
    assert query(database.conninfo, gaps) == [(2,)]


async def test_old_rows_in_the_default_partition_go_too(database: Database, instrument: Instrument) -> None:
    await stored(database, instrument)
    query(
        database.conninfo,
        """INSERT INTO ohlcvd.trades_default (ts, trade_id, instrument_id, side, price, amount)
           VALUES ('2020-01-01', 1, %s, 'b', 1, 1), ('2030-01-01', 99, %s, 'b', 1, 1)""",
        [instrument.id, instrument.id],
    )
    await drop(database, "trades", MIDNIGHT_US - 4 * DAY_US)
    assert stored_ids(database.conninfo, instrument) == [7, 8, 9, 99]


async def test_old_candles_go_with_their_hours(database: Database, instrument: Instrument) -> None:
    bound_us = MIDNIGHT_US - DAY_US
    await stored(database, instrument)
    await want_less(database, "candles", bound_us)
    assert await drop(database, "candles", bound_us) == 4
    assert await drop(database, "candles", bound_us) == 0
    for table in ("candles_1m", "candles_1h"):
        assert query(database.conninfo, f"SELECT count(*) FROM ohlcvd.{table}") == [(2,)]
    assert await database.coverage(instrument.id, "candles") == [(bound_us, MIDNIGHT_US)]
    assert stored_ids(database.conninfo, instrument) == [7, 8, 9], "trades are kept"


async def test_nothing_is_dropped_before_it_was_said_for_a_while(database: Database, instrument: Instrument) -> None:
    assert SAID_S == 60.0
    await stored(database, instrument)
    config = Config(flags={"ohlcvd.since": "1d", "ohlcvd.retention_trades": "2d"}, environ={})
    retaining = Retaining(config, "binance", database)
    for now_s, left in ((0.0, 3), (SAID_S - 1, 3), (SAID_S, 2)):
        await retaining.step(NOW_US, now_s)
        assert len(stored_ids(database.conninfo, instrument)) == left
    await retaining.step(NOW_US + DAY_US, SAID_S + 1)
    assert len(stored_ids(database.conninfo, instrument)) == 2, "the next day is said first, too"
    assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.candles_1m") == [(6,)]


def test_what_is_not_wanted_any_more_is_not_looked_for() -> None:
    market, now_us = Instrument(1, "binance", "BTC/USDT"), 10 * DAY_US
    book = CoverageBook()
    book.load(market, "trades", [(5 * DAY_US, now_us)], 2 * DAY_US)
    assert wanted(book.wanted_from(market, "trades"), None, book.taken(market, "trades"), now_us)[0][0] == 2 * DAY_US
    book.want(market, "trades", 6 * DAY_US)
    found = wanted(book.wanted_from(market, "trades"), None, book.taken(market, "trades"), now_us)
    assert missing(Market(found, book.taken(market, "trades"), ()), now_us) == []
