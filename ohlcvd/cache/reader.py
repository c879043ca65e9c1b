"""Reads back what children wrote to Redis: for `status`, `demo`, and programs that want to look.

Everything raises ServiceUnavailable when Redis cannot be used or holds something else under one of our names.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, Generic, NamedTuple, TypeVar

from ohlcvd.cache import keys
from ohlcvd.cache.client import Client
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.market import Candle, Kind, Trade

T = TypeVar("T")

# Shorter than a request may take.
FOLLOW_MS: Final = 1_000
RETRY_S: Final = 1.0


class Entry(NamedTuple, Generic[T]):
    """What one commit brought of one market. `id` is where to go on after it."""

    id: str
    rows: list[T]


class CacheReader(Client):
    """What ohlcvd wrote, and what it writes from now on.

        async with CacheReader() as reader:  # of the configured Redis; or CacheReader("redis://localhost:6379/0")
            beats = await reader.heartbeats()
            newest = await reader.candles("kraken", "BTC/USD", entries=10)

    Rows come in the digits that are stored. ServiceUnavailable says why Redis cannot be used.
    """

    async def heartbeats(self) -> dict[str, dict[str, object]]:
        """The heartbeat of every child that beat within the last 10 s, by child."""
        return await self._documents(keys.HEARTBEAT, keys.parse_object)

    async def markets(self) -> dict[str, dict[str, object]]:
        """The markets' states as every live child reported them: {child: {symbol: {...}}}."""
        return await self._documents(keys.MARKETS, keys.parse_object)

    async def forming(self) -> dict[tuple[str, str], Candle]:
        """The candles of the running minute, by (exchange, symbol)."""
        found = await self._documents(keys.FORMING, keys.parse_forming)
        return {_market(name): candle for name, candle in found.items()}

    async def trades(self, exchange: str, symbol: str, entries: int = 100) -> list[Trade]:
        """The trades of the last `entries` commits of a market, in the order of the commits."""
        return await self._rows("trades", exchange, symbol, entries, keys.parse_trades)

    async def candles(self, exchange: str, symbol: str, entries: int = 100) -> list[Candle]:
        """The closed candles of the last `entries` commits of a market; a corrected one stands there again."""
        return await self._rows("candles", exchange, symbol, entries, keys.parse_candles)

    async def follow_candles(self, exchange: str, symbol: str, after: str = "$") -> AsyncGenerator[Entry[Candle], None]:
        """Closed candles as they are committed, for ever: each entry's id and its candles.

        `after` is the id of the last entry that was dealt with: what came since is given first, so a consumer that
        keeps it misses nothing, as long as it is back before the stream has moved on (a day). "$" begins with what is
        yet to come, "0" with all there is. Redis being away is waited for. A candle may come twice, and a corrected
        one always does: key on its open time.
        """
        async for entry in self._follow("candles", exchange, symbol, after, keys.parse_candles):
            yield entry

    async def follow_trades(self, exchange: str, symbol: str, after: str = "$") -> AsyncGenerator[Entry[Trade], None]:
        """Trades as they are committed, likewise: key on their ids. The stream holds the last 1,000 entries."""
        async for entry in self._follow("trades", exchange, symbol, after, keys.parse_trades):
            yield entry

    async def _follow(
        self, kind: Kind, exchange: str, symbol: str, after: str, parse: Callable[[bytes], list[T]]
    ) -> AsyncGenerator[Entry[T], None]:
        key = keys.stream_key(kind, exchange, symbol)
        while True:
            try:
                if after == "$":  # the newest entry there is: "$" itself would skip what comes while we reconnect
                    [newest] = await self.request(("XREVRANGE", key, "+", "-", "COUNT", 1))
                    after = newest[0][0].decode() if newest else "0"
                [found] = await self.request(("XREAD", "COUNT", 100, "BLOCK", FOLLOW_MS, "STREAMS", key, after))
            except ServiceUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            for entry_id, fields in found[0][1] if found else ():
                after = entry_id.decode()
                rows = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"rows", b"")
                yield Entry(after, _parsed(key, rows, parse))

    async def _documents(self, prefix: str, parse: Callable[[bytes], T]) -> dict[str, T]:
        names = await self._scan(prefix)
        if not names:
            return {}
        [values] = await self.request(("MGET", *names))
        return {
            name.removeprefix(prefix): _parsed(name, value, parse)
            for name, value in zip(names, values, strict=True)
            if value is not None  # expired since
        }

    async def _scan(self, prefix: str) -> list[str]:
        names: set[str] = set()
        cursor: bytes | int = 0
        while True:
            [[cursor, page]] = await self.request(("SCAN", cursor, "MATCH", prefix + "*", "COUNT", 1000))
            names.update(name.decode() for name in page)
            if int(cursor) == 0:
                return sorted(names)

    async def _rows(
        self, kind: Kind, exchange: str, symbol: str, entries: int, parse: Callable[[bytes], list[T]]
    ) -> list[T]:
        key = keys.stream_key(kind, exchange, symbol)
        [found] = await self.request(("XREVRANGE", key, "+", "-", "COUNT", entries))
        rows: list[T] = []
        for _, fields in reversed(found):
            rows += _parsed(key, dict(zip(fields[::2], fields[1::2], strict=True)).get(b"rows", b""), parse)
        return rows


def _market(name: str) -> tuple[str, str]:
    exchange, _, symbol = name.partition(":")
    return exchange, symbol


def _parsed(key: str, value: bytes, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(value)
    except (ValueError, TypeError) as error:
        raise ServiceUnavailable(f"{key} in redis is not what ohlcvd writes there: {error}") from error
