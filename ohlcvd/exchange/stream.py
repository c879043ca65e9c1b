"""Live streams of one exchange over as many connections as its subscriptions need.

A connection belongs to one `Connection`, which opens it, subscribes, judges its silence and opens it again when it
ends, for ever. What a collector may rely on, for each (symbol, kind): `on_subscribed` comes only after the venue has
acknowledged this subscription, with a venue time from which on nothing is left out; `on_interrupted` comes at once
when the connection ends or a frame could not be used; then `on_subscribed` again. One refused subscription is
reported, asked again after a pause, and does not touch the others: where the venue refuses whole requests, the request
is halved until the culprit stands alone.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import aiohttp

from ohlcvd.errors import ExchangeError
from ohlcvd.exchange import loading
from ohlcvd.exchange.client import Gate, first_line
from ohlcvd.exchange.incoming import Incoming
from ohlcvd.exchange.pacing import Backoff, SilenceWatch
from ohlcvd.exchange.sink import StreamCounters, StreamSink
from ohlcvd.exchange.venue import Ack, BadRow, CandleRow, FastVenue, Pong, Refusal, TradeRows
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Kind

_NetworkError: Any = loading.ccxt_name("ccxt.base.errors", "NetworkError")
_BaseError: Any = loading.ccxt_name("ccxt.base.errors", "BaseError")

REFUSED_PAUSE_S = 60.0
ACK_TIMEOUT_S = 15.0  # for one subscription
NO_ACK_TIMEOUT_S = 5.0  # for the first of a connection; without any the connection is as good as dead
_TICK_S = 0.5
_CONFIRM_PAUSE_S = 10.0  # the longest pause between questions for the venue's time


class Key(NamedTuple):
    """One subscription."""

    symbol: str
    kind: Kind


class Asked(NamedTuple):
    """A request on its way: who waits for its answer since when."""

    keys: list[Key]
    since_s: float


class VenueStream:
    """What all connections of one exchange share."""

    def __init__(
        self, exchange: Any, venue: FastVenue, symbols: Mapping[str, str], sink: StreamSink, incoming: Incoming,
        counters: StreamCounters, gate: Gate, log: ComponentLogger, time_of_venue: Callable[[], Awaitable[int]],
        used_numbers: set[int],
    ) -> None:  # fmt: skip
        self.exchange = exchange
        self.venue = venue
        self.symbols = symbols  # by their names in the venue's frames
        self.wires = {symbol: wire for wire, symbol in symbols.items()}
        self.sink = sink
        self.incoming = incoming
        self.counters = counters
        self.gate = gate
        self.log = log
        self.time_of_venue = time_of_venue  # at least as late as everything received before the call
        self._used_numbers = used_numbers  # by all streams of this exchange; a number is part of an address

    async def run(self, kinds: Collection[Kind]) -> None:
        """Until cancelled, also with nothing to do."""
        keys = [Key(symbol, kind) for symbol in self.wires for kind in kinds]
        size = self.venue.streams_per_connection
        async with asyncio.TaskGroup() as group:
            group.create_task(_for_ever())
            for start in range(0, len(keys), size):
                group.create_task(self._connection(keys[start : start + size]))

    async def _connection(self, keys: Sequence[Key]) -> None:
        number = next(number for number in count() if number not in self._used_numbers)
        self._used_numbers.add(number)
        try:
            await Connection(self, number, keys).run()
        finally:
            self._used_numbers.discard(number)


class Connection:
    """The subscriptions of one WebSocket, through all its reconnects."""

    def __init__(self, stream: VenueStream, number: int, keys: Sequence[Key]) -> None:
        self._stream = stream
        self._venue = stream.venue
        self._number = number
        self._keys = list(keys)
        self._refused_until_s: dict[Key, float] = {}
        self._request_ids = count(1)
        self._backoff = Backoff()
        self._ever_open = False
        self._client: Any = None
        self._reset()

    def _reset(self) -> None:
        """Forget what belonged to the last session."""
        self._to_ask: deque[list[Key]] = deque()
        self._asked: dict[int, Asked] = {}
        self._acknowledged: set[Key] = set()
        self._live: set[Key] = set()  # announced by on_subscribed
        self._was_live = False
        self._unconfirmed: set[Key] = set()  # acknowledged, or interrupted by a bad frame: wait for a venue time
        self._confirm = asyncio.Event()
        self._pongs: dict[int, asyncio.Future[int | None]] = {}
        self._data_frames = 0
        self._answers = 0  # to subscriptions

    async def run(self) -> None:
        """Sessions, one after the other, until cancelled."""
        while True:
            began_s = time.monotonic()
            reason = await self._session()
            self._backoff.ended(self._was_live, time.monotonic() - began_s)
            pause_s = self._backoff.pause_s(random.random())
            self._stream.log.warning(
                f"connection {self._number} ended: {reason}; connecting again in {pause_s:.1f} s",
                exchange=self._stream.exchange.id,
                subscriptions=len(self._keys),
            )
            await asyncio.sleep(pause_s)

    async def _session(self) -> str:
        """One connection from opening to end; why it ended. The keeper is a future that only an end can finish."""
        self._reset()
        exchange = self._stream.exchange
        url = self._venue.stream_url(exchange.urls, self._number)
        (getattr(exchange, "ws_dial_backoff", None) or {}).pop(url, None)  # the pause is ours to choose
        keeper = exchange.watch_multiple(url, ["ohlcvd"])
        client = exchange.clients[url]
        client.tap, client.on_fault = self._on_text, self._on_fault
        client.keepAlive = self._venue.ping_s * 1000
        self._client = client
        helpers: list[asyncio.Task[None]] = []
        reason = "the stream was stopped"
        try:
            await asyncio.wait({keeper, client.connected}, return_when=asyncio.FIRST_COMPLETED)
            if not keeper.done():
                self._opened()
                helpers = [asyncio.create_task(work) for work in (self._ask(), self._watch(), self._confirm_all())]
                await asyncio.wait({keeper, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            reason = _reason(keeper, helpers)
        finally:
            self._interrupt(set(self._live), reason)
            keeper.cancel()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if exchange.clients.get(url) is client:
                del exchange.clients[url]
            await client.shut()
        return reason

    def _opened(self) -> None:
        if self._ever_open:
            self._stream.counters.reconnects += 1
        self._ever_open = True
        now_s = time.monotonic()
        size = self._venue.symbols_per_request
        for kind in sorted({key.kind for key in self._keys}, reverse=True):  # trades first
            due = [key for key in self._keys if key.kind == kind and self._refused_until_s.get(key, 0.0) <= now_s]
            self._to_ask.extend(due[start : start + size] for start in range(0, len(due), size))

    # asking

    async def _ask(self) -> None:
        """Sends what there is to ask, at the venue's pace, and looks after answers that stay away."""
        while True:
            if self._to_ask:
                keys = self._to_ask.popleft()
                request_id = next(self._request_ids)
                self._asked[request_id] = Asked(keys, time.monotonic())
                wires = [self._stream.wires[key.symbol] for key in keys]
                await self._send(self._venue.subscribe(keys[0].kind, wires, request_id))
                await asyncio.sleep(self._venue.request_pace_s)
            else:
                await asyncio.sleep(_TICK_S)
                self._look_after(time.monotonic())

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._client.send(message)
        except (OSError, RuntimeError, aiohttp.ClientError) as error:
            self._client.on_error(_NetworkError(f"sending failed: {type(error).__name__}: {error}"))

    def _look_after(self, now_s: float) -> None:
        gate = self._stream.gate
        for request_id, asked in list(self._asked.items()):
            waited_s = now_s - max(asked.since_s, gate.opened_s)
            if gate.is_open and not self._answers and waited_s > NO_ACK_TIMEOUT_S:
                self._client.on_error(_NetworkError(f"no subscription answered within {NO_ACK_TIMEOUT_S:.0f} s"))
                return
            if not gate.is_open or waited_s < ACK_TIMEOUT_S:
                continue
            del self._asked[request_id]
            for key in asked.keys:
                self._refuse(key, f"no acknowledgement within {ACK_TIMEOUT_S:.0f} s")
        for key, until_s in list(self._refused_until_s.items()):
            if until_s <= now_s:
                del self._refused_until_s[key]
                self._to_ask.append([key])

    def _refuse(self, key: Key, reason: str) -> None:
        self._refused_until_s[key] = time.monotonic() + REFUSED_PAUSE_S
        self._stream.log.error(
            f"subscription to the {key.kind} of {key.symbol} refused: {reason}; asked again in {REFUSED_PAUSE_S:.0f} s",
            exchange=self._stream.exchange.id,
            symbol=key.symbol,
        )
        self._stream.sink.on_refused(key.symbol, key.kind, reason)

    # silence

    async def _watch(self) -> None:
        """Ends the connection when it is silent for too long while we do read."""
        client = self._client
        gate = self._stream.gate
        watch = SilenceWatch(self._venue.silence, time.monotonic())
        while True:
            await asyncio.sleep(_TICK_S)
            if not gate.is_open:
                client.lastPong = _now_ms()  # ccxt must not miss pongs that wait unread
                continue
            fault = watch.fault(time.monotonic(), self._data_frames, client.last_frame_s, gate.opened_s)
            if fault is not None:
                client.on_error(_NetworkError(f"stale: {fault}"))
                return

    # announcing

    async def _confirm_all(self) -> None:
        """Announces acknowledged subscriptions with a venue time asked after the acknowledgement."""
        while True:
            await self._confirm.wait()
            await asyncio.sleep(0.05)  # many acknowledgements, one question
            self._confirm.clear()
            keys, self._unconfirmed = self._unconfirmed, set()
            venue_us = await self._time_asked_now()
            for key in keys - self._unconfirmed:
                self._announce(key, venue_us)

    async def _time_asked_now(self) -> int:
        for attempt in count():
            with contextlib.suppress(ExchangeError, TimeoutError):
                return await self._ask_time()
            await asyncio.sleep(min(_CONFIRM_PAUSE_S, 0.5 * 2**attempt))
        raise AssertionError("unreachable")

    async def _ask_time(self) -> int:
        request_id = next(self._request_ids)
        message = self._venue.ping(request_id)
        if message is None:
            return await self._stream.time_of_venue()
        pong = self._pongs[request_id] = asyncio.get_running_loop().create_future()
        try:
            await self._send(message)
            venue_us = await asyncio.wait_for(pong, ACK_TIMEOUT_S)
        finally:
            del self._pongs[request_id]
        return await self._stream.time_of_venue() if venue_us is None else venue_us + 1

    def _announce(self, key: Key, venue_us: int) -> None:
        self._live.add(key)
        self._was_live = True
        self._stream.sink.on_subscribed(key.symbol, key.kind, venue_us)

    def _interrupt(self, keys: Collection[Key], reason: str) -> None:
        for key in keys:
            self._live.discard(key)
            self._stream.sink.on_interrupted(key.symbol, key.kind, reason)

    def _lost(self, keys: Collection[Key], reason: str) -> None:
        """Something of these was in a frame that cannot be used: their stretch ends here and a new one begins."""
        self._interrupt(self._live.intersection(keys), reason)
        self._unconfirmed.update(self._acknowledged.intersection(keys))
        if self._unconfirmed:
            self._confirm.set()

    # frames

    def _on_text(self, text: str) -> bool:
        """One raw frame. False: not ours, ccxt may know it. Raises for a frame that cannot be read."""
        self._stream.counters.frames += 1
        events = self._venue.parse(text)
        if events is None:
            self._data_frames += 1
            return False
        for event in events:
            if isinstance(event, Pong):
                self._on_pong(event)
                continue
            self._data_frames += 1
            if isinstance(event, (TradeRows, CandleRow, BadRow)):
                lost = self._stream.incoming.deliver(event)
                if lost is not None:
                    self._lost(self._keys_of(event.wire, lost.kind), f"a {lost.noun} could not be used: {lost.reason}")
            elif isinstance(event, Ack):
                self._on_ack(event)
            elif isinstance(event, Refusal):
                self._on_refusal(event)
            elif event.venue_us is not None:
                self._stream.incoming.observe(event.venue_us)
        return True

    def _keys_of(self, wire: str | None, kind: Kind) -> Collection[Key]:
        """The subscriptions that a row may belong to: all of its kind when it does not name a market that we know."""
        symbol = None if wire is None else self._stream.symbols.get(wire)
        return [key for key in self._keys if key.kind == kind and symbol in (None, key.symbol)]

    def _on_fault(self, text: str, error: Exception) -> None:
        self._stream.incoming.reject_frame(text, error)
        self._lost(self._keys, f"a frame could not be read: {type(error).__name__}")

    def _on_pong(self, pong: Pong) -> None:
        self._client.lastPong = _now_ms()
        if pong.venue_us is not None:
            self._stream.incoming.observe(pong.venue_us)
        waiting = None if pong.request_id is None else self._pongs.get(pong.request_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(pong.venue_us)

    def _answered(self, request_id: int | None, wire: str | None, kind: Kind | None) -> Iterator[Key]:
        """Takes the subscriptions that an answer speaks of from the requests on their way."""
        symbol = None if wire is None else self._stream.symbols.get(wire, wire)
        for asked_id in list(self._asked) if request_id is None else (request_id,):
            asked = self._asked.get(asked_id, Asked([], 0.0))
            self._answers += 1
            for key in [key for key in asked.keys if symbol in (None, key.symbol) and kind in (None, key.kind)]:
                asked.keys.remove(key)
                yield key
            if not asked.keys:
                self._asked.pop(asked_id, None)

    def _on_ack(self, ack: Ack) -> None:
        for key in list(self._answered(ack.request_id, ack.wire, ack.kind)):
            self._acknowledged.add(key)
            if ack.venue_us is None:
                self._unconfirmed.add(key)
                self._confirm.set()
            else:
                self._stream.incoming.observe(ack.venue_us)
                self._announce(key, ack.venue_us + 1)  # times are floored: a trade just before may carry the same one

    def _on_refusal(self, refusal: Refusal) -> None:
        keys = list(self._answered(refusal.request_id, refusal.wire, refusal.kind))
        if len(keys) > 1:
            half = len(keys) // 2
            self._to_ask.extendleft((keys[half:], keys[:half]))
        elif keys:
            self._refuse(keys[0], refusal.reason)


def _reason(keeper: Any, helpers: Sequence[asyncio.Task[None]]) -> str:
    """Why a session ended."""
    for ended in (keeper, *helpers):
        if ended.done() and not ended.cancelled() and ended.exception() is not None:
            error = ended.exception()
            if not isinstance(error, _BaseError):
                raise error
            return f"{type(error).__name__}: {first_line(error)}"
    return "closed"


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _now_ms() -> int:
    return int(time.time() * 1000)
