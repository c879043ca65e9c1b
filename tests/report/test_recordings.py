"""Recorded markets: candles rebuilt by the database from their trades equal the venue's own in every covered minute."""

from collections import defaultdict
from pathlib import Path

import pytest

from ohlcvd.database import Database
from ohlcvd.database.repairs import build_candles
from ohlcvd.market import MINUTE_US, Candle, Side, Trade, minute_of
from ohlcvd.report.venue import VenueMinutes
from ohlcvd.report.verify import verify
from tests.database.support import writing
from tests.exchange.support import real_data, recorded_rows

# Folder; minutes with a row of the venue's that are wholly inside the recording; those of them without a trade; whether
# the venue has a row for every minute.
RECORDINGS = (("phemex", 2475, 354, True), ("hitbtc", 428, 0, False), ("kraken_xbtusdt", 252, 89, True))


def trades_of(folder: Path) -> dict[str, list[Trade]]:
    """By symbol, in order; those without an id of the venue's get one."""
    found: dict[str, list[Trade]] = defaultdict(list)
    for number, row in enumerate(recorded_rows(folder / "trades.csv.gz")):
        side: Side = "buy" if row["side"] == "buy" else "sell"
        trade_id = row["id"] or f"{row['ts_ns']}-{number}"
        found[row["symbol"]].append(Trade(int(row["ts_ns"]) // 1000, trade_id, row["price"], row["amount"], side))
    return found


def candles_of(folder: Path) -> dict[str, list[Candle]]:
    found: dict[str, list[Candle]] = defaultdict(list)
    for row in recorded_rows(next(folder.glob("candles_1m_venue.csv*"))):
        prices = row["open"], row["high"], row["low"], row["close"]
        count = int(row["trades"]) if row.get("trades") else None
        found[row["symbol"]].append(Candle(int(row["open_ts_ms"]) * 1000, *prices, row["volume"], count, "venue"))
    return {symbol: sorted(rows) for symbol, rows in found.items()}


@pytest.mark.parametrize(("name", "minutes", "empty", "sends_empty"), RECORDINGS)
async def test_every_covered_minute_equals_the_venues(
    database: Database, name: str, minutes: int, empty: int, sends_empty: bool
) -> None:
    folder = real_data() / name
    exchange = name.partition("_")[0]
    candles = candles_of(folder)
    compared = equal = without_trade = built = 0
    for symbol, trades in trades_of(folder).items():
        instrument = (await database.instruments(exchange, [symbol]))[symbol]
        rows = candles[symbol]
        # Kraken's candles were asked for after the last trade; elsewhere the last minute is cut off.
        end_us = rows[-1].ts_us + MINUTE_US if name == "kraken_xbtusdt" else minute_of(trades[-1].ts_us)
        async with writing(database) as writer:
            writer.add_trades(instrument, trades)
            writer.cover(instrument, "trades", trades[0].ts_us, end_us)
            assert await writer.drain(30)
        built += await build_candles(database, instrument, [(trades[0].ts_us, end_us)])

        async def venue(
            symbol: str, since_us: int | None = None, limit: int | None = None, rows: list[Candle] = rows
        ) -> list[Candle]:
            return [row for row in rows if row.ts_us >= (since_us or 0)]

        sides = VenueMinutes(symbol, venue, sends_empty=True)  # compared is only what it has a row for
        result = await verify(database, exchange, symbol, sides)
        assert (result.differences, result.notes) == ([], [])
        tally = result.tallies["venue"]
        compared += tally.equal + tally.different
        equal += tally.equal
        without_trade += result.empty if sends_empty else 0
    assert (compared, equal, without_trade) == (minutes, minutes, empty)
    assert built == minutes - empty
