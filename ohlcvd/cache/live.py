"""What one child writes to Redis: its heartbeat, its markets, forming candles, and what its writer has committed.

Every call returns within 250 ms, whatever Redis does, and never raises; while Redis is away it returns at once and what
should have been published is counted and dropped. `keys.py` says what is written.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from ohlcvd.cache import keys, records
from ohlcvd.cache.link import Link
from ohlcvd.cache.wire import Refusal
from ohlcvd.market import Candle, Kind, Trade

_COMMANDS_AT_ONCE: Final = 500
_ENTRIES_AT_ONCE: Final = 100

Row = TypeVar("Row", Trade, Candle)


@dataclass(frozen=True, slots=True)
class Published(Generic[Row]):
    """Rows of a stream, the newest entries first; it should hold everything from `since_us` on."""

    rows: list[Row]
    since_us: int


class LiveCache:
    """One per child, used from its one event loop. `child` is "kraken" or, with shards, "binance/2"."""

    def __init__(self, url: str, child: str, *, fullon_keys: bool = False) -> None:
        """`fullon_keys`: write the lists of `records.py`, too."""
        self.child = child
        self._fullon_keys = fullon_keys
        self.exchange = keys.exchange_of(child)
        self._link = Link(url)
        self._newest_us = 0

    @property
    def is_up(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._link.is_up

    @property
    def away_s(self) -> float:
        """For how long Redis has been away; 0 while it is there."""
        return self._link.away_s

    @property
    def fault(self) -> str | None:
        """Why Redis cannot be used, or None."""
        return self._link.fault

    @property
    def connections(self) -> int:
        """How many times Redis was found there; each time it may have lost what was published before."""
        return self._link.connections

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

    async def heartbeat(
        self,
        document: Mapping[str, object],
        forming: Mapping[str, Candle] | None = None,
        markets: Mapping[str, object] | None = None,
    ) -> None:
        """All that is told with a beat, in one round trip: the beat; the candles of the running minute, by symbol
        (those that did not change need not be sent again); and {symbol: {...}}, the state of each market."""
        commands = [keys.set_json(keys.HEARTBEAT + self.child, document, keys.HEARTBEAT_S)]
        for symbol, candle in (forming or {}).items():
            commands.append(keys.set_json(keys.forming_key(self.exchange, symbol), candle._asdict(), keys.FORMING_S))
        if markets is not None:
            commands.append(keys.set_json(keys.MARKETS + self.child, markets, keys.MARKETS_S))
        for start in range(0, len(commands), _COMMANDS_AT_ONCE):
            await self._link.request(commands[start : start + _COMMANDS_AT_ONCE])

    async def publish(self, publication: keys.Publication) -> None:
        """Appends committed rows to the streams. Calls are published in the order in which they are made."""
        self.reached(publication)
        entries = list(keys.stream_entries(publication, self._newest_us))
        lists = records.list_commands(publication) if self._fullon_keys else []
        await self._link.request(entries + lists, entries=len(entries))

    def reached(self, publication: keys.Publication) -> None:
        """Time has gone on to what this speaks of: what is older than the streams reach is not published."""
        self._newest_us = max(self._newest_us, keys.newest_us(publication))

    async def renew(self, processes: Iterable[records.Record]) -> bool:
        """The records of this child's collectors, with a fresh heartbeat. Whether Redis took them."""
        commands = records.record_commands(processes, datetime.now(UTC))
        for start in range(0, len(commands), _COMMANDS_AT_ONCE):
            if await self._link.request(commands[start : start + _COMMANDS_AT_ONCE]) is None:
                return False
        return True

    async def published_candles(self, symbol: str, since_us: int) -> Published[Candle] | None:
        """What the stream of candles holds since then; None when Redis does not tell."""
        return await self._published("candles", symbol, since_us, keys.parse_candles)

    async def published_trades(self, symbol: str, since_us: int) -> Published[Trade] | None:
        """The same of trades."""
        return await self._published("trades", symbol, since_us, keys.parse_trades)

    async def _published(
        self, kind: Kind, symbol: str, since_us: int, parse: Callable[[bytes], list[Row]]
    ) -> Published[Row] | None:
        key, entries, upper = keys.stream_key(kind, self.exchange, symbol), 0, b"+"
        rows: list[Row] = []
        while True:
            replies = await self._link.request([("XREVRANGE", key, upper, "-", "COUNT", _ENTRIES_AT_ONCE)])
            if replies is None or isinstance(replies[0], Refusal):
                return None
            for _, fields in replies[0]:
                rows += parse(dict(zip(fields[::2], fields[1::2], strict=True)).get(b"rows", b""))
            entries += len(replies[0])
            oldest_us = min((row.ts_us for row in rows), default=since_us)
            if len(replies[0]) < _ENTRIES_AT_ONCE:
                # A stream that is full has lost its oldest entries: those are not lacking.
                return Published(rows, max(since_us, oldest_us) if entries >= keys.CAPS[kind] else since_us)
            if oldest_us < since_us:
                return Published(rows, since_us)
            upper = b"(" + replies[0][-1][0]
