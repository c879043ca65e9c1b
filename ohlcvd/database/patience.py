"""No operation waits for ever for a server or a network that says nothing.

Cancelling does not help there: psycopg would wait for the answer to the cancellation. The socket is shut instead, and
to libpq it looks as if the server had closed the connection: the operation raises OperationalError.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection


def sever(connection: AsyncConnection[Any]) -> None:
    """Shut the connection's socket, whatever waits on it."""
    if connection.closed:
        return
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)  # suppressed: it is gone already


@contextmanager
def severed_after(connection: AsyncConnection[Any], limit_s: float) -> Iterator[None]:
    """What is done with the connection in this block takes no longer."""
    watchdog = asyncio.get_running_loop().call_later(limit_s, sever, connection)
    try:
        yield
    finally:
        watchdog.cancel()
