"""What the streams in Redis lack of the last hour: appended at start, and whenever Redis comes back.

A process that is killed between a commit and its publication, or a Redis that is away for a while, would otherwise
leave a hole that no consumer can see. Rows that are published twice by this are harmless: consumers key on them.
"""

import asyncio
from collections.abc import Iterable

from ohlcvd.cache.live import LiveCache, Published
from ohlcvd.database import Batch, Database, recent_candles, recent_trades
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.log import get_component_logger
from ohlcvd.market import SECOND_US, Candle, Instrument, Trade

HOUR_US = 3_600 * SECOND_US
# Of one market; a stream holds fewer entries than this has rows.
MOST_ROWS = 200_000


class CatchingUp:
    """Market by market, within a given time, so that whoever calls it can go on."""

    def __init__(self, child: str, cache: LiveCache, database: Database) -> None:
        self._cache = cache
        self._database = database
        self._log = get_component_logger(f"ohlcvd.worker.{child}")
        self._connection = 0
        self._done: set[int] = set()  # instruments' ids

    async def step(self, instruments: Iterable[Instrument], venue_now_us: int, seconds: float) -> None:
        """Go on with the markets that were not compared since Redis was last found there."""
        if self._connection != self._cache.connections:
            self._connection = self._cache.connections
            self._done.clear()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + seconds
        for instrument in [one for one in instruments if one.id not in self._done]:
            if not self._cache.is_up or loop.time() > until_s:
                return
            try:
                if not await self._compare(instrument, venue_now_us - HOUR_US):
                    return
            except ServiceUnavailable as error:
                self._log.debug("the last hour could not be compared with redis yet", reason=str(error))
                return
            except (ValueError, TypeError) as error:
                symbol, reason = instrument.symbol, str(error)
                self._log.warning("a stream in redis holds something else, left as it is", symbol=symbol, reason=reason)
            self._done.add(instrument.id)

    async def _compare(self, instrument: Instrument, since_us: int) -> bool:
        """Whether Redis answered."""
        candles = await self._cache.published_candles(instrument.symbol, since_us)
        trades = await self._cache.published_trades(instrument.symbol, since_us)
        if candles is None or trades is None:
            return False
        market = self._database, instrument.exchange, instrument.symbol
        lacking = Batch(
            {
                instrument: lacking_trades(
                    trades, await recent_trades(*market, since_us=trades.since_us, limit=MOST_ROWS)
                )
            },
            {
                instrument: lacking_candles(
                    candles, await recent_candles(*market, since_us=candles.since_us, limit=MOST_ROWS)
                )
            },
        )
        await self._cache.publish(lacking)
        rows = len(lacking.trades[instrument]) + len(lacking.candles[instrument])
        if rows:
            self._log.info("rows of the last hour were missing in redis, appended", symbol=instrument.symbol, rows=rows)
        return True


def lacking_candles(published: Published[Candle], stored: Iterable[Candle]) -> list[Candle]:
    """Those that the stream does not have, or has only as they were before a correction."""
    newest: dict[int, Candle] = {}
    for candle in published.rows:
        newest.setdefault(candle.ts_us, candle)
    return [candle for candle in stored if newest.get(candle.ts_us) != candle]


def lacking_trades(published: Published[Trade], stored: Iterable[Trade]) -> list[Trade]:
    """Those that the stream does not have."""
    known = {trade.id for trade in published.rows}
    return [trade for trade in stored if trade.id not in known]
