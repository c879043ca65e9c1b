"""The instruments of the markets that a spool speaks of by name."""

import asyncio
from collections.abc import Collection
from typing import Final

from ohlcvd.database.pool import Database
from ohlcvd.database.spool.frames import Market
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.log import get_component_logger
from ohlcvd.market import Instrument

_PAUSE_S: Final = 0.5

log = get_component_logger("ohlcvd.database.writer")


async def look_up(database: Database, markets: Collection[Market], known: dict[Market, Instrument]) -> None:
    """Add those that are not known to `known`; waits for the database, for ever."""
    unknown = set(markets) - known.keys()
    while unknown:
        try:
            for exchange in {exchange for exchange, _ in unknown}:
                symbols = sorted(symbol for of, symbol in unknown if of == exchange)
                found = await database.instruments(exchange, symbols)
                known.update(((exchange, symbol), one) for symbol, one in found.items())
            return
        except ServiceUnavailable as error:
            log.debug("markets of the spool cannot be looked up yet", reason=str(error))
            await asyncio.sleep(_PAUSE_S)
