"""What one child writes to Redis: its heartbeat, its markets, forming candles, and what its writer has committed.

Every call returns within 250 ms, whatever Redis does, and never raises; while Redis is away it returns at once and what
should have been published is counted and dropped. `keys.py` says what is written.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ohlcvd.cache import keys
from ohlcvd.cache.link import Link
from ohlcvd.market import Candle


class LiveCache:
    """One per child, used from its one event loop. `child` is "kraken" or, with shards, "binance/2"."""

    def __init__(self, url: str, child: str) -> None:
        self.child = child
        self.exchange = keys.exchange_of(child)
        self._link = Link(url)
        self._newest_us = 0

    @property
    def is_up(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._link.is_up

    @property
    def fault(self) -> str | None:
        """Why Redis cannot be used, or None."""
        return self._link.fault

    @property
    def dropped(self) -> int:
        """Stream entries that could not be published, since the start."""
        return self._link.dropped

    async def open(self) -> None:
        await self._link.open()

    async def close(self) -> None:
        await self._link.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def heartbeat(self, document: Mapping[str, object]) -> None:
        await self._link.request([keys.set_json(keys.HEARTBEAT + self.child, dict(document), keys.HEARTBEAT_S)])

    async def markets(self, document: Mapping[str, object]) -> None:
        """{symbol: {...}}: the state of each market of this child."""
        await self._link.request([keys.set_json(keys.MARKETS + self.child, dict(document), keys.MARKETS_S)])

    async def forming(self, candles: Mapping[str, Candle]) -> None:
        """The candles of the running minute, by symbol; those that did not change need not be sent again."""
        await self._link.request(
            [
                keys.set_json(keys.forming_key(self.exchange, symbol), candle._asdict(), keys.FORMING_S)
                for symbol, candle in candles.items()
            ]
        )

    async def publish(self, publication: keys.Publication) -> None:
        """Appends committed rows to the streams. Calls are published in the order in which they are made."""
        self._newest_us = max(self._newest_us, keys.newest_us(publication))
        entries = list(keys.stream_entries(publication, self._newest_us))
        await self._link.request(entries, entries=len(entries))
