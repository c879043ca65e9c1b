"""What both venues share: listings, tapes, clients, what was sent, what is frozen. A venue's protocol is a subclass.

Invariant: a client gets each trade of a subscription at most once and in the order of ids, from the moment of its
acknowledgement on, and none is left out unless a fault says so. Trades made while a client is away are not sent later.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from aiohttp import web

from ohlcvd.errors import UsageError
from ohlcvd.market import MINUTE_US, Candle, Trade
from ohlcvd.simulator.clock import Clock
from ohlcvd.simulator.connection import Channel, Connection, Frame, Subscription
from ohlcvd.simulator.faults import Faults, RestFault
from ohlcvd.simulator.listings import Listing
from ohlcvd.simulator.market import candle_of
from ohlcvd.simulator.sent import IdRanges
from ohlcvd.simulator.tape import Execution, MinuteCandle, Tape

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TRADES_PER_PULL = 500


class Venue(ABC):
    """One exchange. `live` is False in a replay, where frames come from the recording only."""

    name: ClassVar[str]
    counts_raw_trades: ClassVar[bool] = False

    def __init__(
        self,
        listings: Iterable[Listing],
        tape: Callable[[str], Tape],
        clock: Clock,
        *,
        start_us: int,
        live: bool = True,
    ) -> None:
        self.listings: dict[str, Listing] = {listing.symbol: listing for listing in listings}
        self.tape = tape
        self.clock = clock
        self.start_us = start_us
        self.live = live
        self.faults = Faults()
        self.stated: dict[tuple[str, int], MinuteCandle] = {}  # closed minutes as a recording has them
        self.answers: dict[str, str] = {}  # recorded REST answers, by the name of the request
        self.connections: dict[int, Connection] = {}
        self.sent: dict[str, IdRanges] = {}
        self.snapshots: dict[str, IdRanges] = {}
        self.requests: Counter[str] = Counter()
        self.frozen_ns: int | None = None
        self.on_subscribed: Callable[[str], None] = lambda symbol: None
        self.found: Callable[[str], Listing] | None = None  # makes a market that was never there; None: it cannot
        self.watchers: dict[str, dict[tuple[Connection, str], None]] = {}  # who is told when a trade of a symbol is due
        self.connected_ever = 0
        self._names: dict[str, str] = {}
        for listing in self.listings.values():
            self._name(listing)

    def list_symbol(self, symbol: str) -> None:
        """Trade this symbol from now on, again or for the first time."""
        if symbol not in self.listings:
            if self.found is None:
                raise UsageError(f"{self.name} cannot list anything new here")
            self.listings[symbol] = self.found(symbol)
            self._name(self.listings[symbol])
        self.faults.refused.discard(symbol)
        self.faults.delisted.discard(symbol)

    def _name(self, listing: Listing) -> None:
        self._names.update(dict.fromkeys((listing.id, listing.altname, listing.wsname), listing.symbol))

    # the venue's protocol

    @abstractmethod
    def routes(self) -> list[tuple[str, Handler]]:
        """Paths below /NAME and who answers them."""

    @abstractmethod
    def received(self, connection: Connection, text: str) -> None:
        """A client's message."""

    @abstractmethod
    def trade_frames(self, symbol: str, executions: Sequence[Execution], *, combined: bool = True) -> list[str]:
        """The frames that report these trades."""

    @abstractmethod
    def candle_frame(self, symbol: str, candle: MinuteCandle, *, closed: bool, combined: bool = True) -> str: ...

    @abstractmethod
    def every_second(self) -> None:
        """Heartbeats and whatever else goes by the clock."""

    @abstractmethod
    def candle_due(self, connection: Connection, subscription: Subscription) -> Iterator[Frame]: ...

    # time and trades

    def market_ns(self) -> int:
        """The moment up to which there are trades: now, or the moment of the freeze."""
        now_ns = self.clock.now_ns()
        return now_ns if self.frozen_ns is None else min(now_ns, self.frozen_ns)

    def visible(self, symbol: str) -> int:
        """Trades before this id have happened."""
        tape = self.tape(symbol)
        return max(tape.first_id, tape.id_at(self.market_ns()))

    def minute(self, symbol: str, ts_us: int, visible: int) -> MinuteCandle | None:
        """A minute's candle as the venue states it now, corrections included."""
        stated = self.faults.revisions.get((symbol, ts_us))
        if stated is None and (ts_us + MINUTE_US) * 1000 <= self.clock.now_ns():
            stated = self.stated.get((symbol, ts_us))
        return stated if stated is not None else self.tape(symbol).minute(ts_us, visible)

    def symbol_of(self, market_id: str) -> str | None:
        """The symbol behind one of the venue's ids, None when it is not listed (any more)."""
        symbol = self._names.get(market_id)
        return None if symbol is None or symbol in self.faults.delisted else symbol

    def is_listed(self, symbol: str) -> bool:
        return symbol in self.listings and symbol not in self.faults.delisted

    def sendable(self, symbol: str, start: int, end: int) -> list[tuple[int, int]]:
        """start <= id < end without the ids that are withheld for ever."""
        withheld = self.faults.withheld.get(symbol)
        return [(start, end)] if withheld is None else withheld.without(start, end)

    def executions(self, symbol: str, start: int, end: int) -> list[Execution]:
        tape = self.tape(symbol)
        return [one for part in self.sendable(symbol, start, end) for one in tape.executions(*part)]

    # clients

    async def serve(self, request: web.Request, *, combined: bool, streams: Sequence[str] = ()) -> web.StreamResponse:
        """One client, from its handshake to its end."""
        ws = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=2**20)
        await ws.prepare(request)
        self.connected_ever += 1
        connection = Connection(self, ws, request, self.connected_ever, combined)
        self.connections[connection.number] = connection
        try:
            self.greet(connection, streams)
            await connection.run()
        finally:
            del self.connections[connection.number]
            for name in list(connection.subscriptions):
                self.unsubscribe(connection, name)
        return ws

    def greet(self, connection: Connection, streams: Sequence[str]) -> None:
        """What a client gets on connecting, if anything."""
        return

    def subscribe(self, connection: Connection, name: str, channel: Channel, symbol: str) -> Subscription:
        """From now on; the acknowledgement is the caller's to send, before or after in the same step."""
        now_us = self.clock.now_ns() // 1000
        self.faults.muted.discard(symbol)
        subscription = Subscription(name, channel, symbol, minute_us=now_us - now_us % MINUTE_US)
        connection.subscriptions[name] = subscription
        if self.is_listed(symbol) and channel != "other":
            if self.live:
                subscription.cursor = self.visible(symbol)
            self.watchers.setdefault(symbol, {})[connection, name] = None
        self.on_subscribed(symbol)
        return subscription

    def unsubscribe(self, connection: Connection, name: str) -> None:
        subscription = connection.subscriptions.pop(name)
        watchers = self.watchers.get(subscription.symbol, {})
        watchers.pop((connection, name), None)
        if not watchers:
            self.watchers.pop(subscription.symbol, None)

    def wake(self, symbol: str) -> None:
        """A trade of this symbol is due."""
        for connection, name in self.watchers.get(symbol, ()):
            connection.due(name)

    def due_frames(self, connection: Connection, subscription: Subscription) -> Iterator[Frame]:
        """What lies between the subscription's cursor and now; moves the cursor."""
        symbol = subscription.symbol
        if not self.live or not self.is_listed(symbol):
            return
        if symbol in self.faults.muted:
            subscription.cursor = self.visible(symbol)
            return
        if subscription.channel == "candle":
            yield from self.candle_due(connection, subscription)
            return
        visible = self.visible(symbol)
        while subscription.cursor < visible:
            start, end = subscription.cursor, min(visible, subscription.cursor + TRADES_PER_PULL)
            subscription.cursor = end
            for part in self.sendable(symbol, start, end):
                yield from self.part_frames(connection, subscription, *part)

    def part_frames(self, connection: Connection, subscription: Subscription, start: int, end: int) -> Iterator[Frame]:
        """Trades start <= id < end for one subscription."""
        for execution in self.tape(subscription.symbol).executions(start, end):
            (text,) = self.trade_frames(subscription.symbol, [execution], combined=connection.combined)
            yield Frame(text, subscription.symbol, execution.id, execution.id + 1)

    def record(self, frame: Frame) -> None:
        self.sent.setdefault(frame.symbol, IdRanges()).add(frame.start, frame.end)

    def subscribers(self, symbol: str | None, channel: Channel) -> Iterator[tuple[Connection, Subscription]]:
        """Who has this channel of this symbol, or of any when it is None."""
        for connection in list(self.connections.values()):
            for subscription in list(connection.subscriptions.values()):
                if subscription.channel == channel and symbol in (None, subscription.symbol):
                    yield connection, subscription

    # the truth, for /control

    def sent_trades(self, symbol: str, *, snapshots: bool = False) -> list[Trade]:
        """What went out as new by WebSocket; with `snapshots` also what only a snapshot carried."""
        ids = IdRanges()
        for ranges in (self.sent.get(symbol), self.snapshots.get(symbol) if snapshots else None):
            for part in ranges or ():
                ids.add(*part)
        tape = self.tape(symbol)
        return [execution.trade for part in ids for execution in tape.executions(*part)]

    def true_trades(self, symbol: str, from_us: int, to_us: int) -> list[Trade]:
        """Every trade with from_us <= time < to_us that has happened."""
        tape = self.tape(symbol)
        start = max(tape.first_id, tape.id_at(from_us * 1000))
        end = min(self.visible(symbol), tape.id_at(to_us * 1000))
        return [execution.trade for execution in tape.executions(start, max(start, end))]

    def true_candles(self, symbol: str, from_us: int, to_us: int) -> list[Candle]:
        """Every closed minute with trades that opens in [from_us, to_us)."""
        visible = self.visible(symbol)
        now_us = self.clock.now_ns() // 1000
        from_us = max(from_us + -from_us % MINUTE_US, self.start_us)
        minutes = (self.minute(symbol, ts_us, visible) for ts_us in range(from_us, min(to_us, now_us), MINUTE_US))
        return [
            candle_of(minute, raw=self.counts_raw_trades)
            for minute in minutes
            if minute is not None and minute.trades and minute.ts_us + MINUTE_US <= now_us
        ]

    async def flushed(self, timeout_s: float) -> bool:
        """Waits until every client was sent all that is due."""
        for symbol in list(self.watchers):
            self.wake(symbol)
        listeners = [connection for connection in self.connections.values() if not connection.deaf]
        return all(await asyncio.gather(*(connection.settled(timeout_s) for connection in listeners)))

    async def hang(self, fault: RestFault) -> None:
        """A request that is not answered for as long as the fault lasts."""
        if fault.kind == "hang":
            await asyncio.sleep(max(0.0, fault.until_mono - time.monotonic()))

    def abort_all(self) -> None:
        for connection in list(self.connections.values()):
            connection.abort()


def as_rows(trades: Iterable[Trade]) -> list[list[str | int]]:
    """As /control shows them: id, ts_us, price, amount, side."""
    return [[trade.id, trade.ts_us, trade.price, trade.amount, trade.side] for trade in trades]


def integer(query: Mapping[str, str], name: str) -> int | None:
    """A whole number of a query, None when it is absent; ValueError when it is none."""
    text = query.get(name)
    return None if text is None or text == "" else int(text)
