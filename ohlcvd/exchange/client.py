"""ccxt's WebSocket client and exchange classes, made safe: nothing that a venue sends can end the reading.

ccxt's `Client.receive_loop` empties the receive buffer without yielding, so its caches overflow, and an exception in
a message handler ends it silently: the waiting `watch_*` then hangs for ever. `StreamClient` takes its place under
ccxt's own `open`, `send` and `close`:

- one reader task for each connection; it takes at most AT_ONCE frames that wait already in one go, then yields, and
  stops while the gate is shut, so that the socket itself fills up and the venue waits (TCP), and nothing is dropped;
- the raw texts of the frames taken in one go are offered to `gather` together, which yields those that it leaves;
- the raw text of each of these goes to `tap`; only what the tap does not take is decoded and handed to ccxt;
- `pause` is called behind the frames taken in one go, before anything else may run: rows may be gathered until then;
- an exception in either is reported to `on_fault` and reading goes on;
- every task it starts is kept and ended by `shut`.

`exchange_class` makes the subclass of a ccxt exchange that uses it and decodes JSON without losing a digit.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import aiohttp

from ohlcvd.exchange import loading
from ohlcvd.exchange.allowance import Allowance, Charge
from ohlcvd.exchange.exact import Unread, decode
from ohlcvd.rhythm import until_beat

_Client: Any = loading.ccxt_name("ccxt.async_support.base.ws.client", "Client")
_BaseError: Any = loading.ccxt_name("ccxt.base.errors", "BaseError")
_NetworkError: Any = loading.ccxt_name("ccxt.base.errors", "NetworkError")
_RequestTimeout: Any = loading.ccxt_name("ccxt.base.errors", "RequestTimeout")

AT_ONCE = 1000  # frames; some 5 ms
_TEXT = aiohttp.WSMsgType.TEXT
# aiohttp looks every 2 s for TLS connections that did not end properly; each look wakes up a process that is idle.
_LEFTOVERS_S = 60.0
# Some venues end a connection on which a ping comes before the first question.
_FIRST_PING_S = 1.0
_CLOSE_S = 1.0  # how long a closing handshake may take; aiohttp's own 10 s would hold every shutdown


class Gate:
    """Open: reading goes on. Shut: no frame is taken from any connection that has this gate."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.opened_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        if not self._open.is_set():
            self.opened_s = time.monotonic()
            self._open.set()

    async def wait(self) -> None:
        """Until it is open. Those who wait are woken together, and the first may shut it again: the others then go on
        waiting, or each of many connections would read on."""
        while not self.is_open:
            await self._open.wait()


class _QuickClose:
    """An aiohttp session whose WebSockets do not wait long for the other side's goodbye."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.cookie_jar = session.cookie_jar

    def ws_connect(self, url: str, **options: Any) -> Any:
        return self._session.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S), **options)


class StreamClient(_Client):  # type: ignore[misc]
    """One WebSocket. Made by giving ccxt's client this class before it connects; see `adopt`."""

    gate: Gate
    gather: Callable[[Sequence[str]], Iterable[str]]
    tap: Callable[[str], bool]
    frames: int  # that were not gathered
    pause: Callable[[], None]
    on_fault: Callable[[str, Exception], None]
    last_frame_s: float
    is_gone: bool
    connecting: bool
    tasks: set[asyncio.Task[Any]]

    def adopt(self, gate: Gate, tap: Callable[[str], bool], on_fault: Callable[[str, Exception], None]) -> None:
        self.gate = gate
        self.gather = _all
        self.tap = tap
        self.pause = _nothing
        self.on_fault = on_fault
        self.frames = 0
        self.last_frame_s = time.monotonic()
        self.is_gone = False
        self.tasks = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.asyncio_loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def connect(self, session: Any, backoff_delay: float = 0) -> Any:
        if not self.connection and not self.connecting:
            self.connecting = True
            self.start(self.open(session, backoff_delay))
        return self.connected

    def create_connection(self, session: aiohttp.ClientSession) -> Any:
        return super().create_connection(_QuickClose(session))

    def receive_loop(self) -> None:
        self.start(self._read())

    async def _read(self) -> None:
        try:
            while not self.closed():
                message = await self.connection.receive()
                if not self.gate.is_open:
                    await self.gate.wait()
                self.last_frame_s = time.monotonic()
                # While much waits, a pong stands behind it for longer than ccxt waits: whatever came shows life.
                self.lastPong = time.time_ns() // 1_000_000
                waiting: Any = getattr(self.connection._reader, "_buffer", ())
                try:
                    if message.type is _TEXT:
                        texts = [message.data]
                        await self._take_waiting(waiting, texts)
                        for text in self.gather(texts):
                            self._take(text)
                    else:
                        self.handle_message(message)
                finally:
                    self._pause()
                if waiting:
                    await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 the reader's edge: whatever ended it must end the connection visibly
            self.on_error(_NetworkError(f"reading failed: {type(error).__name__}: {error}"))
            return
        if not self.error:
            self.on_close(1006)

    async def _take_waiting(self, waiting: Any, texts: list[str]) -> None:
        """Add the frames that are here already: nobody else gets a turn, and all that `receive` adds is not needed."""
        read = self.connection._reader.read
        while waiting and waiting[0][0][0] is _TEXT and len(texts) < AT_ONCE:
            texts.append((await read())[1])

    def _pause(self) -> None:
        try:
            self.pause()
        except Exception as error:  # noqa: BLE001 no row, however wrong, may end the reading
            self.on_fault("", error)

    def handle_message(self, message: Any) -> None:
        if message.type is _TEXT:
            self._take(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            try:
                super().handle_message(message)
            except Exception as error:  # noqa: BLE001 no frame, however wrong, may end the reading
                self.on_fault(str(message.data), error)
        elif message.type is aiohttp.WSMsgType.PING:
            self.start(self._pong(message.data))
        else:
            super().handle_message(message)

    def _take(self, text: str) -> None:
        self.frames += 1
        try:
            if not self.tap(text):
                self.on_message_callback(self, decode(text) if text.lstrip()[:1] in ("{", "[") else text)
        except Exception as error:  # noqa: BLE001 no frame, however wrong, may end the reading
            self.on_fault(text, error)

    def handle_text_or_binary_message(self, data: Any) -> None:
        text = data.decode() if self.decompressBinary and isinstance(data, bytes) else data
        if isinstance(text, str):
            self._take(text)
        else:
            self.on_message_callback(self, text)

    async def ping_loop(self) -> None:
        """What ccxt's does, in step with all else that is done again and again."""
        await asyncio.sleep(_FIRST_PING_S)
        while self.keepAlive and not self.closed():
            await until_beat(self.keepAlive / 1000)
            now_ms = time.time_ns() // 1_000_000
            self.lastPong = self.lastPong or now_ms
            if self.lastPong + self.keepAlive * self.maxPingPongMisses < now_ms:
                self.on_error(_RequestTimeout(f"{self.url} does not answer pings"))
                return
            try:
                await (self.send(self.ping(self)) if self.ping else self.connection.ping())
            except Exception as error:  # noqa: BLE001 ccxt's own messages may fail with anything
                if not self.closed():
                    self.on_error(_NetworkError(f"sending a ping failed: {type(error).__name__}: {error}"))
                return

    async def _pong(self, data: bytes) -> None:
        try:
            await self.connection.pong(data)
        except (ConnectionError, aiohttp.ClientError):
            pass  # the connection is closing; the reader sees that and reports it

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.reject(error)
        self.on_error_callback(self, error)
        if not self.closed():
            self.start(self.close(1006))

    def on_close(self, code: int) -> None:
        if self.is_gone:
            return  # by then ccxt may know a new connection under this address
        self.is_gone = True
        if not self.error:
            self.reject(_NetworkError(f"connection closed by the server, code {code}"))
        self.on_close_callback(self, code)
        self.start(self.aiohttp_close())

    async def shut(self) -> None:
        """Close the connection and end every task of this client; takes at most about a second."""
        for future in self.futures.values():
            future.cancel()
        current = asyncio.current_task()
        tasks = [task for task in (*self.tasks, self.ping_looper) if task is not None and task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.connection is not None:
            await self.connection.close()


def _all(texts: Sequence[str]) -> Iterable[str]:
    """Nothing is gathered."""
    return texts


def _nothing() -> None:
    """What a pause is where nothing is gathered."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says; ccxt likes to add whole pages."""
    return next(iter(str(error).splitlines()), "") or "no reason given"


def why_ended(parts: Iterable[asyncio.Future[Any]]) -> str:
    """Why a connection ended: the first error of its parts. Raises it when it is none of ccxt's."""
    for part in parts:
        error = part.exception() if part.done() and not part.cancelled() else None
        if isinstance(error, _BaseError):
            return f"{type(error).__name__}: {first_line(error)}"
        if error is not None:
            raise error
    return "closed"


_leaves_rows: ContextVar[bool] = ContextVar("ohlcvd_leaves_rows", default=False)


@contextmanager
def rows_unread() -> Iterator[None]:
    """Answers that are rows of rows come as `Unread` to the question that is asked in here; all others are decoded."""
    token = _leaves_rows.set(True)
    try:
        yield
    finally:
        _leaves_rows.reset(token)


@cache
def exchange_class(name: str) -> Any:
    """The ccxt class of an exchange with `StreamClient` connections and exact numbers.

    Its instances need `gate`, `tap`, `on_fault` and `on_end` before the first connection, `allowance` before the first
    question; ccxt's own limiter is not used.
    """
    base = loading.venue_class(name)

    class Venue(base):  # type: ignore[misc, valid-type]
        gate: Gate
        tap: Callable[[str], bool]  # for connections that ccxt opens; returns whether it took the frame
        on_fault: Callable[[str, Exception], None]
        on_end: Callable[[str], None]  # a connection has ended, why
        allowance: Allowance

        def open(self, lazy: bool = False) -> None:
            super().open(lazy)
            if self.tcp_connector is not None:
                self.tcp_connector._cleanup_closed_period = _LEFTOVERS_S

        def client(self, url: str) -> Any:
            known = url in (self.clients or {})
            client = super().client(url)
            if not known:
                client.__class__ = StreamClient
                client.adopt(self.gate, self.tap, self.on_fault)
            return client

        def calculate_rate_limiter_cost(
            self, api: Any, method: Any, path: Any, params: Any, config: Any = None
        ) -> Charge:
            # ccxt hands this on to `throttle` as it is
            cost = super().calculate_rate_limiter_cost(api, method, path, params, config or {})
            return self.allowance.charge(path, params, float(cost))

        async def throttle(self, cost: Any = None) -> None:
            await self.allowance.turn(Charge(0.0, None) if cost is None else cost)

        def on_error(self, client: Any, error: Exception) -> None:
            super().on_error(client, error)
            self.on_end(f"{type(error).__name__}: {first_line(error)}")

        def on_close(self, client: Any, code: int) -> None:
            super().on_close(client, code)
            self.on_end(f"connection closed, code {code}")

        def parse_json(self, http_response: Any) -> Any:
            try:
                if base.is_json_encoded_object(http_response):
                    is_left = _leaves_rows.get() and http_response.startswith("[[")
                    return Unread(http_response) if is_left else decode(http_response)
            except (ValueError, RecursionError):
                pass  # as ccxt does: an answer that is no JSON comes back as text, and the caller refuses it
            return None

    # Loggers and messages of ccxt name the class.
    Venue.__name__ = Venue.__qualname__ = name
    return Venue
