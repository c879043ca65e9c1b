"""Finds the database of a configuration, asks it one thing, and lets go of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ohlcvd import daemon
from ohlcvd.config import Config, dsn
from ohlcvd.database import Database
from ohlcvd.database.conninfo import embedded
from ohlcvd.database.inventory import check_readable
from ohlcvd.errors import ServiceUnavailable, UsageError
from ohlcvd.market import Instrument
from ohlcvd.nearest import did_you_mean

Answer = TypeVar("Answer")


def ask_database(config: Config, question: Callable[[Database], Awaitable[Answer]]) -> Answer:
    """What `question` answers. ServiceUnavailable when the database cannot be reached or has nothing of ohlcvd's."""
    address = address_of(config)

    async def ask() -> Answer:
        await check_readable(address)
        async with Database(address, application_name="ohlcvd report", size=2) as database:
            return await question(database)

    return asyncio.run(ask())


def address_of(config: Config) -> str:
    """Where the database is. ServiceUnavailable when it is an embedded one that does not run."""
    if config.postgres_dsn != dsn.EMBEDDED:
        return config.postgres_dsn
    report = daemon.status(config)
    if "postgres" in report.addresses:
        return report.addresses["postgres"]
    if report.state == "unknown":  # the supervisor does not answer; its servers may
        return embedded(config.state_dir)
    raise ServiceUnavailable(
        f"the embedded PostgreSQL is not there: ohlcvd is {report.state} (in {config.run_dir}); start it, or give a dsn"
    )


def check_market(markets: Sequence[Instrument], exchange: str | None, symbol: str | None) -> None:
    """UsageError with the nearest names if the database has no such exchange, or no such market of it."""
    exchanges = sorted({market.exchange for market in markets})
    if exchange is not None and exchange not in exchanges:
        known = f"; there is {' and '.join(exchanges)}" if exchanges else ""
        hint = did_you_mean(exchange, exchanges) or known
        raise UsageError(f'nothing of an exchange "{exchange}" is in the database{hint}')
    symbols = [market.symbol for market in markets if market.exchange == exchange]
    if symbol is not None and symbol not in symbols:
        raise UsageError(f'no market "{symbol}" of {exchange} is in the database{did_you_mean(symbol, symbols)}')
