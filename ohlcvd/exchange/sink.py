"""Between an exchange and its collectors: the sink that a stream writes to, its counters, a page of history. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ohlcvd.market import Candle, Kind, Trade


class StreamSink(Protocol):
    """Receives a live stream. Called on the event loop, one call at a time; must be fast and never raise.

    For every (symbol, kind): `on_subscribed` opens an unbroken stretch, `on_interrupted` ends it, and what lies
    between two stretches must be fetched from history. Rows may arrive outside a stretch (a snapshot before the
    acknowledgement); they are true but prove nothing about their neighbours.
    """

    def on_trades(self, symbol: str, trades: list[Trade], snapshot: bool) -> None:
        """Validated trades in the venue's order. A snapshot holds recent trades from before the subscription."""

    def on_many(self, trades: Sequence[tuple[str, list[Trade]]]) -> None:
        """`on_trades` of many symbols, each once, live ones; nobody changes them any more."""

    def on_candle(self, symbol: str, candle: Candle, closed: bool, snapshot: bool) -> None:
        """One minute as the venue last described it; `closed` only where the venue itself says so.

        A venue that also describes minutes without trades gives them with `trades` 0 and a zero volume.
        """

    def on_subscribed(self, symbol: str, kind: Kind, venue_us: int) -> None:
        """From the venue's time `venue_us` on the stream is complete until `on_interrupted`."""

    def on_interrupted(self, symbol: str, kind: Kind, reason: str) -> None:
        """Something may have been missed; a new `on_subscribed` follows when the stream is back."""

    def on_doubted(self, symbol: str, kind: Kind, reason: str) -> None:
        """As `on_interrupted`, but it may have begun as early as the last row: nothing told us of it."""

    def on_reached(self, symbol: str, kind: Kind, venue_us: int) -> None:
        """Only where an exchange is asked again and again: nothing is known yet of what happened from `venue_us` on."""

    def on_refused(self, symbol: str, kind: Kind, reason: str) -> None:
        """The venue refuses this subscription; it is asked again after a pause, the others are unaffected."""


class Trouble(NamedTuple):
    """Why a connection is not there, by the local clock: since when, and when it is tried again."""

    reason: str
    since_us: int
    retry_us: int


@dataclass(slots=True)
class StreamCounters:
    """What a handler has seen since it was made; only ever grows. `troubles` are those of connections, while they last;
    the one named "markets" is the exchange out of reach."""

    frames: int = 0
    reconnects: int = 0
    rejected: int = 0
    troubles: dict[object, Trouble] = field(default_factory=dict)

    def cut(self, connection: object, reason: str, now_us: int, pause_s: float) -> None:
        """It is not there, and tried again after a pause."""
        before = self.troubles.get(connection)
        since_us = before.since_us if before is not None else now_us
        self.troubles[connection] = Trouble(reason, since_us, now_us + round(pause_s * 1e6))

    def whole(self, connection: object) -> None:
        """It works again."""
        self.troubles.pop(connection, None)


class TradePage(NamedTuple):
    """Consecutive trades, oldest first. `next_cursor` (as `from_id`) gives what follows; None: no more by now."""

    trades: list[Trade]
    next_cursor: str | None
