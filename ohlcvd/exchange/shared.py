"""What all connections of one exchange have in common: the exchange itself, and whom they tell."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from ohlcvd.exchange.client import Gate
from ohlcvd.exchange.incoming import Incoming
from ohlcvd.exchange.sink import StreamCounters, StreamSink
from ohlcvd.exchange.venue import FastVenue
from ohlcvd.log import ComponentLogger


@dataclass(frozen=True)
class Shared:
    """See the module."""

    exchange: Any
    venue: FastVenue
    names: dict[str, str]  # the name in the venue's frames -> symbol
    sink: StreamSink
    incoming: Incoming
    counters: StreamCounters
    gate: Gate
    log: ComponentLogger
    time_of_venue: Callable[[], Awaitable[int]]  # at least as late as everything received before the call
    numbers: Collection[int]  # of all connections of this exchange
    wires: dict[str, str] = field(default_factory=dict)  # symbol -> its name in the venue's frames
