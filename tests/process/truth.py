"""Truth from the exchange against rows in the database, in exact numbers."""

from decimal import Decimal
from typing import Any

from tests.process.harness import Daemon, Exchange

Row = tuple[str, int, Decimal, Decimal, str]

TRADES = """
    SELECT trade_id, (extract(epoch FROM ts) * 1000000)::bigint, price, amount, side
    FROM ohlcvd.named_trades WHERE exchange = %s AND symbol = %s
"""
CANDLES = """
    SELECT (extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close, volume, trades, source
    FROM ohlcvd.named_candles WHERE exchange = %s AND symbol = %s
"""


def stored_trades(daemon: Daemon, exchange: str, symbol: str) -> list[Row]:
    return [tuple(row) for row in daemon.query(TRADES, exchange, symbol)]


def sent_trades(source: Exchange, exchange: str, symbol: str) -> list[Row]:
    return _rows(source.get("sent", exchange=exchange, symbol=symbol, snapshots=1)["trades"])


def true_trades(source: Exchange, exchange: str, symbol: str, from_us: int, to_us: int) -> list[Row]:
    found = source.get("truth", exchange=exchange, symbol=symbol, from_us=from_us, to_us=to_us)
    return _rows(found["trades"])


def true_candles(source: Exchange, exchange: str, symbol: str, from_us: int, to_us: int) -> dict[int, list[Decimal]]:
    words: dict[str, Any] = {"exchange": exchange, "symbol": symbol, "from_us": from_us, "to_us": to_us}
    rows = source.get("truth", kind="candles", **words)["candles"]
    return {row[0]: [Decimal(value) for value in row[1:6]] for row in rows if row[6]}


def stored_candles(daemon: Daemon, exchange: str, symbol: str) -> dict[int, list[Decimal]]:
    return {row[0]: list(row[1:6]) for row in daemon.query(CANDLES, exchange, symbol)}


def assert_all_stored(daemon: Daemon, source: Exchange, exchange: str, symbol: str) -> int:
    """Every trade sent is stored once with exact values, and nothing that never happened; returns how many."""
    sent = sent_trades(source, exchange, symbol)
    stored = stored_trades(daemon, exchange, symbol)
    assert len({row[0] for row in stored}) == len(stored), f"{exchange} {symbol}: a trade is stored twice"
    missing = set(sent) - set(stored)
    assert not missing, f"{exchange} {symbol}: {len(missing)} of {len(sent)} not stored, such as {min(missing)}"
    extra = set(stored) - set(sent)
    if extra:
        times = [row[1] for row in extra]
        extra -= set(true_trades(source, exchange, symbol, min(times), max(times) + 1))
    assert not extra, f"{exchange} {symbol}: {len(extra)} rows that never happened, such as {min(extra)}"
    return len(sent)


def _rows(rows: list[list[Any]]) -> list[Row]:
    return [(str(row[0]), int(row[1]), Decimal(row[2]), Decimal(row[3]), row[4]) for row in rows]
