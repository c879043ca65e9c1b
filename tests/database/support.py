"""What the database tests share: rows to store, a writer that runs, and a look at what is stored."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import psycopg

from ohlcvd.database import Batch, Database, Quarantine, Spool, Writer
from ohlcvd.market import MINUTE_US, Candle, Instrument, Side, Trade

# 2026-03-01 12:00 UTC
NOON_US = 1_772_366_400_000_000


def trade(number: int, *, ts_us: int | None = None, price: str = "100.10", side: Side = "buy") -> Trade:
    """The trade with this id; 10 ms apart from its neighbours."""
    return Trade(
        NOON_US + number * 10_000 if ts_us is None else ts_us, str(number), price, f"0.{number % 997 + 1:04d}", side
    )


def trades(numbers: Iterable[int]) -> list[Trade]:
    return [trade(number) for number in numbers]


def candle(minute: int = 0, close: str = "101", **changes: Any) -> Candle:
    base = Candle(NOON_US + minute * MINUTE_US, "100", "110", "90", close, "12.5", 7, "venue")
    return base._replace(**changes)


@asynccontextmanager
async def writing(
    database: Database,
    on_commit: Callable[[Batch], None] | None = None,
    *,
    careful: bool = False,
    spool: Spool | None = None,
    quarantine: Quarantine | None = None,
) -> AsyncIterator[Writer]:
    """A writer whose `run` is running; an error of it fails the test."""
    writer = Writer(database, on_commit=on_commit, careful=careful, spool=spool, quarantine=quarantine)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(outcome, asyncio.CancelledError), outcome


async def until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Wait for it; a TimeoutError if it never comes."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def query(conninfo: str, text: str, parameters: Iterable[object] = ()) -> list[tuple[Any, ...]]:
    """One statement on a connection of its own; rows if it has any."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(text.encode(), list(parameters))
        return cursor.fetchall() if cursor.description else []


def stored_ids(conninfo: str, instrument: Instrument) -> list[int]:
    """Every stored id of a market, doubles included, sorted."""
    rows = query(conninfo, "SELECT trade_id FROM ohlcvd.trades WHERE instrument_id = %s ORDER BY 1", [instrument.id])
    return [row[0] for row in rows]


def made_of(minutes: Iterable[Candle], length_us: int, origin_us: int = 0) -> list[tuple[Any, ...]]:
    """Candles of this length made of minutes the plain way: time, open, high, low, close, volume, trades."""
    groups: dict[int, list[Candle]] = {}
    for one in sorted(minutes):
        groups.setdefault((one.ts_us - origin_us) // length_us * length_us + origin_us, []).append(one)
    return [
        (
            ts_us,
            Decimal(group[0].open),
            max(Decimal(one.high) for one in group),
            min(Decimal(one.low) for one in group),
            Decimal(group[-1].close),
            sum(Decimal(one.volume) for one in group),
            None if any(one.trades is None for one in group) else sum(one.trades or 0 for one in group),
        )
        for ts_us, group in sorted(groups.items())
    ]
