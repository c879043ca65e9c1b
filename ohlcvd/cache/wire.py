"""One connection to Redis: opened, asked, closed, each within a given time. The only module that imports redis.

redis-py's Connection is used directly, without its client, pool and retries: a caller here has one connection, wants to
know at once that it broke, and sends dozens of commands in one piece (a client spends 30-50 us on each).
Any failure of the connection is a ServiceUnavailable that says why; the session is closed by then. A refusal of one
command (wrong type of key, out of memory, not permitted) is a `Refusal` among the replies: the connection is fine.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from ohlcvd.cache import resp
from ohlcvd.cache.keys import Command
from ohlcvd.errors import ConfigError, ServiceUnavailable


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's reason for not executing one command."""

    reason: str


_PIECE_BYTES: Final = 1 << 16

# bytes, int, None, or a list of these; Refusal where the server refused
Reply = Any


class _Abrupt(AbstractConnection):
    """Closes without waiting for the server to read what is still in our buffer: a stopped server never would."""

    async def disconnect(
        self,
        nowait: bool = False,
        error: Exception | None = None,
        failure_count: int | None = None,
        health_check_failed: bool = False,
    ) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(nowait, error, failure_count, health_check_failed)


class _Tcp(_Abrupt, Connection):
    pass


class _Tls(_Abrupt, SSLConnection):
    pass


class _Unix(_Abrupt, UnixDomainSocketConnection):
    pass


_CLASSES: dict[type[AbstractConnection], type[AbstractConnection]] = {
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


class Server:
    """Where Redis is: a redis://, rediss:// or unix:// URL, taken apart once. ConfigError for anything else."""

    def __init__(self, url: str) -> None:
        try:
            options: dict[str, Any] = dict(parse_url(url))
            for unused in ("timeout", "max_connections"):  # of a pool; there is none here
                options.pop(unused, None)
            self._class = _CLASSES.get(options.pop("connection_class", Connection), _Tcp)
            self._options = options | {
                "driver_info": None,  # no CLIENT SETINFO: a narrow ACL may forbid it
                "socket_timeout": None,  # every call here has its own limit
                "protocol": 2,
                "encoding_errors": resp.ODD,
            }
            self._connection()
        except (ValueError, TypeError, RedisError) as error:
            raise ConfigError(f"redis url is not usable: {error}") from error
        if self._class is _Unix:
            self.name = f"unix://{options.get('path', '')}"
        else:
            self.name = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"

    def _connection(self) -> AbstractConnection:
        return self._class(**self._options)

    async def open(self, timeout_s: float) -> "Session":
        """A connection that the server has answered on (a stopped process still accepts). ServiceUnavailable if not."""
        session = Session(self._connection())
        try:
            async with asyncio.timeout(timeout_s):
                await session.connect()
        except TimeoutError:
            await session.close()
            raise ServiceUnavailable(f"no answer within {timeout_s:g} s") from None
        except BaseException:
            await session.close()
            raise
        return session


class Session:
    """An open connection. One request at a time."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    async def connect(self) -> None:
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
            await self._ask([("PING",)])
        except (RedisError, OSError) as error:
            raise ServiceUnavailable(reason_of(error)) from error

    async def request(self, commands: Sequence[Command], timeout_s: float) -> list[Reply]:
        """One reply for each command, in order. Whatever stops this halfway closes the connection."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask(commands)
        except TimeoutError:
            await self.close()
            raise ServiceUnavailable(f"no answer within {timeout_s * 1000:.0f} ms") from None
        except (RedisError, OSError) as error:
            await self.close()
            raise ServiceUnavailable(reason_of(error)) from error
        except BaseException:
            await self.close()  # a reply is still on its way: the next request would take it for its own
            raise

    async def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        if resp.are_entries(commands):
            return await self._append(commands)
        connection = self._connection
        await connection.send_packed_command(resp.pack(commands), check_health=False)
        replies: list[Reply] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except AuthenticationError:
                raise
            except ResponseError as error:
                replies.append(Refusal(str(error)))
        return replies

    async def _append(self, entries: Sequence[Command]) -> list[Reply]:
        """`_ask` of stream entries, in a fraction of the time."""
        reader, data = self._connection._reader, b""
        if reader is None:
            raise ConnectionError("connection is closed")
        await self._connection.send_packed_command(resp.pack_entries(entries), check_health=False)
        while (found := resp.replies(data, len(entries))) is None:
            piece = await reader.read(_PIECE_BYTES)
            if not piece:
                raise ConnectionError("connection closed by server")
            data += piece
        return [self._refusal(reply) if reply[:1] == b"-" else reply for reply in found]

    def _refusal(self, reply: bytes) -> Refusal:
        """Raises what is a fault of the connection."""
        parser: Any = self._connection._parser
        error = parser.parse_error(reply[1:].decode("utf-8", "replace"))
        if isinstance(error, AuthenticationError) or not isinstance(error, ResponseError):
            raise error
        return Refusal(str(error))

    async def close(self) -> None:
        await self._connection.disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def reason_of(error: BaseException) -> str:
    """Why, in the server's or the system's words, on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
