"""Reads back what children wrote to Redis: for `status`, `demo`, and programs that want to look.

Everything raises ServiceUnavailable when Redis cannot be used or holds something else under one of our names.
"""

from collections.abc import Callable
from typing import TypeVar

from ohlcvd.cache import keys
from ohlcvd.cache.client import Client
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.market import Candle, Kind, Trade

T = TypeVar("T")


class CacheReader(Client):
    """`async with CacheReader(url) as reader: await reader.heartbeats()`."""

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
