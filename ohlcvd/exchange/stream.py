"""Live streams of one exchange over as many connections as its subscriptions need.

Each connection holds at most as many subscriptions as the venue allows; a new one goes where there is room, else to a
connection of its own, so that none of those that run is disturbed. One that has nothing left to do is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from itertools import count
from typing import Any

from ohlcvd.exchange.client import Gate
from ohlcvd.exchange.connection import Connection
from ohlcvd.exchange.incoming import Incoming
from ohlcvd.exchange.shared import Shared
from ohlcvd.exchange.sink import StreamCounters, StreamSink
from ohlcvd.exchange.subscriptions import Key
from ohlcvd.exchange.venue import FastVenue
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Kind


class VenueStream:
    """Symbols may be added and removed before and while it runs."""

    def __init__(
        self, exchange: Any, venue: FastVenue, names: dict[str, str], sink: StreamSink, incoming: Incoming,
        counters: StreamCounters, gate: Gate, log: ComponentLogger, time_of_venue: Callable[[], Awaitable[int]],
        used_numbers: set[int],
    ) -> None:  # fmt: skip
        """`names`: in the venue's frames -> symbol; filled here, read by `incoming`."""
        self._shared = Shared(exchange, venue, names, sink, incoming, counters, gate, log, time_of_venue, used_numbers)
        self._used_numbers = used_numbers  # by all streams of this exchange; a number is part of an address
        self._connections: dict[Connection, asyncio.Task[None] | None] = {}
        self._group: asyncio.TaskGroup | None = None

    def add(self, symbol: str, name: str, kinds: Collection[Kind]) -> None:
        """Subscribe; what it already has is left alone."""
        self._shared.names[name] = symbol
        self._shared.wires[symbol] = name
        for kind in sorted(kinds, reverse=True):  # trades first
            key = Key(symbol, kind)
            if not any(key in connection.subscriptions.wanted for connection in self._connections):
                self._with_room().subscriptions.add([key])

    def remove(self, symbol: str) -> None:
        """Unsubscribe; the sink hears no more of it. Its name stays known: the venue may still send a few frames."""
        for connection in list(self._connections):
            connection.remove([key for key in connection.subscriptions.wanted if key.symbol == symbol])
            if not connection.subscriptions.wanted:
                task = self._connections.pop(connection)
                if task is None:
                    self._used_numbers.discard(connection.number)
                else:
                    task.cancel()

    async def run(self) -> None:
        """Until cancelled, also with nothing to do."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for connection in self._connections:
                    self._start(connection)
                await asyncio.Event().wait()
        finally:
            self._group = None

    def _with_room(self) -> Connection:
        size = self._shared.venue.streams_per_connection
        for connection in self._connections:
            if len(connection.subscriptions.wanted) < size:
                return connection
        number = next(number for number in count() if number not in self._used_numbers)
        self._used_numbers.add(number)
        connection = Connection(self._shared, number)
        self._connections[connection] = None
        self._start(connection)
        return connection

    def _start(self, connection: Connection) -> None:
        if self._group is not None:
            task = self._connections[connection] = self._group.create_task(connection.run())
            task.add_done_callback(lambda _: self._ended(connection.number))

    def _ended(self, number: int) -> None:
        self._used_numbers.discard(number)
        self._shared.counters.whole(number)
