"""What the streams in Redis lack of the last hour, and of candles of the last day: appended at start,
whenever Redis comes back, and when it was too busy to take something.

A process that is killed between a commit and its publication, or a Redis that is away for a while, would otherwise
leave a hole that no consumer can see. Rows that are published twice by this are harmless: consumers key on them.
The last hour of every market comes first. Older trades are not published at all (`cache/keys.py`).
"""

import asyncio
from collections.abc import Collection, Iterable

from ohlcvd.cache.keys import CANDLE_WINDOW_US, TRADE_WINDOW_US
from ohlcvd.cache.live import LiveCache, Published
from ohlcvd.database import Batch, Database, newest, recent_candles, recent_trades
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Instrument, Trade

# The second pass speaks of candles only, and costs more: a slow start is not made slower by it.
WINDOWS_US = (TRADE_WINDOW_US, CANDLE_WINDOW_US)
# Of one market; a stream holds fewer entries than this has rows.
MOST_ROWS = 200_000
# What a busy Redis did not take is looked for so often at most: one that refuses everything would be asked for ever.
AGAIN_S = 60.0


class CatchingUp:
    """Market by market, within a given time, so that whoever calls it can go on."""

    def __init__(self, child: str, cache: LiveCache, database: Database) -> None:
        self._cache = cache
        self._database = database
        self._log = get_component_logger(f"ohlcvd.worker.{child}")
        self._connection = 0
        self._dropped = 0
        self._again_at_s = 0.0
        self._appended: dict[str, int] = {}  # rows by symbol, not told yet
        self._done: set[tuple[int, int]] = set()  # windows and instruments' ids
        self._complete: Collection[Instrument] | None = None  # all of these are

    async def step(self, instruments: Collection[Instrument], venue_now_us: int, seconds: float) -> bool:
        """Go on with the markets that were not compared since Redis was last found there, or did not take something;
        whether all are by now."""
        loop = asyncio.get_running_loop()
        if self._may_lack_more(loop.time()):
            self._connection, self._dropped = self._cache.connections, self._cache.dropped
            self._again_at_s = loop.time() + AGAIN_S
            self._done.clear()
            self._complete = None
        if instruments == self._complete:
            return True
        if not self._done and self._cache.is_up:
            self._done |= await self._without_rows(instruments, venue_now_us)
        until_s = loop.time() + seconds
        passes = [(window_us, instrument) for window_us in WINDOWS_US for instrument in instruments]
        for window_us, instrument in passes:
            if (window_us, instrument.id) in self._done:
                continue
            if not self._cache.is_up or loop.time() > until_s:
                return False
            try:
                if not await self._compare(instrument, venue_now_us, window_us):
                    return False
            except ServiceUnavailable as error:
                self._log.debug("the last hour could not be compared with redis yet", reason=str(error))
                return False
            except (ValueError, TypeError) as error:
                symbol, reason = instrument.symbol, str(error)
                self._log.warning("a stream in redis holds something else, left as it is", symbol=symbol, reason=reason)
            self._done.add((window_us, instrument.id))
        self._complete = instruments
        if self._appended:
            rows, symbols = sum(self._appended.values()), len(self._appended)
            self._log.recovered("rows that redis lacked are appended to its streams", rows=rows, symbols=symbols)
            self._appended.clear()
        return True

    def _may_lack_more(self, now_s: float) -> bool:
        if self._connection != self._cache.connections:
            return True
        return self._dropped != self._cache.dropped and now_s >= self._again_at_s

    async def _without_rows(self, instruments: Collection[Instrument], venue_now_us: int) -> set[tuple[int, int]]:
        """Those of which nothing is stored: there is nothing to compare, and at a first start that is all of them."""
        stored: set[str] = set()
        for exchange in {instrument.exchange for instrument in instruments}:
            try:
                rows = await newest(self._database, exchange, since_us=venue_now_us - TRADE_WINDOW_US)
            except ServiceUnavailable:
                return set()
            oldest_us = venue_now_us - CANDLE_WINDOW_US
            stored |= {one.symbol for one in rows if one.trade_us is not None or (one.candle_us or 0) >= oldest_us}
        empty = [instrument.id for instrument in instruments if instrument.symbol not in stored]
        return {(window_us, instrument_id) for window_us in WINDOWS_US for instrument_id in empty}

    async def _compare(self, instrument: Instrument, venue_now_us: int, window_us: int) -> bool:
        """Whether Redis answered."""
        market, since_us = (self._database, instrument.exchange, instrument.symbol), venue_now_us - window_us
        candles = await self._cache.published_candles(instrument.symbol, since_us)
        if candles is None:
            return False
        stored = await recent_candles(*market, since_us=candles.since_us, limit=MOST_ROWS)
        lacking = Batch({instrument: []}, {instrument: lacking_candles(candles, stored)})
        if window_us <= TRADE_WINDOW_US:
            trades = await self._cache.published_trades(instrument.symbol, since_us)
            if trades is None:
                return False
            executed = await recent_trades(*market, since_us=trades.since_us, limit=MOST_ROWS)
            lacking = Batch({instrument: lacking_trades(trades, executed)}, lacking.candles)
        await self._cache.publish(lacking)
        rows = len(lacking.trades[instrument]) + len(lacking.candles[instrument])
        if rows:
            self._appended[instrument.symbol] = self._appended.get(instrument.symbol, 0) + rows
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
