"""All live streams of one exchange into one sink, whatever way each of its markets goes; symbols come and go.

`_routes` decides which stream carries which kinds of a market; everything else treats them alike.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ohlcvd.exchange.client import Gate
from ohlcvd.exchange.clock import VenueClock
from ohlcvd.exchange.generic import WATCH, GenericStream
from ohlcvd.exchange.incoming import Incoming
from ohlcvd.exchange.polling import PollingStream
from ohlcvd.exchange.registry import fast_venue
from ohlcvd.exchange.rejects import Rejects
from ohlcvd.exchange.sink import StreamCounters, StreamSink
from ohlcvd.exchange.stream import VenueStream
from ohlcvd.exchange.venue import FastVenue
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Kind, Trade


class PartStream(Protocol):
    """Carries some of an exchange's markets: `VenueStream`, `GenericStream`, `PollingStream`."""

    def add(self, symbol: str, name: str, kinds: Collection[Kind]) -> None: ...
    def remove(self, symbol: str) -> None: ...
    async def run(self) -> None: ...


class Route(NamedTuple):
    """These kinds of a market go through this stream, where its name is `name`."""

    stream: PartStream
    name: str
    kinds: Collection[Kind]


@dataclass(frozen=True)
class Ways:
    """What the streams of one exchange need from its handler."""

    exchange: Any
    clock: VenueClock
    rejects: Rejects
    counters: StreamCounters
    gate: Gate
    log: ComponentLogger
    now_us: Callable[[], int]
    time_of_venue: Callable[[], Awaitable[int]]
    latest_trades: Callable[[str], Awaitable[list[Trade]]]
    used_numbers: set[int]


class LiveStreams:
    """See the module. `run` may be called once."""

    def __init__(self, ways: Ways, kinds: Collection[Kind], sink: StreamSink) -> None:
        self._ways = ways
        self._kinds = tuple(kinds)
        self._sink = sink
        self._parts: dict[object, PartStream] = {}
        self._names: dict[object, dict[str, str]] = {}
        self._routes_of: dict[str, list[Route]] = {}
        self._group: asyncio.TaskGroup | None = None

    def add(self, symbols: Iterable[str]) -> None:
        """Subscribe to these; those that are not listed are refused, those that run are left alone."""
        for symbol in dict.fromkeys(symbols):
            if symbol in self._routes_of:
                continue
            market = self._ways.exchange.markets.get(symbol)
            if market is None:
                self._refuse(symbol, f"{self._ways.exchange.id} does not list {symbol}")
                continue
            routes = self._routes(symbol, market)
            if routes:
                self._routes_of[symbol] = routes
            for route in routes:
                route.stream.add(symbol, route.name, route.kinds)

    def remove(self, symbols: Iterable[str]) -> None:
        """Unsubscribe from these: the sink hears no more of them."""
        for symbol in symbols:
            for route in self._routes_of.pop(symbol, ()):
                route.stream.remove(symbol)

    async def run(self) -> None:
        """Until cancelled, also with nothing to do."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for stream in self._parts.values():
                    group.create_task(stream.run())
                await asyncio.Event().wait()
        finally:
            self._group = None

    def _refuse(self, symbol: str, reason: str) -> None:
        for kind in self._kinds:
            self._sink.on_refused(symbol, kind, reason)

    def _routes(self, symbol: str, market: Mapping[str, Any]) -> list[Route]:
        """Empty when it was refused."""
        venue = fast_venue(self._ways.exchange.id, market)
        name = symbol if venue is None else venue.wire_symbol(market)
        stream = self._part(venue)
        known = self._names[venue].get(name, symbol)
        if known != symbol and known in self._routes_of:
            self._refuse(symbol, f"{known} has the same name there")
            return []
        streamed = [kind for kind in self._kinds if self._can_stream(venue, kind)]
        asked = [kind for kind in self._kinds if kind not in streamed]
        routes = [Route(stream, name, streamed)] if streamed else []
        return [*routes, Route(self._polling(), symbol, asked)] if asked else routes

    def _can_stream(self, venue: FastVenue | None, kind: Kind) -> bool:
        return kind in venue.kinds if venue is not None else bool(self._ways.exchange.has.get(WATCH[kind]))

    def _polling(self) -> PartStream:
        """The stream of what the exchange only gives when it is asked."""
        if "polling" not in self._parts:
            ways, names = self._ways, self._names.setdefault("polling", {})
            incoming = Incoming(names, self._sink, ways.clock, ways.rejects, ways.now_us)
            asks = ways.latest_trades, ways.time_of_venue
            stream = PollingStream(ways.exchange, names, self._sink, incoming, ways.clock, ways.log, *asks)
            self._keep("polling", stream)
        return self._parts["polling"]

    def _part(self, venue: FastVenue | None) -> PartStream:
        """The stream of all markets that speak like this; the generic one for None."""
        if venue not in self._parts:
            ways, names = self._ways, self._names.setdefault(venue, {})
            incoming = Incoming(names, self._sink, ways.clock, ways.rejects, ways.now_us)
            shared = (self._sink, incoming, ways.counters, ways.gate, ways.log, ways.time_of_venue)
            stream: PartStream
            if venue is None:
                stream = GenericStream(ways.exchange, names, *shared)
            else:
                stream = VenueStream(ways.exchange, venue, names, *shared, ways.used_numbers)
            self._keep(venue, stream)
        return self._parts[venue]

    def _keep(self, name: object, stream: PartStream) -> None:
        self._parts[name] = stream
        if self._group is not None:
            self._group.create_task(stream.run())
