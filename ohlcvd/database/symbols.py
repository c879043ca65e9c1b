"""The symbols that people add and remove while everything runs, on top of what is configured. One row for each name.

    async with Database(conninfo) as database:
        await SymbolRepository(database).add("kraken", "ETH/USD")

Running children read it every few seconds. ServiceUnavailable when the database cannot be reached.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from ohlcvd.database.pool import Database

_COLUMNS: Final = "exchange, symbol, added, (extract(epoch FROM changed_at) * 1000000)::bigint"
_LIST: Final = f"SELECT {_COLUMNS} FROM ohlcvd.symbols ORDER BY exchange, symbol"
_OF_EXCHANGE: Final = f"SELECT {_COLUMNS} FROM ohlcvd.symbols WHERE exchange = %s ORDER BY symbol"
_SET: Final = f"""
INSERT INTO ohlcvd.symbols AS s (exchange, symbol, added) VALUES (%s, %s, %s)
ON CONFLICT (exchange, symbol) DO UPDATE
   SET changed_at = CASE WHEN s.added = excluded.added THEN s.changed_at ELSE now() END, added = excluded.added
RETURNING {_COLUMNS}"""


class Symbol(NamedTuple):
    """One addition or removal. `symbol` is a name or a glob."""

    exchange: str
    symbol: str
    added: bool
    changed_us: int


class Exchange(NamedTuple):
    """What was added to and removed from one exchange's configured symbols."""

    name: str
    symbols: tuple[Symbol, ...]

    @property
    def added(self) -> tuple[str, ...]:
        """Names and globs that are collected beside the configured ones."""
        return tuple(one.symbol for one in self.symbols if one.added)

    @property
    def removed(self) -> tuple[str, ...]:
        """Names and globs that are not collected, whatever is configured."""
        return tuple(one.symbol for one in self.symbols if not one.added)


class SymbolRepository:
    """See the module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> Sequence[Symbol]:
        """Every addition and removal, by exchange and name."""
        async with self._database.connection("reading the symbols added and removed") as connection:
            return [Symbol._make(row) for row in await (await connection.execute(_LIST.encode())).fetchall()]

    async def get_by_exchange(self, exchange: str) -> Exchange:
        """One exchange; without symbols when nothing was added or removed."""
        async with self._database.connection("reading the symbols added and removed") as connection:
            rows = await (await connection.execute(_OF_EXCHANGE.encode(), (exchange,))).fetchall()
        return Exchange(exchange, tuple(Symbol._make(row) for row in rows))

    async def add(self, exchange: str, symbol: str) -> Symbol:
        """Collect it from now on; ends a removal of the same name."""
        return await self._set(exchange, symbol, added=True)

    async def remove(self, exchange: str, symbol: str) -> Symbol:
        """Collect it no longer; ends an addition of the same name."""
        return await self._set(exchange, symbol, added=False)

    async def _set(self, exchange: str, symbol: str, *, added: bool) -> Symbol:
        async with self._database.connection("changing symbols") as connection:
            row = await (await connection.execute(_SET.encode(), (exchange, symbol, added))).fetchone()
        assert row is not None
        return Symbol._make(row)
