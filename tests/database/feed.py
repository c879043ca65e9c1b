"""A market that goes on whatever happens to the server, and the server's ends and beginnings."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ohlcvd.database import Writer
from ohlcvd.embedded import EmbeddedServer
from ohlcvd.market import Instrument
from tests.database.support import NOON_US, query, stored_ids, trades
from tests.servers import is_gone

PER_STEP = 5


class Feed:
    """Trades, and the claim that they are complete."""

    def __init__(self, writer: Writer, instrument: Instrument, first: int = 0) -> None:
        self.writer = writer
        self.instrument = instrument
        self.first = first
        self.given = first

    async def run(self) -> None:
        while True:
            self.step()
            await asyncio.sleep(0.002)

    def step(self) -> None:
        first, self.given = self.given, self.given + PER_STEP
        self.writer.add_trades(self.instrument, trades(range(first, self.given)))
        self.writer.cover(self.instrument, "trades", NOON_US + self.first * 10_000, NOON_US + self.given * 10_000)


@asynccontextmanager
async def feeding(writer: Writer, instrument: Instrument, first: int = 0) -> AsyncIterator[Feed]:
    feed = Feed(writer, instrument, first)
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def assert_exact(conninfo: str, feed: Feed) -> None:
    """0 lost, 0 doubled, and coverage says so."""
    assert stored_ids(conninfo, feed.instrument) == [*range(feed.given)]
    uppers = query(conninfo, "SELECT (extract(epoch FROM upper(covered)) * 1000000)::bigint FROM ohlcvd.coverage")
    assert uppers == [(NOON_US + feed.given * 10_000,)]


async def start_again(server: EmbeddedServer) -> None:
    """As whoever looks after it would: until it is ready (a killed one's backends may still be ending)."""
    server.spawn()
    async with asyncio.timeout(60):
        while not server.is_ready():
            await asyncio.sleep(0.02)
            if is_gone(server.pid):
                await asyncio.to_thread(os.waitpid, server.pid, 0)
                server.spawn()


async def stop(server: EmbeddedServer, how: signal.Signals) -> None:
    os.kill(server.pid, how)
    await asyncio.to_thread(os.waitpid, server.pid, 0)
