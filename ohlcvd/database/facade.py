"""The database for a script: a few lines instead of a pool, a writer and instruments.

    async with OHLCVDatabase(exchange="kraken", symbol="BTC/USD") as db:
        await db.store_candles(candles)
        candles = await db.get_recent_candles("BTC/USD", limit=100)

Storing is one transaction, done when the call returns, and safe beside a running daemon; it claims no coverage.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, overload

from ohlcvd.config import Config
from ohlcvd.database import conninfo as connection_strings
from ohlcvd.database.batch import Ordinals, Pending
from ohlcvd.database.bulk import Selection, read_pieces
from ohlcvd.database.errors import first_line
from ohlcvd.database.migrate import migrate
from ohlcvd.database.pool import Database
from ohlcvd.database.readers import FAR_FUTURE_US, candles_in, checked_timeframe, recent_candles, recent_trades
from ohlcvd.database.store import REFUSALS, Storing, Work
from ohlcvd.database.symbols import SymbolRepository
from ohlcvd.errors import UsageError
from ohlcvd.market import MINUTE_US, Candle, Instrument, Kind, Trade, candle_fault, trade_fault
from ohlcvd.report.times import moment_us

# A time: aware, or as people write it ("2h", "yesterday", "2026-01-31"; in UTC), or microseconds since 1970.
Moment = datetime | str | int


class OHLCVDatabase:
    """`exchange` and `symbol` are what calls mean that do not name their own.

    `conninfo` is what libpq understands; without one, the configuration's database is used. ServiceUnavailable when it
    cannot be reached, ValueError for rows that break the rules.
    """

    def __init__(self, exchange: str | None = None, symbol: str | None = None, *, conninfo: str | None = None) -> None:
        self._exchange = exchange
        self._symbol = symbol
        self._database = Database(conninfo or configured(Config()), application_name="ohlcvd script", size=2)
        self._storing = Storing()

    async def __aenter__(self) -> Self:
        await migrate(self._database.conninfo)
        await self._database.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.close()

    async def store_candles(
        self, candles: Sequence[Candle], symbol: str | None = None, *, exchange: str | None = None
    ) -> int:
        """Store one-minute candles that are over; returns how many were new or changed.

        A minute that is not over yet is left out, and so is one without volume: it had no trade.
        """
        now_us = time.time_ns() // 1_000
        instrument = await self._instrument(exchange, symbol)
        pending = Pending()
        for candle in candles:
            if fault := candle_fault(candle, now_us):
                raise ValueError(f"candle of {instrument.symbol} at {candle.ts_us} us: {fault}")
            if candle.ts_us + MINUTE_US <= now_us and candle.volume.strip("0.") != "":
                pending.add_candle(instrument, candle)
        work = Work(candles=[(i.id, own) for i, own in pending.candles])
        return (await self._store(work))[0]

    async def store_trades(
        self, trades: Sequence[Trade], symbol: str | None = None, *, exchange: str | None = None
    ) -> int:
        """Store trades, in the venue's order; returns how many were new."""
        now_us = time.time_ns() // 1_000
        instrument = await self._instrument(exchange, symbol)
        for trade in trades:
            if fault := trade_fault(trade, now_us):
                raise ValueError(f"trade {trade.id} of {instrument.symbol}: {fault}")
        pending = Pending()
        pending.add_trades(instrument, trades, Ordinals())
        return (await self._store(Work(rows=pending.rows)))[1]

    async def get_recent_candles(
        self,
        symbol: str | None = None,
        limit: int = 100,
        *,
        exchange: str | None = None,
        timeframe: str = "1m",
        since_us: int | None = None,
    ) -> list[Candle]:
        """The newest `limit` candles (or the first ones since `since_us`), oldest first."""
        market = self._market(exchange, symbol)
        if timeframe == "1m":
            return await recent_candles(self._database, *market, since_us=since_us, limit=limit)
        candles = await candles_in(self._database, *market, timeframe, since_us=since_us or 0)
        return candles[:limit] if since_us is not None else candles[-limit:]

    async def get_candles(
        self,
        symbol: str | None = None,
        timeframe: str = "1m",
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        exchange: str | None = None,
    ) -> list[Candle]:
        """Every candle that opens in [since, until), oldest first. `timeframe` is 1m, 15m, 4h, 1d, 1w or another."""
        market = self._market(exchange, symbol)
        since_us, until_us = _us(since, 0), _us(until, FAR_FUTURE_US)
        return await candles_in(self._database, *market, timeframe, since_us=since_us, until_us=until_us)

    async def get_trades(
        self, symbol: str | None = None, limit: int = 1_000, *, exchange: str | None = None, since_us: int | None = None
    ) -> list[Trade]:
        """The newest `limit` trades (or the first ones since `since_us`), oldest first."""
        market = self._market(exchange, symbol)
        return await recent_trades(self._database, *market, since_us=since_us, limit=limit)

    async def get_frame(
        self,
        symbol: str | None = None,
        timeframe: str = "1m",
        *,
        kind: Kind = "candles",
        since: Moment | None = None,
        until: Moment | None = None,
        exchange: str | None = None,
        exact: bool = False,
    ) -> Any:
        """Candles or trades of [since, until) as a pandas DataFrame indexed by time (UTC); UsageError without pandas.

        Prices and amounts are floats, or Decimals if `exact`. The quickest way to very many rows.
        """
        from ohlcvd.reading.arrow import frame_of  # with it comes pandas

        market = self._market(exchange, symbol)
        checked_timeframe(timeframe)
        selection = Selection(*market, kind, timeframe, _us(since, None), _us(until, None))
        conninfo = self._database.conninfo
        return await asyncio.to_thread(
            lambda: frame_of(selection.columns, read_pieces(conninfo, selection), exact=exact)
        )

    @property
    def symbols(self) -> SymbolRepository:
        """The symbols that were added to and removed from the configured ones; changes reach a running daemon."""
        return SymbolRepository(self._database)

    def _market(self, exchange: str | None, symbol: str | None) -> tuple[str, str]:
        exchange, symbol = exchange or self._exchange, symbol or self._symbol
        if exchange is None or symbol is None:
            raise UsageError("name an exchange and a symbol, here or when opening the database")
        return exchange, symbol

    async def _instrument(self, exchange: str | None, symbol: str | None) -> Instrument:
        exchange, symbol = self._market(exchange, symbol)
        return (await self._database.instruments(exchange, [symbol]))[symbol]

    async def _store(self, work: Work) -> tuple[int, int]:
        async with self._database.connection("storing rows") as connection:
            try:
                stored = await self._storing.store(connection, work, careful=True)
            except REFUSALS as error:
                raise ValueError(f"PostgreSQL refuses a row: {first_line(error)}") from error
        return stored.candles, stored.trades


@overload
def _us(moment: Moment | None, default: int) -> int: ...
@overload
def _us(moment: Moment | None, default: None) -> int | None: ...
def _us(moment: Moment | None, default: int | None) -> int | None:
    if moment is None:
        return default
    if isinstance(moment, str):
        return moment_us(moment, time.time_ns() // 1_000)
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no timezone: give it one, such as datetime.UTC")
        return round(moment.timestamp() * 1_000_000)
    return moment


def configured(config: Config) -> str:
    """The conninfo of a configuration's database. ServiceUnavailable when it is an embedded one that does not run."""
    return connection_strings.embedded(config.state_dir) if config.postgres_dsn == "embedded" else config.postgres_dsn
