"""A child's lasting connection to Redis, which is allowed to be away, slow or deaf without anyone waiting for it.

Invariants:
- `request` returns within LIMIT_S and never raises; while there is no connection it returns at once.
- Only the keeper task connects, in the background. After a failure it pauses RETRY_S before the next connection, so
  that a server which answers a PING and then hangs costs its users LIMIT_S a second at the most.
- An outage is one warning when it begins and one line when it ends, with its length and what was not published. A
  server that is started beside its users has STARTING_S to be there before anything is said.
"""

import asyncio
from collections.abc import Callable, Sequence

from ohlcvd.cache.keys import Command
from ohlcvd.cache.wire import Refusal, Reply, Server, Session
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.log import get_component_logger

LIMIT_S = 0.25
CONNECT_S = 5.0  # in the background: a name server or a TLS handshake far away may take its time
RETRY_S = 1.0
STARTING_S = 3.0
REFUSAL_REPEAT_S = 60.0

log = get_component_logger("ohlcvd.cache")


class Link:
    """Use `open`, then `request` from any task of the same loop, then `close`."""

    def __init__(self, url: str) -> None:
        self._server = Server(url)
        self._session: Session | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # the session was lost, or the first attempt to connect is over
        self._turn = asyncio.Lock()
        self._away_since: float | None = None
        self._said = False  # that it is away
        self.connections = 0  # so many times the server was there; each time it may have forgotten everything
        self._refusals = _Refusals()
        self.fault: str | None = None
        self.dropped = 0  # stream entries that were not published, since the start
        self._dropped_before = 0

    @property
    def is_up(self) -> bool:
        return self._session is not None

    @property
    def away_s(self) -> float:
        """For how long it has been away; 0 while it is there."""
        return 0.0 if self._away_since is None else asyncio.get_running_loop().time() - self._away_since

    async def open(self) -> None:
        """Starts connecting, and waits for it no longer than for any other operation."""
        if self._keeper is not None:
            return
        first_attempt = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(first_attempt.set), name="redis keeper")
        try:
            async with asyncio.timeout(LIMIT_S):
                await first_attempt.wait()
        except TimeoutError:
            if self._session is None:
                self._begin_outage(f"no answer within {LIMIT_S * 1000:.0f} ms")

    async def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(self, commands: Sequence[Command], *, entries: int = 0) -> list[Reply] | None:
        """The replies, or None if they did not come. `entries` of the commands are publications, counted when lost."""
        replies = await self._request(commands) if commands else []
        if replies is None:
            self.dropped += entries
            return None
        refusals = [reply for reply in replies if isinstance(reply, Refusal)]
        if refusals:
            self.dropped += min(entries, len(refusals))
            self._refusals.note(str(commands[0][0]), refusals, asyncio.get_running_loop().time())
        return replies

    async def _request(self, commands: Sequence[Command]) -> list[Reply] | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LIMIT_S
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            return None  # the one whose turn it is finds out what is wrong, and says so
        try:
            session = self._session
            left_s = deadline - loop.time()
            if session is None or left_s < LIMIT_S / 2:
                return None  # too little is left to blame the server for not answering in it
            try:
                return await session.request(commands, left_s)
            except ServiceUnavailable as error:
                self._lose(session)
                self._begin_outage(str(error))
                return None
            except asyncio.CancelledError:
                self._lose(session)
                raise
        finally:
            self._turn.release()

    def _lose(self, session: Session) -> None:
        if self._session is session:
            self._session = None
            self._changed.set()

    async def _keep(self, tried: Callable[[], None]) -> None:
        while True:
            try:
                session = await self._server.open(CONNECT_S)
            except ServiceUnavailable as error:
                self._begin_outage(str(error))
            except Exception:  # the task's edge: without this task there would be no Redis until a restart
                log.exception("connecting to redis failed unexpectedly; next try in %g s", RETRY_S)
            else:
                self._session = session
                self.connections += 1
                self._changed.clear()
                self._end_outage()
                tried()
                await self._changed.wait()
            tried()
            await asyncio.sleep(RETRY_S)

    def _begin_outage(self, reason: str) -> None:
        self.fault = reason
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            self._dropped_before = self.dropped
        if self._said or (not self.connections and self.away_s < STARTING_S):
            return
        self._said = True
        log.warning(
            "redis at %s cannot be used: %s; collection goes on without it, next try in %g s",
            self._server.name,
            reason,
            RETRY_S,
            server=self._server.name,
            reason=reason,
        )

    def _end_outage(self) -> None:
        self.fault = None
        if self._away_since is None:
            return
        away_s = asyncio.get_running_loop().time() - self._away_since
        dropped = self.dropped - self._dropped_before
        self._away_since = None
        if not self._said:
            return
        self._said = False
        log.recovered(
            "redis at %s answers again after %.1f s, %d publications were dropped meanwhile",
            self._server.name,
            away_s,
            dropped,
            server=self._server.name,
            away_s=round(away_s, 3),
            dropped=dropped,
        )


class _Refusals:
    """Says what the server refuses, at most once a minute for each command, with the number since it last said so."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._said_at: dict[str, float] = {}

    def note(self, command: str, refusals: Sequence[Refusal], now_s: float) -> None:
        count = self._counts.get(command, 0) + len(refusals)
        said_at = self._said_at.get(command)
        if said_at is not None and now_s - said_at < REFUSAL_REPEAT_S:
            self._counts[command] = count
            return
        self._counts[command] = 0
        self._said_at[command] = now_s
        log.warning(
            "redis refuses %s: %s; %d refused since this was last said, collection goes on",
            command,
            refusals[-1].reason,
            count,
            command=command,
            reason=refusals[-1].reason,
            refused=count,
        )
