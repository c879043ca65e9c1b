"""The pool under contention: a task that is told to end while it waits for a connection does end."""

import asyncio

from psycopg import AsyncConnection

from ohlcvd.database import Database


async def read_forever(database: Database, begun: asyncio.Event) -> None:
    while True:
        begun.set()
        async with database.connection("testing"):
            pass
        await asyncio.sleep(0.001)


async def test_a_cancellation_that_comes_together_with_a_connection_is_not_forgotten(database_url: str) -> None:
    async with Database(database_url, size=1) as database:
        await database.wait_until_up()
        for turns in range(24):  # of the event loop, between the connection's return and the cancellation
            begun = asyncio.Event()
            async with database.connection("testing"):
                task = asyncio.create_task(read_forever(database, begun))
                await begun.wait()
                for _ in range(50):
                    await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=10)
            was_cancelled = task.cancelled()
            task.cancel()
            assert was_cancelled, f"goes on after {turns} turns"


async def test_a_connection_is_looked_at_before_it_is_used_and_asked_only_if_something_was_said(
    database_url: str,
) -> None:
    async with (
        Database(database_url, size=1) as database,
        await AsyncConnection.connect(database_url, autocommit=True) as beside,
    ):
        async with database.connection("reading") as connection:
            await connection.execute("SELECT 'the last'")
            pid = connection.info.backend_pid
        async with database.connection("reading nothing") as connection:
            assert connection.info.backend_pid == pid
        last = await beside.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (pid,))
        assert await last.fetchone() == ("SELECT 'the last'",)
        await beside.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        async with database.connection("reading after that") as connection:
            assert connection.info.backend_pid != pid
            await connection.execute("SELECT 1")
