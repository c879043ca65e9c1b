"""Connections: one small pool per process for reading and small acts, and single connections for the writer.

Everything is opened inside the process and loop that uses it, never before a fork: a connection that crossed one has
delivered another process's reply. `open` does not need the server: it may be away, and comes when it comes.
"""

import asyncio
import logging
import select
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from psycopg import AsyncConnection
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from ohlcvd.coverage import Range
from ohlcvd.database.conninfo import with_defaults
from ohlcvd.database.encode import register_arrays
from ohlcvd.database.errors import first_line, translated
from ohlcvd.database.migrate import migrate
from ohlcvd.database.patience import severed_after
from ohlcvd.errors import OhlcvdError, ServiceUnavailable
from ohlcvd.log import get_component_logger
from ohlcvd.market import Instrument, Kind

# The pool tells its troubles to its own logger; ours are told once, where something waits for the server.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

STATEMENT_TIMEOUT_S = 60
# The server's own timeout ends a statement first; this is for a server or network that says nothing at all.
ANSWER_S = STATEMENT_TIMEOUT_S + 15.0
_GREETING_S = 10.0
# A stopped process must not hold its locks for ever.
_SETTINGS = (
    f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'; SET idle_in_transaction_session_timeout = '120s';"
    " SET synchronous_commit = on; SET timezone = 'UTC'"
)
# With psycopg's default of 300 s the pool takes up to 17 s to notice that the server is back.
_RECONNECT_S = 5.0
_POOL_WAIT_S = 5.0
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 1.0
STARTING_S = 3.0

log = get_component_logger("ohlcvd.database")


async def _configure(connection: AsyncConnection[Any]) -> None:
    register_arrays(connection)
    with severed_after(connection, _GREETING_S):
        await connection.set_autocommit(True)
        await connection.execute(_SETTINGS)


def _cancellations() -> int:
    """How often the running task has been told to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def _check(connection: AsyncConnection[Any]) -> None:
    """So that the first read after an outage is not refused by a dead connection. A server that ends one says so, or
    its system does: only where something was said is there one small round trip."""
    said = select.poll()
    said.register(connection.fileno(), select.POLLIN)
    if said.poll(0):
        with severed_after(connection, _POOL_WAIT_S):
            await AsyncConnectionPool.check_connection(connection)


class Database:
    """The database of one process. `async with`, or open and close."""

    def __init__(self, conninfo: str, *, application_name: str = "ohlcvd", size: int = 3) -> None:
        self.conninfo = with_defaults(conninfo, application_name)
        self._ready = asyncio.Event()
        self._awaited_since_s: float | None = None
        # min_size 0 would make every quiet read a new connection; more than one would idle in twenty children.
        self._pool = AsyncConnectionPool(
            self.conninfo,
            min_size=1,
            max_size=size,
            open=False,
            configure=_configure,
            check=_check,
            timeout=_POOL_WAIT_S,
            reconnect_timeout=_RECONNECT_S,
            name=application_name,
        )

    async def open(self) -> None:
        """Start connecting. Does not wait for the server."""
        if self._pool.closed:
            await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every pooled connection; quiet when there are none."""
        await self._pool.close(timeout=5.0)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_until_up(self) -> None:
        """Return when the server answers and the schema is this program's: opens the pool and migrates if need be.

        The server being away or starting up is waited for, for ever, and logged once, unless it is there within
        STARTING_S, as one is that was started together with us. What waiting cannot cure is raised: DatabaseTooNew,
        PermissionRefused, ConfigError (a server that is too old).
        """
        pause_s, said = _RETRY_MIN_S, False
        while True:
            try:
                await migrate(self.conninfo)
                break
            except ServiceUnavailable as error:
                if self._awaited_since_s is None:
                    self._awaited_since_s = time.monotonic()
                if not said and time.monotonic() - self._awaited_since_s >= STARTING_S:
                    said = True
                    log.warning("postgresql cannot be used yet, waiting for it", reason=str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(_RETRY_MAX_S, pause_s * 2)
        self._awaited_since_s = None
        if said:
            log.info("postgresql is there, going on")
        await self.open()
        self._ready.set()

    @property
    def is_ready(self) -> bool:
        """Whether the server has answered once and its schema fits."""
        return self._ready.is_set()

    @property
    def awaited_s(self) -> float | None:
        """For how long `wait_until_up` has found the server away; None while it has not."""
        return None if self._awaited_since_s is None else time.monotonic() - self._awaited_since_s

    async def ready(self) -> None:
        """Return when `wait_until_up`, which somebody else calls, has returned."""
        await self._ready.wait()

    @asynccontextmanager
    async def connection(self, doing: str) -> AsyncIterator[AsyncConnection[Any]]:
        """A pooled connection in autocommit. ServiceUnavailable or PermissionRefused, worded with `doing`, if not."""
        with translated(doing):
            await self.open()
            cancelled = _cancellations()
            async with self._pool.connection() as connection:
                if _cancellations() > cancelled:
                    # Python 3.11's wait_for, in which the pool waits, forgets a cancellation that comes together with
                    # the connection: a loop that lives on would keep its process from ending
                    raise asyncio.CancelledError
                with severed_after(connection, ANSWER_S):
                    yield connection

    async def connect(self) -> AsyncConnection[Any]:
        """A connection of its own, in autocommit, for the caller to close. Raises what psycopg raises."""
        connection = await AsyncConnection.connect(self.conninfo, autocommit=True)
        try:
            await _configure(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def instruments(self, exchange: str, symbols: Sequence[str]) -> dict[str, Instrument]:
        """The instruments of these symbols, in their order; those that the database does not know yet are made."""
        wanted = list(dict.fromkeys(symbols))
        select = "SELECT symbol, id FROM ohlcvd.instruments WHERE exchange = %s AND symbol = ANY(%s)"
        async with self.connection("finding instruments") as connection:
            # Looking first: an INSERT that meets its row would use up an id at every start.
            ids = dict(await (await connection.execute(select, (exchange, wanted))).fetchall())
            lacking = [symbol for symbol in wanted if symbol not in ids]
            if lacking:
                await connection.execute(
                    "INSERT INTO ohlcvd.instruments (exchange, symbol)"
                    " SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING",
                    (exchange, lacking),
                )
                ids = dict(await (await connection.execute(select, (exchange, wanted))).fetchall())
        return {symbol: Instrument(ids[symbol], exchange, symbol) for symbol in wanted}

    async def make_views(self, instrument: Instrument) -> None:
        """The tables that fullon programs read, as views: kraken.btc_usd_candles1m and kraken.btc_usd_trades.

        OhlcvdError when something else has one of these names, PermissionRefused without the right to create.
        """
        async with self.connection("making views") as connection:
            try:
                await connection.execute("SELECT ohlcvd.make_views(%s)", (instrument.id,))
            except (pg.WrongObjectType, pg.InvalidTableDefinition, pg.DuplicateTable) as error:
                raise OhlcvdError(f"something else is in the way: {first_line(error)}") from error

    async def coverage(self, instrument_id: int, kind: Kind) -> list[Range]:
        """What is known complete, as `coverage.py` has it."""
        query = """SELECT (extract(epoch FROM lower(r)) * 1000000)::bigint,
                          (extract(epoch FROM upper(r)) * 1000000)::bigint
                     FROM ohlcvd.coverage c, unnest(c.covered) r WHERE instrument_id = %s AND kind = %s ORDER BY 1"""
        async with self.connection("reading coverage") as connection:
            return await (await connection.execute(query, (instrument_id, kind))).fetchall()

    async def want(self, instrument_id: int, kind: Kind, from_us: int) -> int:
        """Want history from `from_us` on. What was once wanted stays wanted: returns the earliest ever asked for."""
        query = """INSERT INTO ohlcvd.coverage AS c (instrument_id, kind, wanted_from)
                   VALUES (%s, %s, 'epoch'::timestamptz + %s * interval '1 microsecond')
                   ON CONFLICT (instrument_id, kind) DO UPDATE
                      SET wanted_from = least(c.wanted_from, excluded.wanted_from)
                   RETURNING (extract(epoch FROM wanted_from) * 1000000)::bigint"""
        async with self.connection("recording what is wanted") as connection:
            row = await (await connection.execute(query, (instrument_id, kind, from_us))).fetchone()
        assert row is not None
        return int(row[0])
