"""The control socket: one line of JSON asks, one line of JSON answers. Served by the supervisor's own loop.

Nothing a client does can hold the loop up: every socket is non-blocking, requests and the number of clients are
bounded, and a client that is slow to ask or to read is dropped after CLIENT_S seconds. The socket is 0660 and lives in
`run_dir`; paths go through `/proc/self/fd`, because a socket's own path has at most 107 bytes, a `run_dir` maybe more.
"""

import json
import math
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ohlcvd.log import get_component_logger

SOCKET_NAME = "control.sock"
REQUEST_BYTES = 4096
ANSWER_BYTES = 16 * 1024 * 1024
CLIENTS = 16
BACKLOG = 128
DEAF_S = 1.0  # after a failed accept: what cannot be accepted would be reported again at once, and for ever
CLIENT_S = 5.0

Answer = Callable[[Mapping[str, object]], Mapping[str, object]]
Handler = Callable[[float], None]

log = get_component_logger("ohlcvd.supervisor.control")


class ControlServer:
    """Listens in `run_dir`, in the selector of the loop; what it registers there are handlers that take `now`."""

    def __init__(self, run_dir: Path, selector: selectors.BaseSelector, answer: Answer) -> None:
        self._selector = selector
        self._answer = answer
        self._clients: set[_Client] = set()
        self._run_dir = run_dir
        self._listen_at: float | None = None  # deaf until then
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            with _short_path(run_dir) as path:
                try:
                    os.unlink(path)  # a leftover: whoever calls this holds the lock
                except FileNotFoundError:
                    pass
                self._socket.bind(path)
                os.chmod(path, 0o660)
            self._socket.listen(BACKLOG)
        except OSError:
            self._socket.close()
            raise
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def _accept(self, now: float) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:  # no descriptor is free, perhaps
            log.warning("a control client cannot be accepted: %s; it is tried again in %.0f s", error, DEAF_S)
            self._selector.unregister(self._socket)
            self._listen_at = now + DEAF_S
            return
        connection.setblocking(False)
        if len(self._clients) >= CLIENTS:
            oldest = min(self._clients, key=lambda client: client.drop_at)
            self.drop(oldest)
        client = _Client(self, connection, now + CLIENT_S)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client.on_ready)

    def expire(self, now: float) -> float:
        """Drop clients that took too long; when this is to be called again."""
        if self._listen_at is not None and self._listen_at <= now:
            self._listen_at = None
            self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        for client in [client for client in self._clients if client.drop_at <= now]:
            self.drop(client)
        return min((client.drop_at for client in self._clients), default=self._listen_at or math.inf)

    def reply(self, line: bytes) -> bytes:
        """The answer to one request line."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return _line({"error": "the request is not JSON"})
        if not isinstance(request, dict):
            return _line({"error": "the request is not a JSON object"})
        return _line(self._answer(request))

    def writable(self, client: "_Client") -> None:
        """From now on the client waits to be written to."""
        self._selector.modify(client.connection, selectors.EVENT_WRITE, client.on_ready)

    def drop(self, client: "_Client") -> None:
        """Unregister, then close: a closed descriptor must never be in the poll set."""
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()

    def forget(self) -> None:
        """In a forked child: close, and touch neither the selector nor the path, which are the parent's."""
        self._socket.close()
        for client in self._clients:
            client.connection.close()

    def close(self) -> None:
        """Stop listening and remove the path."""
        for client in list(self._clients):
            self.drop(client)
        if self._listen_at is None:
            self._selector.unregister(self._socket)
        self._socket.close()
        (self._run_dir / SOCKET_NAME).unlink(missing_ok=True)


class _Client:
    """One connection: reads one line, writes one line, is closed."""

    def __init__(self, server: ControlServer, connection: socket.socket, drop_at: float) -> None:
        self.connection = connection
        self.drop_at = drop_at
        self._server = server
        self._request = b""
        self._unsent: memoryview | None = None

    def on_ready(self, _now: float) -> None:
        try:
            if self._unsent is None:
                self._read()
            else:
                self._write(self._unsent)
        except BlockingIOError:
            pass
        except OSError:  # reset by the client: its own loss
            self._server.drop(self)

    def _read(self) -> None:
        data = self.connection.recv(REQUEST_BYTES)
        self._request += data
        line, newline, _ = self._request.partition(b"\n")
        if newline:
            self._unsent = memoryview(self._server.reply(line))
            self._server.writable(self)
        elif len(self._request) >= REQUEST_BYTES:
            self._unsent = memoryview(_line({"error": f"a request has at most {REQUEST_BYTES} bytes"}))
            self._server.writable(self)
        elif not data:
            self._server.drop(self)

    def _write(self, unsent: memoryview) -> None:
        self._unsent = unsent[self.connection.send(unsent) :]
        if not self._unsent:
            self._server.drop(self)


def ask(run_dir: Path, request: Mapping[str, object], timeout_s: float = 5.0) -> dict[str, object]:
    """The client's side, blocking: the answer to one request. OSError (TimeoutError) or ValueError if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        with _short_path(run_dir) as path:
            _connect(connection, path, time.monotonic() + timeout_s)
        connection.sendall(_line(request))
        answer = bytearray()
        while not answer.endswith(b"\n"):
            data = connection.recv(65536)
            if not data:
                raise ConnectionResetError("the supervisor closed the control socket without an answer")
            answer += data
            if len(answer) > ANSWER_BYTES:
                raise ValueError(f"an answer of more than {ANSWER_BYTES} bytes")
    document = json.loads(answer)
    if not isinstance(document, dict):
        raise ValueError("the answer is not a JSON object")
    return document


def _connect(connection: socket.socket, path: str, deadline: float) -> None:
    """A queue that is full for the moment answers EAGAIN at once, where a network's socket would wait."""
    while True:
        try:
            return connection.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _line(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


@contextmanager
def _short_path(run_dir: Path) -> Iterator[str]:
    folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)
