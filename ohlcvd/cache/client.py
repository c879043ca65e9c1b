"""A connection for those who wait for their answer: opened when first needed, and again after it broke.

In contrast to `Link`, failure is the caller's to handle: every method raises ServiceUnavailable with the reason.
"""

import asyncio
from types import TracebackType
from typing import Self

from ohlcvd.cache.keys import Command
from ohlcvd.cache.wire import Refusal, Reply, Server, Session
from ohlcvd.config import Config
from ohlcvd.errors import ServiceUnavailable

ANSWER_S = 2.0


def configured_url(config: Config) -> str:
    """The Redis that the configuration names; an embedded one is found by its socket below `state_dir`."""
    if config.redis_url != "embedded":
        return config.redis_url
    address = config.state_dir.absolute() / "valkey.socket" / "valkey.sock"
    if not address.is_socket():
        raise ServiceUnavailable(f"the embedded valkey is not running, there is no {address}; start ohlcvd first")
    return f"unix://{address}"


class Client:
    """Base of the readers and of the records for other programs. Usable by several tasks of one loop."""

    def __init__(self, url: str | None = None, *, timeout_s: float = ANSWER_S) -> None:
        """Without a URL, Redis is the configured one."""
        self._server = Server(url if url is not None else configured_url(Config()))
        self._timeout_s = timeout_s
        self._session: Session | None = None
        self._turn = asyncio.Lock()

    async def request(self, *commands: Command) -> list[Reply]:
        """One reply for each command. Raises ServiceUnavailable, also when the server refuses one of them."""
        async with self._turn:
            try:
                if self._session is None:
                    self._session = await self._server.open(self._timeout_s)
                replies = await self._session.request(commands, self._timeout_s)
            except ServiceUnavailable as error:
                self._session = None
                raise ServiceUnavailable(f"redis at {self._server.name} cannot be used: {error}") from error
            except asyncio.CancelledError:
                self._session = None  # closed by then
                raise
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Refusal):
                raise ServiceUnavailable(f"redis at {self._server.name} refuses {command[0]!s}: {reply.reason}")
        return replies

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
