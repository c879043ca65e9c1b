"""What a child does for other programs, beside its streams: records of its collectors, what the streams lack, views.

All of it bit by bit, once a second, and none of it is needed to collect: what fails is tried again the next time.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from ohlcvd.cache.live import LiveCache
from ohlcvd.cache.records import COLLECTOR_TYPE, RENEW_S, ProcessStatus, Record
from ohlcvd.errors import OhlcvdError
from ohlcvd.log import get_component_logger
from ohlcvd.market import Kind
from ohlcvd.router import StreamRouter
from ohlcvd.worker.catching_up import CatchingUp
from ohlcvd.worker.collecting import Collecting

# Of each second, so that heartbeats keep their rhythm.
CATCH_UP_S: Final = 0.3

# After which a connection that broke is there again.
ONCE_MORE_S: Final = 1.2


class ForOthers:
    """See the module."""

    def __init__(self, child: str, cache: LiveCache, collecting: Collecting) -> None:
        self._cache = cache
        self._collecting = collecting
        self._catching_up = CatchingUp(child, cache, collecting.database)
        self._log = get_component_logger(f"ohlcvd.worker.{child}")
        self._records: dict[str, Record] = {}
        self._renew_at_s = 0.0
        self._connection = 0
        self._viewed: set[int] = set()

    async def step(self) -> bool:
        """About once a second; less often will do when nothing is left to be done, which it returns."""
        router, venue_now_us = self._collecting.router, self._collecting.venue_now_us()
        if router is None or venue_now_us is None:
            return False
        await self._renew(router)
        instruments = list(self._collecting.instruments.values())
        settled = await self._catching_up.step(instruments, venue_now_us, CATCH_UP_S)
        if self._collecting.config.fullon_views:
            await self._make_views()
        return settled

    async def stop(self) -> None:
        """The collectors have ended."""
        stopped = [record._replace(status="stopped", message="stopped") for record in self._records.values()]
        if not await self._cache.renew(stopped) and self._connection:
            await asyncio.sleep(ONCE_MORE_S)  # a busy moment; what is not written ages, and readers see that, too
            await self._cache.renew(stopped)

    async def _renew(self, router: StreamRouter) -> None:
        """Every RENEW_S, for it costs something with many symbols; at once when Redis may have forgotten all."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._renew_at_s and self._connection == self._cache.connections:
            return
        self._connection, self._renew_at_s = self._cache.connections, now_s + RENEW_S - 0.5
        records = {record.component: record for record in self._current(router)}
        gone = [self._records[name] for name in self._records.keys() - records.keys()]
        self._records = records
        stopped = (one._replace(status="stopped", message="removed") for one in gone)
        await self._cache.renew([*records.values(), *stopped])

    def _current(self, router: StreamRouter) -> Iterator[Record]:
        if router.candles is not None:
            for symbol, candles in router.candles.collectors.items():
                yield self._record(symbol, "candles", symbol, candles.is_live, candles.refused, router)
        if router.trades is not None:
            suffix = "" if router.candles is None else ":trades"
            for symbol, trades in router.trades.collectors.items():
                yield self._record(symbol, "trades", symbol + suffix, trades.is_live, trades.refused, router)

    def _record(
        self, symbol: str, kind: Kind, name: str, is_live: bool, refused: str | None, router: StreamRouter
    ) -> Record:
        exchange = self._collecting.exchange.name
        component = f"{exchange}:{name}"
        before = self._records.get(component)
        status: ProcessStatus = "running"
        message = f"collecting {kind}"
        if not is_live:
            status = "starting" if refused is None and (before is None or before.status == "starting") else "error"
            message = refused or router.why_not(symbol) or "no live stream"
        created_at = datetime.now(UTC).isoformat() if before is None else before.created_at
        params = {"exchange": exchange, "symbol": symbol, "kind": kind}
        return Record(COLLECTOR_TYPE, component, status, message, params, created_at)

    async def _make_views(self) -> None:
        for instrument in list(self._collecting.instruments.values()):
            if instrument.id in self._viewed:
                continue
            self._viewed.add(instrument.id)  # once: what stands in the way now will stand there in a second
            try:
                await self._collecting.database.make_views(instrument)
            except OhlcvdError as error:
                self._log.warning(
                    "views for fullon programs cannot be made, the rest goes on",
                    symbol=instrument.symbol,
                    reason=str(error),
                )
