"""Real recorded trades through the real path: every one stored, and the candles built from them exact."""

import csv
import gzip
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.process.harness import Daemon, local_exchange, started, wait_for

RECORDINGS = [("binance_xrpeth", "binance", "XRP/ETH", "20000"), ("kraken_xbtusdt", "kraken", "BTC/USDT", "5000")]


def real_data() -> Path:
    """The folder of recordings, from OHLCVD_REAL_DATA."""
    folder = os.environ.get("OHLCVD_REAL_DATA")
    if not folder:
        pytest.skip("OHLCVD_REAL_DATA names no folder of recorded market data")
    return Path(folder)


def rows_of(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as text:
        return list(csv.DictReader(text))


def exact(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (row[0], *(Decimal(value) for value in row[1:6]), int(row[6]))


@pytest.mark.parametrize(("name", "exchange", "symbol", "speed"), RECORDINGS)
def test_a_recording_is_stored_trade_for_trade_and_candle_for_candle(
    tmp_path: Path, database_url: str, redis_url: str, name: str, exchange: str, symbol: str, speed: str
) -> None:
    folder = real_data() / name
    trades = rows_of(folder / "trades.csv.gz")
    candles = rows_of(folder / "candles_1m.csv")
    with local_exchange(tmp_path, "--replay", str(folder), "--speed", speed) as source:
        daemon = Daemon(tmp_path, source, {exchange: [symbol]}, dsn=database_url, url=redis_url, service="trade")
        with started(daemon):
            wait_for("the last frame", lambda: source.get("status")["finished"], 200)
            wait_for(
                "every trade",
                lambda: daemon.query("SELECT count(*) FROM ohlcvd.named_trades")[0][0] >= len(trades),
            )
            wait_for(
                "the last candle",
                lambda: daemon.query("SELECT count(*) FROM ohlcvd.named_candles")[0][0] >= len(candles),
                90,
            )
            stored = daemon.query(
                """
                SELECT trade_id, (extract(epoch FROM ts) * 1000000)::bigint, price, amount, side
                FROM ohlcvd.named_trades WHERE exchange = %s AND symbol = %s ORDER BY trade_id::bigint
                """,
                exchange,
                symbol,
            )
            built = daemon.query(
                """
                SELECT (extract(epoch FROM ts) * 1000)::bigint, open, high, low, close, volume, trades, source
                FROM ohlcvd.named_candles WHERE exchange = %s AND symbol = %s ORDER BY ts
                """,
                exchange,
                symbol,
            )
    expected = [
        (row["id"], int(row["ts_ns"]) // 1000, Decimal(row["price"]), Decimal(row["amount"]), row["side"])
        for row in trades
    ]
    assert stored == sorted(expected, key=lambda row: int(row[0]))
    names = ("open_ts_ms", "open", "high", "low", "close", "volume", "trades")
    assert [exact(row[:7]) for row in built] == [
        exact((int(row["open_ts_ms"]), *(row[name] for name in names[1:]))) for row in candles
    ]
    assert {row[7] for row in built} == {"trades"}
