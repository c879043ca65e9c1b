"""Reading back, in the digits that were stored.

Order among trades of one time is the venue's: by id where ids are numbers, else by the ordinal they were stored with.
Everything is given oldest first. ServiceUnavailable when the database cannot be reached.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, NamedTuple, TypeVar
from uuid import uuid4

from ohlcvd.database.bulk import Selection, read_minutes
from ohlcvd.database.encode import moment
from ohlcvd.database.errors import translated
from ohlcvd.database.pool import Database
from ohlcvd.market import MINUTE_US, Candle, Trade
from ohlcvd.memory import many_objects

T = TypeVar("T")

_PAGE_ROWS: Final = 2_000
# So many minutes are worth a connection of their own.
_MANY_MINUTES: Final = 20_000
_FAR_PAST_US: Final = 0
FAR_FUTURE_US: Final = 250_000_000_000_000_000  # the year 9892; infinity has no microseconds

_TS_US: Final = "(extract(epoch FROM ts) * 1000000)::bigint"
_MARKET: Final = """ts >= %(since)s AND ts < %(until)s AND instrument_id =
    (SELECT id FROM ohlcvd.instruments WHERE exchange = %(exchange)s AND symbol = %(symbol)s)"""
_TRADE: Final = f"""SELECT {_TS_US}, coalesce(venue_id, trade_id::text), price::text, amount::text,
    CASE side WHEN 'b' THEN 'buy' ELSE 'sell' END FROM ohlcvd.trades WHERE {_MARKET}"""
_TRADES: Final = f"{_TRADE} ORDER BY ts, ordinal, trade_id"
_RECENT_TRADES: Final = f"{_TRADE} ORDER BY ts DESC, ordinal DESC, trade_id DESC LIMIT %(limit)s"
# Exact for whole seconds, and a tenth of the time of numeric
_MINUTE_US: Final = "date_part('epoch', ts)::bigint * 1000000"
_CANDLE: Final = f"""SELECT {_MINUTE_US}, open::text, high::text, low::text, close::text, volume::text, trades,
    CASE source WHEN 'v' THEN 'venue' ELSE 'trades' END FROM ohlcvd.candles_1m WHERE {_MARKET}"""
_CANDLES: Final = f"{_CANDLE} ORDER BY ts"
_RECENT_CANDLES: Final = f"{_CANDLE} ORDER BY ts DESC LIMIT %(limit)s"
_TIMEFRAME: Final = f"""SELECT {_MINUTE_US}, open::text, high::text, low::text, close::text, volume::text, trades,
    'venue'
    FROM ohlcvd.ohlcv(%(exchange)s, %(symbol)s, %(timeframe)s, %(since)s, %(until)s)"""
_NEWEST: Final = """SELECT i.symbol,
    (SELECT (extract(epoch FROM max(ts)) * 1000000)::bigint FROM ohlcvd.trades t
      WHERE t.instrument_id = i.id AND t.ts >= %(since)s),
    (SELECT (extract(epoch FROM max(ts)) * 1000000)::bigint FROM ohlcvd.candles_1m c WHERE c.instrument_id = i.id)
    FROM ohlcvd.instruments i WHERE i.exchange = %(exchange)s ORDER BY i.symbol"""


class Newest(NamedTuple):
    """The newest stored trade and candle of one market, None where there is none."""

    symbol: str
    trade_us: int | None
    candle_us: int | None


def trades_of(
    database: Database, exchange: str, symbol: str, *, since_us: int = _FAR_PAST_US, until_us: int = FAR_FUTURE_US
) -> AsyncGenerator[Trade, None]:
    """Every stored trade with since <= ts < until, page by page from one snapshot."""
    return _pages(database, _TRADES, _parameters(exchange, symbol, since_us, until_us), Trade._make)


def candles_of(
    database: Database, exchange: str, symbol: str, *, since_us: int = _FAR_PAST_US, until_us: int = FAR_FUTURE_US
) -> AsyncGenerator[Candle, None]:
    """Every stored one-minute candle whose open time is in [since, until), from one snapshot."""
    return _pages(database, _CANDLES, _parameters(exchange, symbol, since_us, until_us), Candle._make)


async def recent_trades(
    database: Database, exchange: str, symbol: str, *, since_us: int | None = None, limit: int = 1_000
) -> list[Trade]:
    """The newest `limit` trades, or the first `limit` since `since_us`; oldest first."""
    return await _some(database, (_TRADES, _RECENT_TRADES), exchange, symbol, since_us, limit, Trade._make)


async def recent_candles(
    database: Database, exchange: str, symbol: str, *, since_us: int | None = None, limit: int = 500
) -> list[Candle]:
    """The newest `limit` one-minute candles, or the first `limit` since `since_us`; oldest first."""
    return await _some(database, (_CANDLES, _RECENT_CANDLES), exchange, symbol, since_us, limit, Candle._make)


async def candles_in(
    database: Database,
    exchange: str,
    symbol: str,
    timeframe: str,
    *,
    since_us: int = _FAR_PAST_US,
    until_us: int = FAR_FUTURE_US,
) -> list[Candle]:
    """Candles of any timeframe (15m, 4h, 1w), made of the stored minutes. ValueError for a timeframe that is none."""
    checked_timeframe(timeframe)
    if timeframe == "1m" and until_us - since_us > _MANY_MINUTES * MINUTE_US:
        selection = Selection(exchange, symbol, "candles", since_us=since_us, until_us=until_us)
        return await asyncio.to_thread(read_minutes, database.conninfo, selection)
    parameters = _parameters(exchange, symbol, since_us, until_us) | {"timeframe": timeframe}
    async with database.connection("reading candles") as connection:
        query = _CANDLES if timeframe == "1m" else _TIMEFRAME
        cursor = await connection.execute(query.encode(), parameters)
        with many_objects():
            return [Candle._make(row) for row in await cursor.fetchall()]


def checked_timeframe(timeframe: str) -> None:
    """ValueError for a timeframe that is none."""
    if not re.fullmatch(r"[1-9][0-9]{0,3}[mhdw]", timeframe, re.ASCII):
        raise ValueError(f"timeframe is {timeframe!r}, expected a number and m (minutes), h, d or w, such as 15m")


async def newest(database: Database, exchange: str, *, since_us: int = _FAR_PAST_US) -> list[Newest]:
    """Of each market of an exchange. Trades are looked for since `since_us` only: that is what makes it quick."""
    async with database.connection("reading the newest rows") as connection:
        cursor = await connection.execute(_NEWEST.encode(), {"exchange": exchange, "since": moment(since_us)})
        return [Newest(*row) for row in await cursor.fetchall()]


async def _pages(
    database: Database, query: str, parameters: dict[str, object], make: Callable[[tuple[Any, ...]], T]
) -> AsyncGenerator[T, None]:
    # A connection of its own: the reader may be slow, or stop in the middle.
    with translated("reading rows"):
        connection = await database.connect()
        try:
            async with connection.transaction(), connection.cursor(f"ohlcvd_{uuid4().hex}") as cursor:
                cursor.itersize = _PAGE_ROWS
                await cursor.execute(query.encode(), parameters)
                async for row in cursor:
                    yield make(row)
        finally:
            await connection.close()


async def _some(
    database: Database, queries: tuple[str, str], exchange: str, symbol: str, since_us: int | None, limit: int,
    make: Callable[[tuple[Any, ...]], T],
) -> list[T]:  # fmt: skip
    forward, backward = queries
    parameters = _parameters(exchange, symbol, since_us or _FAR_PAST_US, FAR_FUTURE_US) | {"limit": limit}
    query = backward if since_us is None else f"{forward} LIMIT %(limit)s"
    async with database.connection("reading rows") as connection:
        cursor = await connection.execute(query.encode(), parameters)
        with many_objects():
            rows = [make(row) for row in await cursor.fetchall()]
    return rows if since_us is not None else rows[::-1]


def _parameters(exchange: str, symbol: str, since_us: int, until_us: int) -> dict[str, object]:
    return {"exchange": exchange, "symbol": symbol, "since": moment(since_us), "until": moment(until_us)}
