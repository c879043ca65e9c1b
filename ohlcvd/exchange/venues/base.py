"""What most venues share: usual limits, one JSON object a frame, rows that fail one by one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import decode, digits
from ohlcvd.exchange.venue import BadRow, CandleRow, Event, Gathered, Pong, Silence, TradeRows, missing
from ohlcvd.market import Candle, Kind, Side, Trade

# A taker's side as venues spell it. Any other word goes through, and is refused where trades are checked.
_SIDES: dict[str, Side] = {"buy": "buy", "sell": "sell", "Buy": "buy", "Sell": "sell", "BUY": "buy", "SELL": "sell"}
_SHORT = 300  # characters
_OTHER: dict[str, Side] = {"buy": "sell", "sell": "buy"}


class JsonVenue(ABC):
    """A `FastVenue` but for `subscribe` and `read`. `stream_url`, `options` and the others are defaults."""

    kinds: tuple[Kind, ...] = ("trades", "candles")
    symbols_per_request = 1
    streams_per_connection = 200
    request_pace_s = 0.1
    ping_s = 15.0
    # Without a heartbeat: a protocol ping shows a dead connection, the flow of data shows one that is idle.
    silence = Silence(data_s=10.0, any_s=40.0, quiet_s=75.0)
    options: Mapping[str, Any] = {}

    def lists(self, market: Mapping[str, Any]) -> bool:
        return True

    def adapt(self, exchange: Any) -> None:
        """Change nothing."""
        return

    def session(self) -> Any:
        return self

    async def dial(self, exchange: Any, connection: int) -> str:
        return str(exchange.implode_params(self.stream_url(exchange.urls, connection), {"hostname": exchange.hostname}))

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        """Where ccxt has one address for all."""
        return numbered(urls["api"]["ws"], connection)

    def wire_symbol(self, market: Mapping[str, Any]) -> str:
        return str(market["id"])

    @abstractmethod
    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        """The request."""

    def unsubscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        """The same request with the opposite word in it."""
        request = self.subscribe(kind, wires, request_id)
        return {k: v.replace("subscribe", "unsubscribe") if isinstance(v, str) else v for k, v in request.items()}

    def ping(self, request_id: int) -> dict[str, Any] | None:
        return None

    def parse(self, text: str) -> Sequence[Event] | None:
        if text == "pong":
            return (Pong(None, None),)
        if "unsub" in text[:_SHORT]:
            return ()  # the answer to a request that nobody waits for
        return self.read(decode(text))

    def gather(self, texts: Sequence[str], gathered: Gathered) -> Iterable[str]:
        """None of them, for want of a faster way."""
        return texts

    @abstractmethod
    def read(self, frame: Any) -> Sequence[Event] | None:
        """The events of one decoded frame."""


def numbered(url: str, connection: int) -> str:
    """ccxt keeps one connection for each address; the part behind "#" tells them apart and is never sent."""
    return url if connection == 0 else f"{url}#{connection}"


def taker(word: Any) -> Any:
    """The taker's side from the venue's word for it."""
    return _SIDES.get(word, word)


def taker_of_maker(word: Any) -> Any:
    """The taker's side where the venue gives the maker's."""
    side = taker(word)
    return _OTHER.get(side, side)


def signed(value: Any) -> tuple[str, bool]:
    """The digits of a number without its sign, and whether it is negative."""
    text = str(value)
    return digits(text.removeprefix("-")), text.startswith("-")


def trade_events(
    wire: str, rows: Iterable[Any], read: Callable[[Any], Trade], *, snapshot: bool = False, venue_us: int | None = None
) -> list[Event]:
    """The good rows together and each bad one by itself."""
    trades: list[Trade] = []
    events: list[Event] = [TradeRows(wire, trades, snapshot, venue_us)]
    for row in rows:
        try:
            trades.append(read(row))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            events.append(BadRow(wire, "trades", missing(row, error), str(row)))
    return events if trades else events[1:]


def candle_events(
    wire: str, rows: Iterable[Any], read: Callable[[Any], tuple[Candle, bool]], *, snapshot: bool = False,
    venue_us: int | None = None,
) -> list[Event]:  # fmt: skip
    """One event for each row; `read` gives the candle and whether the venue calls it closed."""
    events: list[Event] = []
    for row in rows:
        try:
            candle, closed = read(row)
            events.append(CandleRow(wire, candle, closed, snapshot, venue_us))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            events.append(BadRow(wire, "candles", missing(row, error), str(row)))
    return events


def candle(
    start_us: int, open_: Any, high: Any, low: Any, close: Any, volume: Any, trades: int | None = None
) -> Candle:
    """A venue's candle from decoded values."""
    prices = digits(open_), digits(high), digits(low), digits(close)
    return Candle(start_us, *prices, digits(volume), trades, "venue")
