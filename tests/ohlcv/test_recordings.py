"""Candles built from recorded trades equal the venue's own in every minute that the trades cover whole."""

import csv
import gzip
import os
from decimal import Decimal
from pathlib import Path

import pytest

from ohlcvd.market import MINUTE_US, Candle, Trade
from ohlcvd.ohlcv.candles import CandleBuilder

# recording, whole minutes covered by its trades (its README counts them), whether the venue sends empty minutes, and
# how many minutes the recording of trades went on from the minute of its last trade
RECORDINGS = [("phemex", 2475, True, 0), ("hitbtc", 428, False, 0), ("kraken_xbtusdt", 252, True, 2)]


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    packed = folder / f"{name}.gz"
    with gzip.open(packed, "rt") if packed.exists() else (folder / name).open() as text:
        return list(csv.DictReader(text))


def built(rows: list[dict[str, str]]) -> dict[int, Candle]:
    """Candles of one symbol; ids as they came, or the order where the venue sends none."""
    builder, candles = CandleBuilder(), dict[int, Candle]()
    builder.restart_from(int(rows[0]["ts_ns"]) // 1000)
    for number, row in enumerate(rows, 1):
        ts_us = int(row["ts_ns"]) // 1000
        builder.add(Trade(ts_us, row["id"] or str(number), row["price"], row["amount"], "buy"))
        candles.update((candle.ts_us, candle) for candle in builder.close(ts_us))
    candles.update((candle.ts_us, candle) for candle in builder.close(ts_us + 2 * MINUTE_US))
    return candles


def values(row: dict[str, str]) -> list[Decimal]:
    return [Decimal(row[name]) for name in ("open", "high", "low", "close", "volume")]


@pytest.mark.parametrize(("name", "whole_minutes", "sends_empty", "went_on"), RECORDINGS)
def test_the_venues_candles_are_what_their_trades_make(
    name: str, whole_minutes: int, sends_empty: bool, went_on: int
) -> None:
    root = os.environ.get("OHLCVD_REAL_DATA")
    if not root:
        pytest.skip("OHLCVD_REAL_DATA names no folder of recorded market data")
    trades: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(Path(root) / name, "trades.csv"):
        trades.setdefault(row["symbol"], []).append(row)
    venue: dict[str, dict[int, dict[str, str]]] = {}
    for row in rows_of(Path(root) / name, "candles_1m_venue.csv"):
        venue.setdefault(row["symbol"], {})[int(row["open_ts_ms"]) * 1000] = row
    compared = 0
    for symbol, rows in trades.items():
        candles, theirs = built(rows), venue.get(symbol, {})
        first_us = -(-int(rows[0]["ts_ns"]) // 1000 // MINUTE_US) * MINUTE_US
        last_us = int(rows[-1]["ts_ns"]) // 1000 // MINUTE_US * MINUTE_US + went_on * MINUTE_US
        for ts_us in range(first_us, last_us, MINUTE_US):
            ours, their = candles.get(ts_us), theirs.get(ts_us)
            if their is None and (sends_empty or ours is None):
                continue  # the venue's candles do not reach so far, or it leaves empty minutes out
            compared += 1
            if ours is None:
                assert their is not None
                assert Decimal(their["volume"]) == 0, (symbol, ts_us)
                continue
            assert their is not None, (symbol, ts_us)
            assert [Decimal(value) for value in ours[1:6]] == values(their), (symbol, ts_us)
    assert compared == whole_minutes
