"""One client's WebSocket: what it subscribed to, how far each subscription has been served, and the writing.

Trades are not queued: each subscription has a cursor, and the writer takes what lies between the cursor and now as soon
as the socket can take it. A slow client therefore gets everything, later; nothing is dropped and nothing piles up. Only
acks, heartbeats and injected frames stand in a queue, which is bounded: a client that asks without reading is cut off.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from aiohttp import WSMessage, WSMsgType, web

if TYPE_CHECKING:
    from ohlcvd.simulator.venue import Venue

log = logging.getLogger("ohlcvd.simulator")

Channel = Literal["trade", "raw", "candle", "other"]
_MAX_QUEUED = 20_000
_DATA = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)


class Frame(NamedTuple):
    """Text for the client, and the ids of the trades start <= id < end that it reports as new."""

    text: str
    symbol: str = ""
    start: int = 0
    end: int = 0


@dataclass(slots=True)
class Subscription:
    """`name` is the venue's word for it; `cursor` the next trade to report; `minute_us` the minute last reported,
    `reported_mono` when."""

    name: str
    channel: Channel
    symbol: str
    cursor: int = 0
    minute_us: int = 0
    reported_mono: float = 0.0


@dataclass(eq=False)
class Connection:
    """`combined`: Binance's /stream wraps every event in {"stream", "data"}."""

    venue: "Venue"
    ws: web.WebSocketResponse
    request: web.Request
    number: int
    combined: bool = True
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    deaf: bool = False
    gone: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)  # set while nothing is due or being written
    heard: deque[float] = field(default_factory=deque)  # when the latest messages came
    _queue: deque[Frame] = field(default_factory=deque)
    _tasks: set[asyncio.Task[object]] = field(default_factory=set)
    _due: dict[str, None] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, text: str) -> None:
        """Queues a frame that is no subscription's business."""
        self.send_frame(Frame(text))

    def send_frame(self, frame: Frame) -> None:
        if self.gone:
            return
        if len(self._queue) >= _MAX_QUEUED:
            log.warning(
                "%s: client %d reads too slowly, %d frames wait, cut off", self.venue.name, self.number, _MAX_QUEUED
            )
            self.abort()
            return
        self._queue.append(frame)
        self.idle.clear()
        self._wake.set()

    def due(self, name: str) -> None:
        """There may be something new for this subscription."""
        if self.gone:
            return
        self._due[name] = None
        self.idle.clear()
        self._wake.set()

    def ping(self, payload: bytes) -> None:
        self._spawn(self.ws.ping(payload))

    def close_with(self, code: int, reason: bytes) -> None:
        self._spawn(self.ws.close(code=code, message=reason))

    def abort(self) -> None:
        """Cuts the TCP connection: no close frame, unsent data is lost."""
        transport = self.request.transport
        if transport is not None:
            transport.abort()

    async def settled(self, timeout_s: float) -> bool:
        """Waits until everything due is written; False when that took too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.idle.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Serves the client until it goes or is cut."""
        self.idle.set()
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            self._leave()
            for task in (writer, *self._tasks):
                task.cancel()
            await asyncio.gather(writer, *self._tasks, return_exceptions=True)

    def _leave(self) -> None:
        """Nothing is written any more, so nobody may wait for it."""
        self.gone = True
        self.idle.set()

    def _is_cut(self) -> bool:
        transport = self.request.transport
        return transport is None or transport.is_closing()

    def _spawn(self, work: Coroutine[object, object, object]) -> None:
        task = asyncio.create_task(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, work: Coroutine[object, object, object]) -> None:
        try:
            await work
        except (ConnectionError, RuntimeError) as error:
            log.debug("%s: client %d is gone: %s", self.venue.name, self.number, error)

    async def _read(self) -> None:
        while not self._is_cut():
            message = await self.ws.receive()
            if self.deaf:
                await self._ignore(message)
                continue
            if message.type is WSMsgType.TEXT:
                self.venue.received(self, message.data)
            elif message.type is WSMsgType.PING:
                await self.ws.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                break
        if not self.ws.closed and not self._is_cut():
            await self.ws.close()

    async def _ignore(self, message: WSMessage) -> None:
        """Even a goodbye: the client waits for an answer until it gives up and closes the TCP connection."""
        while message.type not in _DATA and not self._is_cut():  # noqa: ASYNC110  (aiohttp has no event for it)
            await asyncio.sleep(0.1)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for frame in self._frames():
                    await self._send(frame)
                if not self._queue and not self._due:
                    self.idle.set()
        except (ConnectionError, RuntimeError) as error:
            # aiohttp raises RuntimeError("Cannot write to closing transport") too
            log.debug("%s: client %d is gone: %s", self.venue.name, self.number, error)
        finally:
            self._leave()

    def _frames(self) -> Iterator[Frame]:
        while self._queue or self._due:
            if self._queue:
                yield self._queue.popleft()
                continue
            name = next(iter(self._due))
            del self._due[name]
            subscription = self.subscriptions.get(name)
            if subscription is not None:
                yield from self.venue.due_frames(self, subscription)

    async def _send(self, frame: Frame) -> None:
        faults = self.venue.faults
        if self.deaf or faults.is_silent():
            return
        for _ in range(faults.copies()):
            await self.ws.send_str(frame.text)
        if frame.start < frame.end:
            self.venue.record(frame)
