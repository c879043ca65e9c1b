"""What a parent tells a running child: one JSON document per message over a socket pair, parent to child only.

The socket keeps messages whole (SOCK_SEQPACKET), and nobody ever waits: a child that does not read loses nothing but
its own changes, because a parent that cannot send starts it again with the new configuration instead. The parent has
parsed and checked what it sends; the child never reads a configuration file again, so all processes agree on it.
"""

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass

MESSAGE_BYTES = 128 * 1024  # below the smallest usual send buffer; 10,000 symbols


@dataclass(frozen=True, slots=True)
class Update:
    """What has changed; None is "as before"."""

    symbols: tuple[str, ...] | None = None  # of this child's exchange: names and globs, as configured
    log_level: str | None = None
    children: tuple[str, ...] | None = None  # for the monitor: the collecting children that there are now


class CommandReceiver:
    """The child's end. Watch `fileno()` for reading (`loop.add_reader(commands, ...)`), then call `read`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.closed = False

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give back the descriptor."""
        self._socket.close()

    def read(self) -> list[Update]:
        """What has arrived, oldest first; never waits. Empty also when the parent is gone (the child ends by itself).

        The caller stops watching when `closed` is true: a closed socket is readable for ever.
        """
        updates: list[Update] = []
        while True:
            try:
                message = self._socket.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return updates
            if not message:
                self.closed = True
                return updates
            updates.append(_decode(message))


class CommandSender:
    """The parent's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def send(self, update: Update) -> bool:
        """False when the child did not take it: it does not read, or there is too much to say."""
        message = _encode(update)
        if len(message) > MESSAGE_BYTES:
            return False
        try:
            self._socket.send(message)
        except OSError:  # full, or the child is gone
            return False
        return True

    def close(self) -> None:
        """Give back the descriptor."""
        self._socket.close()


def command_pair() -> tuple[CommandSender, CommandReceiver]:
    """Both ends. OSError if there is no descriptor."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    return CommandSender(ours), CommandReceiver(theirs)


def _encode(update: Update) -> bytes:
    document = {name: getattr(update, name) for name in Update.__slots__ if getattr(update, name) is not None}
    return json.dumps(document, separators=(",", ":")).encode()


def _decode(message: bytes) -> Update:
    document = json.loads(message)
    return Update(_names(document.get("symbols")), document.get("log_level"), _names(document.get("children")))


def _names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
