"""What a venue's file gives to the common machinery: how to subscribe, how to read its frames and its history. Pure.

A venue is a `FastVenue`. One whose history ccxt's unified calls do not give exactly is also a `CandleHistory`, a
`TradeHistory` or a `VenueTime`. An exchange with an address for each kind of market has one `FastVenue` for each.

`parse` turns one raw text frame into events. It takes the frames it knows and returns None for all others, which
nobody reads. A row that does not hold what it should becomes a `BadRow` and its neighbours are still delivered; a
frame that cannot be read at all raises ValueError, KeyError or TypeError.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from ohlcvd.exchange.sink import TradePage
from ohlcvd.market import Candle, Kind, Trade


class TradeRows(NamedTuple):
    """Trades of one market in the order sent."""

    wire: str  # the market's name in the venue's frames
    trades: list[Trade]
    snapshot: bool
    venue_us: int | None = None  # when the venue sent the frame, where it says so


class Gathered:
    """Live trades of frames that came together, until they are passed on: what that costs is paid once for all."""

    def __init__(self) -> None:
        self.trades: defaultdict[str, list[Trade]] = defaultdict(list)  # by the market's name, each in the order sent
        self.venue_us: int | None = None  # when the venue sent the last of them, where it says so

    def add(self, rows: TradeRows) -> None:
        """The trades of one market."""
        if rows.trades:
            self.trades[rows.wire] += rows.trades
            self.venue_us = rows.venue_us

    def take(self) -> tuple[dict[str, list[Trade]], int | None]:
        """What was gathered, and forget it. Whoever is filling `trades` goes on filling it."""
        trades = dict(self.trades)
        self.trades.clear()
        return trades, self.venue_us


class CandleRow(NamedTuple):
    """One minute as the venue describes it now."""

    wire: str
    candle: Candle
    closed: bool
    snapshot: bool
    venue_us: int | None = None


class Ack(NamedTuple):
    """The venue accepts a subscription: one market's, or (wire None) everything that the request asked for."""

    request_id: int | None
    wire: str | None
    kind: Kind | None
    venue_us: int | None


class Refusal(NamedTuple):
    """The venue refuses one market, or (wire None) the whole request."""

    request_id: int | None
    wire: str | None
    kind: Kind | None
    reason: str


class Pulse(NamedTuple):
    """The venue says that it is alive."""

    venue_us: int | None = None


class Pong(NamedTuple):
    """The answer to our ping: proves the connection, not that data still flows."""

    request_id: int | None
    venue_us: int | None


class Question(NamedTuple):
    """The venue wants to know whether we are alive; `answer` is to be sent."""

    answer: Any


class BadRow(NamedTuple):
    """A row that cannot be used, and what may therefore be missing from which market."""

    wire: str | None
    kind: Kind
    reason: str
    raw: str


Event = TradeRows | CandleRow | Ack | Refusal | Pulse | Pong | Question | BadRow


class Request(NamedTuple):
    """One call of ccxt's implicit API: `await getattr(exchange, method)(params)`. With `unread`, an answer of rows
    comes as `exact.Unread`."""

    method: str
    params: dict[str, Any]
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """When a connection counts as dead although nothing has failed.

    `data_s`: no frame except pongs for so long. With `quiet_s` the limit follows the flow: 15 times the mean
    distance of moments with data in the minute before, between `data_s` and `quiet_s`. `any_s`: no frame at all, not
    even a pong.
    """

    data_s: float
    any_s: float
    quiet_s: float | None = None


class OldProtocol(ValueError):
    """A frame of a protocol that the venue, or ccxt, has given up: nothing that it says may be stored."""


class FastVenue(Protocol):
    """A venue, or the part of it behind one address, with a file of its own. Most derive from `venues.base`."""

    kinds: tuple[Kind, ...]  # what it streams
    symbols_per_request: int
    streams_per_connection: int  # one market's trades are one stream, its candles another
    request_pace_s: float
    ping_s: float
    silence: Silence
    options: Mapping[str, Any]  # for ccxt's constructor

    def lists(self, market: Mapping[str, Any]) -> bool:
        """Whether this market (ccxt's structure) is one of this part's."""

    def adapt(self, exchange: Any) -> None:
        """Change what ccxt's instance does differently over REST than the stream does, right after it was made."""

    async def dial(self, exchange: Any, connection: int) -> str:
        """The address of one more connection; some venues must be asked for it. Raises as ccxt does."""

    def session(self) -> Self:
        """Itself, or where frames are understood only by what came before them on their connection, a fresh copy."""

    def wire_symbol(self, market: Mapping[str, Any]) -> str: ...
    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any: ...
    def unsubscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        """None: the venue has no such message, and what it still sends is not looked at."""

    def ping(self, request_id: int) -> dict[str, Any] | None:
        """A message whose answer carries the venue's time, or None: then its REST time is asked."""

    def parse(self, text: str) -> Sequence[Event] | None: ...

    def gather(self, texts: Sequence[str], gathered: Gathered) -> Iterable[str]:
        """Frames that came together: `gathered` gets the trades of those that are live trades as they always are, and
        nothing else; yields the others, each when all before it are gathered. They are then read with more care."""


@runtime_checkable
class CandleHistory(Protocol):
    """Candles over REST, exactly."""

    def candles_request(self, market_id: str, since_us: int | None, limit: int | None) -> Request: ...
    def parse_candles(self, answer: Any) -> Sequence[Candle]: ...


@runtime_checkable
class TradeHistory(Protocol):
    """Trades over REST, exactly."""

    page_trades: int  # the most trades that one answer holds

    def trades_request(
        self, market_id: str, from_id: str | None, since_us: int | None, limit: int | None
    ) -> Request: ...
    def parse_trades(self, answer: Any, limit: int) -> TradePage: ...


@runtime_checkable
class VenueTime(Protocol):
    """The venue's time over REST."""

    def time_request(self) -> Request: ...
    def parse_time(self, answer: Any) -> tuple[int, int]:
        """The venue's time in microseconds and how much later it may be: (floor, resolution)."""


def missing(row: Any, error: Exception) -> str:
    """Why a row could not be read, as a sentence."""
    if isinstance(error, KeyError):
        return f"field {error.args[0]!r} is missing"
    if isinstance(error, IndexError):
        return "fields are missing"
    return str(error) or type(error).__name__
