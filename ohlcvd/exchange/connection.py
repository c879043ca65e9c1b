"""One WebSocket through all its reconnects: opens it, asks for its subscriptions, judges its silence, opens it again.

What a collector may rely on, for each (symbol, kind): `on_subscribed` comes only after the venue has acknowledged this
subscription, with a venue time from which on nothing is left out; `on_interrupted` comes at once when the connection
ends or a frame could not be used; then `on_subscribed` again. A subscription that alone falls silent while the others
go on is doubted (`on_doubted`) and asked anew. One refused subscription is reported, asked again after a pause, and
does not touch the others: where the venue refuses whole requests, the request is halved until the culprit stands alone.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import aiohttp

from ohlcvd.errors import ExchangeError
from ohlcvd.exchange import loading
from ohlcvd.exchange.client import first_line, why_ended
from ohlcvd.exchange.incoming import Lost
from ohlcvd.exchange.pacing import SPREAD_S, Backoff, FlowWatch, SilenceWatch
from ohlcvd.exchange.shared import Shared
from ohlcvd.exchange.subscriptions import Key, Subscriptions
from ohlcvd.exchange.venue import Ack, BadRow, CandleRow, Event, Gathered, Pong, Question, Refusal, TradeRows
from ohlcvd.market import Kind
from ohlcvd.rhythm import until_beat

_NetworkError: Any = loading.ccxt_name("ccxt.base.errors", "NetworkError")
_BaseError: Any = loading.ccxt_name("ccxt.base.errors", "BaseError")

ACK_TIMEOUT_S = 15.0  # for one subscription
NO_ACK_TIMEOUT_S = 5.0  # for the first of a connection; without any the connection is as good as dead
_TICK_S = 1.0
_NEAR_S = 2.0  # before a silence is too long one looks twice as often
_LATE_S = 0.5
_CONFIRM_PAUSE_S = 10.0  # the longest pause between questions for the venue's time
# Subscriptions are held against each other: one is judged silent only while another of its kind had data so recently.
_OTHERS_S = 5.0


class Connection:
    """The subscriptions of one WebSocket, through all its reconnects."""

    def __init__(self, shared: Shared, number: int) -> None:
        self.number = number
        self.subscriptions = Subscriptions(shared.venue.symbols_per_request)
        self._stream = shared
        self._venue = shared.venue  # while there is a session, its own
        self._backoff = Backoff()
        self._ever_open = False
        self._client: Any = None
        self._flows: dict[Key, FlowWatch] = {}
        self._reset()

    def _reset(self) -> None:
        """Forget what belonged to the last session."""
        self._venue = self._stream.venue.session()
        self.subscriptions.end()
        self._live: set[Key] = set()  # announced by on_subscribed
        self._was_live = False
        self._unconfirmed: set[Key] = set()  # acknowledged, or interrupted by a bad frame: wait for a venue time
        self._confirm = asyncio.Event()
        self._pongs: dict[int, asyncio.Future[int | None]] = {}
        self._data_frames = 0
        self._gathered = Gathered()  # only while frames are read
        self._row_s: dict[Kind, float] = {}  # when there was data of any subscription

    def remove(self, keys: Collection[Key]) -> None:
        """Not wanted any more; nothing is announced of them from now on."""
        self.subscriptions.remove(keys)
        self._live.difference_update(keys)
        self._unconfirmed.difference_update(keys)
        for key in keys:
            self._flows.pop(key, None)

    async def run(self) -> None:
        """Sessions, one after the other, until cancelled."""
        await asyncio.sleep(self.number * SPREAD_S)
        while True:
            began_s = time.monotonic()
            reason = await self._session()
            ended_s = time.monotonic()
            self._backoff.ended(self._was_live, ended_s - began_s, ended_s)
            pause_s = self._backoff.pause_s(random.random(), len(self._stream.numbers))
            self._stream.counters.cut(self.number, reason, _now_ms() * 1000, pause_s)
            self._stream.log.warning(
                f"connection {self.number} ended: {reason}; connecting again in {pause_s:.1f} s",
                exchange=self._stream.exchange.id,
                subscriptions=len(self.subscriptions.wanted),
            )
            await asyncio.sleep(pause_s)

    async def _session(self) -> str:
        """One connection from opening to end; why it ended. The keeper is a future that only an end can finish."""
        self._reset()
        exchange = self._stream.exchange
        await exchange.allowance.silence()
        try:
            url = await self._venue.dial(exchange, self.number)
        except (_BaseError, KeyError, IndexError, TypeError) as error:
            return f"no address to connect to: {type(error).__name__}: {first_line(error)}"
        (getattr(exchange, "ws_dial_backoff", None) or {}).pop(url, None)  # the pause is ours to choose
        keeper = exchange.watch_multiple(url, ["ohlcvd"])
        client = exchange.clients[url]
        client.gather, client.tap, client.pause = self._on_texts, self._on_text, self._deliver_gathered
        client.on_fault = self._on_fault
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
            reason = why_ended((keeper, *helpers))
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
        self.subscriptions.begin(time.monotonic())

    # asking

    async def _ask(self) -> None:
        """Sends what there is to ask, at the venue's pace, and looks after answers that stay away."""
        while True:
            request = self.subscriptions.next()
            if request is None:
                await until_beat(_TICK_S)
                self._look_after(time.monotonic())
                continue
            number = self.subscriptions.number()
            wires = [self._stream.wires[key.symbol] for key in request.keys]
            build = self._venue.subscribe if request.act == "subscribe" else self._venue.unsubscribe
            message = build(request.keys[0].kind, wires, number)
            self.subscriptions.sent(request, number, time.monotonic())
            if message is not None:
                await self._send(message)
                await asyncio.sleep(self._venue.request_pace_s)

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._client.send(message)
        except (OSError, RuntimeError, aiohttp.ClientError) as error:
            self._client.on_error(_NetworkError(f"sending failed: {type(error).__name__}: {error}"))

    def _look_after(self, now_s: float) -> None:
        gate, subscriptions = self._stream.gate, self.subscriptions
        for number in subscriptions.unanswered if gate.is_open else ():
            waited_s = subscriptions.waiting_s(number, now_s, gate.opened_s)
            if not subscriptions.answers and waited_s > NO_ACK_TIMEOUT_S:
                self._client.on_error(_NetworkError(f"no subscription answered within {NO_ACK_TIMEOUT_S:.0f} s"))
                return
            if waited_s >= ACK_TIMEOUT_S:
                for key in subscriptions.give_up(number):
                    self._refuse(key, f"no acknowledgement within {ACK_TIMEOUT_S:.0f} s")
        subscriptions.retry(now_s)

    def _refuse(self, key: Key, reason: str) -> None:
        pause_s = self.subscriptions.refused(key, time.monotonic(), random.random())
        self._stream.log.error(
            f"subscription to the {key.kind} of {key.symbol} refused: {reason}; asked again in {pause_s:.0f} s",
            exchange=self._stream.exchange.id,
            symbol=key.symbol,
        )
        self._stream.sink.on_refused(key.symbol, key.kind, reason)

    # silence

    async def _watch(self) -> None:
        """Ends the connection when it is silent for too long while we do read."""
        client, gate, silence = self._client, self._stream.gate, self._venue.silence
        excused_s = ticked_s = time.monotonic()
        watch, seen = SilenceWatch(silence, ticked_s), -1
        while True:
            # how often there is data is counted in looks, where that matters and while there is any
            flows, seen = silence.quiet_s is not None and seen != self._data_frames, self._data_frames
            near = flows or ticked_s - client.last_frame_s > silence.any_s - _NEAR_S
            late_s, ticked_s = await until_beat(_TICK_S / 2 if near else _TICK_S), time.monotonic()
            if late_s > _LATE_S:  # it was us who did not run: what waits unread is no silence
                excused_s = ticked_s
            if not gate.is_open:
                client.lastPong = _now_ms()  # ccxt must not miss pongs that wait unread
                continue
            excused_until_s = max(gate.opened_s, excused_s)
            fault = watch.fault(ticked_s, self._data_frames, client.last_frame_s, excused_until_s)
            if fault is not None:
                client.on_error(_NetworkError(f"stale: {fault}"))
                return
            self._doubt_the_silent(time.monotonic())

    def _doubt_the_silent(self, now_s: float) -> None:
        """A subscription that alone has no data any more is asked anew: the venue may have forgotten it."""
        flowing = {kind for kind, row_s in self._row_s.items() if now_s - row_s < _OTHERS_S}
        for key, flow in self._flows.items():
            if key.kind not in flowing or key not in self._live:
                continue
            silent_s = flow.silent_s(now_s, self._stream.gate.opened_s)
            if silent_s is None:
                continue
            flow.alarmed()
            reason = f"no data for {silent_s:.0f} s while others go on"
            self._stream.log.warning(
                f"{key.kind} of {key.symbol}: {reason}; subscribing anew",
                exchange=self._stream.exchange.id,
                symbol=key.symbol,
            )
            self._live.discard(key)
            self._stream.sink.on_doubted(key.symbol, key.kind, reason)
            self.subscriptions.renew([key])

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
        request_id = self.subscriptions.number()
        message = self._venue.ping(request_id)
        if message is None:
            return await self._stream.time_of_venue()
        pong = self._pongs[request_id] = asyncio.get_running_loop().create_future()
        try:
            await self._send(message)
            async with asyncio.timeout(ACK_TIMEOUT_S):  # not wait_for, which can forget a cancellation in Python 3.11
                venue_us = await pong
        finally:
            del self._pongs[request_id]
        return await self._stream.time_of_venue() if venue_us is None else venue_us + 1

    def _announce(self, key: Key, venue_us: int) -> None:
        if key not in self.subscriptions.wanted:
            return  # removed while the venue was asked for its time
        self._live.add(key)
        self._was_live = True
        self._flows.setdefault(key, FlowWatch()).resumed(time.monotonic())
        self._stream.counters.whole(self.number)
        self._stream.sink.on_subscribed(key.symbol, key.kind, venue_us)

    def _interrupt(self, keys: Collection[Key], reason: str) -> None:
        for key in keys:
            self._live.discard(key)
            self._stream.sink.on_interrupted(key.symbol, key.kind, reason)

    def _lost(self, keys: Collection[Key], reason: str) -> None:
        """Something of these was in a frame that cannot be used: their stretch ends here and a new one begins."""
        self._interrupt(self._live.intersection(keys), reason)
        self._unconfirmed.update(self.subscriptions.acknowledged.intersection(keys))
        if self._unconfirmed:
            self._confirm.set()

    # frames

    def _on_texts(self, texts: Sequence[str]) -> Iterator[str]:
        """Raw frames that came together: gathers the live trades and yields the others, each in its place."""
        gathered = len(texts)
        for text in self._venue.gather(texts, self._gathered):
            gathered -= 1
            yield text
        self._stream.counters.frames += gathered
        self._data_frames += gathered

    def _on_text(self, text: str) -> bool:
        """One raw frame; none is left to ccxt, which would act on some. Raises for a frame that cannot be read.

        Live trades wait for their followers, until the reader pauses or anything else is to be told.
        """
        self._stream.counters.frames += 1
        events = self._venue.parse(text)
        if events is None:
            self._data_frames += 1
            self._stream.incoming.unread(text)
            return True
        for event in events:
            if type(event) is TradeRows and type(event.wire) is str and not event.snapshot:
                self._data_frames += 1
                self._gathered.add(event)
            else:
                self._deliver_gathered()
                self._on_event(event)
        return True

    def _deliver_gathered(self) -> None:
        trades, venue_us = self._gathered.take()
        if not trades:
            return
        self._note_flow(trades, "trades")
        for wire, lost in self._stream.incoming.deliver_live(trades):
            self._on_lost(wire, lost)
        if venue_us is not None:
            self._stream.incoming.observe(venue_us)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Pong):
            self._on_pong(event)
            return
        self._data_frames += 1
        if isinstance(event, (TradeRows, CandleRow, BadRow)):
            self._deliver(event)
        elif isinstance(event, Ack):
            self._on_ack(event)
        elif isinstance(event, Refusal):
            self._on_refusal(event)
        elif isinstance(event, Question):
            self._client.start(self._send(event.answer))
        elif event.venue_us is not None:
            self._stream.incoming.observe(event.venue_us)

    def _deliver(self, event: TradeRows | CandleRow | BadRow) -> None:
        if not isinstance(event, BadRow):
            self._note_flow((event.wire,), "trades" if isinstance(event, TradeRows) else "candles")
        lost = self._stream.incoming.deliver(event)
        if lost is not None:
            self._on_lost(event.wire, lost)

    def _on_lost(self, wire: str | None, lost: Lost) -> None:
        self._lost(self._keys_of(wire, lost.kind), f"a {lost.noun} could not be used: {lost.reason}")

    def _keys_of(self, wire: str | None, kind: Kind) -> Collection[Key]:
        """The subscriptions that a row may belong to: all of its kind when it does not name a market that we know."""
        symbol = self._stream.names.get(wire) if type(wire) is str else None
        return [key for key in self.subscriptions.wanted if key.kind == kind and symbol in (None, key.symbol)]

    def _note_flow(self, wires: Iterable[str], kind: Kind) -> None:
        now_s = self._row_s[kind] = self._client.last_frame_s
        names, flows = self._stream.names, self._flows
        for wire in wires:
            flow = flows.get((names.get(wire, ""), kind))  # type: ignore[call-overload]  # as Key, in a fifth of its time
            if flow is not None:
                flow.data(now_s)

    def _on_fault(self, text: str, error: Exception) -> None:
        self._deliver_gathered()
        self._stream.incoming.reject_frame(text, error)
        self._lost(self.subscriptions.wanted, f"a frame could not be read: {type(error).__name__}")

    def _on_pong(self, pong: Pong) -> None:
        self._client.lastPong = _now_ms()
        if pong.venue_us is not None:
            self._stream.incoming.observe(pong.venue_us)
        waiting = None if pong.request_id is None else self._pongs.get(pong.request_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(pong.venue_us)

    def _answered(self, request_id: int | None, wire: str | None, kind: Kind | None) -> list[Key]:
        """Takes the subscriptions that an answer speaks of from the requests on their way."""
        symbol = None if wire is None else self._stream.names.get(wire, wire)
        return list(self.subscriptions.answered(request_id, symbol, kind))

    def _on_ack(self, ack: Ack) -> None:
        for key in self._answered(ack.request_id, ack.wire, ack.kind):
            self.subscriptions.accepted(key)
            if ack.venue_us is None:
                self._unconfirmed.add(key)
                self._confirm.set()
            else:
                self._stream.incoming.observe(ack.venue_us)
                self._announce(key, ack.venue_us + 1)  # times are floored: a trade just before may carry the same one

    def _on_refusal(self, refusal: Refusal) -> None:
        keys = self._answered(refusal.request_id, refusal.wire, refusal.kind)
        if len(keys) > 1:
            self.subscriptions.halve(keys)
        elif keys:
            self._refuse(keys[0], refusal.reason)


def _now_ms() -> int:
    return int(time.time() * 1000)
