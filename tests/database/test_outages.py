"""The server is killed, restarted, cut off, blocked, deaf: nothing is lost, nothing is doubled, nothing hangs."""

import asyncio
import logging
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from ohlcvd.database import Database, Writer, pool
from ohlcvd.database.commit import RETRY_MAX_S
from ohlcvd.embedded import EmbeddedServer, prepare_postgres, running
from ohlcvd.errors import EmbeddedServerError, ServiceUnavailable
from ohlcvd.market import Instrument
from tests.database.feed import PER_STEP, Feed, assert_exact, feeding, start_again, stop
from tests.database.proxy import Proxy
from tests.database.support import candle, query, stored_ids, trades, until, writing
from tests.servers import FAST


async def next_commit(writer: Writer) -> None:
    commits = writer.counters.commits
    await until(lambda: writer.counters.commits > commits)


async def kill_and_start_again(server: EmbeddedServer, how: signal.Signals, feed: Feed, after_s: float) -> None:
    counters = feed.writer.counters
    commits = counters.commits
    await until(lambda: counters.commits > commits + 5)
    await asyncio.sleep(after_s)
    await stop(server, how)
    retries = counters.retries
    await until(lambda: counters.retries > retries + 2)
    given, commits = feed.given, counters.commits
    await until(lambda: feed.given > given)  # the stream goes on
    await start_again(server)
    assert RETRY_MAX_S <= 1.0  # the longest it can have to wait, but for a machine that is busy with other things
    back = time.monotonic()
    await until(lambda: counters.commits > commits)
    assert time.monotonic() - back < 3.0


async def test_the_server_is_killed_and_restarted_in_the_middle_of_writing(
    short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rnd = random.Random(5)
    with running(prepare_postgres(short_path, settings=FAST)) as server:
        async with Database(server.address) as database:
            await database.wait_until_up()
            instrument = (await database.instruments("kraken", ["BTC/USD"]))["BTC/USD"]
            with caplog.at_level(logging.INFO, "ohlcvd.database.writer"):
                async with writing(database) as writer:
                    async with feeding(writer, instrument) as feed:
                        for how in (signal.SIGKILL, signal.SIGINT, signal.SIGQUIT):
                            await kill_and_start_again(server, how, feed, rnd.uniform(0, 0.05))
                    assert await writer.drain(30)
                # The readers' pool comes back as well.
                assert await database.coverage(instrument.id, "trades")
        assert_exact(server.address, feed)
    said = [r.getMessage() for r in caplog.records if r.name == "ohlcvd.database.writer"]
    assert len([s for s in said if "does not take rows" in s]) == 3, said
    assert len([s for s in said if "takes rows again" in s]) == 3, said


@asynccontextmanager
async def writing_rest(writer: Writer) -> AsyncIterator[None]:
    """A writer that was cancelled runs once more."""
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_backend_is_terminated_twenty_times(database: Database, instrument: Instrument) -> None:
    rnd = random.Random(7)
    kill = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ 'ohlcvd|COMMIT|BEGIN'"""
    async with (
        await psycopg.AsyncConnection.connect(database.conninfo, autocommit=True) as admin,
        writing(database) as writer,
    ):
        async with feeding(writer, instrument) as feed:
            for _ in range(20):
                await next_commit(writer)
                await asyncio.sleep(rnd.uniform(0, 0.01))
                await admin.execute(kill)
        assert await writer.drain(30)
        assert writer.counters.retries >= 10
    assert_exact(database.conninfo, feed)


async def test_the_reply_to_commit_is_lost_twenty_times(
    database: Database, instrument: Instrument, short_path: Path
) -> None:
    async with (
        Proxy(database.conninfo, short_path) as proxy,
        Database(proxy.conninfo) as behind,
        writing(behind) as writer,
    ):
        async with feeding(writer, instrument) as feed:
            for number in range(20):
                await next_commit(writer)
                proxy.swallow_commits = 1
                await until(lambda: proxy.swallowed > number)  # noqa: B023 - waited for here
        assert await writer.drain(30)
        assert writer.counters.duplicates > 0, "what was committed unheard is found stored"
        assert writer.counters.trades + writer.counters.duplicates == feed.given
    assert_exact(database.conninfo, feed)


async def test_a_server_that_says_nothing_does_not_hold_up_the_end(
    database: Database, instrument: Instrument, short_path: Path
) -> None:
    async with Proxy(database.conninfo, short_path) as proxy, Database(proxy.conninfo) as behind:
        writer = Writer(behind)
        task = asyncio.create_task(writer.run())
        writer.add_trades(instrument, trades(range(5)))
        assert await writer.drain(10)
        proxy.deaf.set()
        writer.add_trades(instrument, trades(range(5, 10)))
        start = time.monotonic()
        assert not await writer.drain(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert time.monotonic() - start < 5
        assert writer.backlog == 5
        proxy.deaf.clear()
        async with writing_rest(writer):
            assert await writer.drain(20)
    assert stored_ids(database.conninfo, instrument) == [*range(10)]


async def test_rows_wait_while_a_lock_is_held_and_adding_never_does(database: Database, instrument: Instrument) -> None:
    async with writing(database) as writer:
        with psycopg.connect(database.conninfo) as blocker:
            blocker.execute("LOCK TABLE ohlcvd.coverage")
            async with feeding(writer, instrument) as feed:
                await until(lambda: feed.given >= 500)
            assert writer.backlog >= 500 - PER_STEP
            assert writer.counters.retries == 0
        assert await writer.drain(30)
    assert_exact(database.conninfo, feed)


async def test_candles_survive_a_lost_reply_too(database: Database, instrument: Instrument, short_path: Path) -> None:
    async with (
        Proxy(database.conninfo, short_path) as proxy,
        Database(proxy.conninfo) as behind,
        writing(behind) as writer,
    ):
        for close in ("101", "102", "103"):
            proxy.swallow_commits = 1
            writer.add_candles(instrument, [candle(n, close) for n in range(20)])
            assert await writer.drain(20)
    rows = query(database.conninfo, "SELECT DISTINCT close::text, corrections FROM ohlcvd.candles_1m")
    assert rows == [("103", 2)], "a correction is counted once however often it is stored"


async def test_a_server_that_is_away_is_waited_for(short_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = prepare_postgres(short_path, settings=FAST)
    try:
        async with Database(server.address) as database:
            with caplog.at_level(logging.INFO, "ohlcvd.database"):
                waiting = asyncio.create_task(database.wait_until_up())
                await until(lambda: "waiting for it" in caplog.text)
                with pytest.raises(ServiceUnavailable):
                    async with asyncio.timeout(30):
                        await database.coverage(1, "trades")
                with running(server):
                    async with asyncio.timeout(30):
                        await waiting
                    assert list(await database.instruments("kraken", ["BTC/USD"])) == ["BTC/USD"]
            assert caplog.text.count("waiting for it") == 1
    except EmbeddedServerError:
        server.release()
        raise


async def test_a_server_that_is_started_together_with_us_has_a_moment(
    short_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "STARTING_S", 60.0)
    with caplog.at_level(logging.INFO, "ohlcvd.database"):
        async with Database(f"host={short_path / 'postgres.socket'} user=ohlcvd dbname=ohlcvd") as database:
            waiting = asyncio.create_task(database.wait_until_up())
            await until(lambda: database.awaited_s is not None)
            with running(prepare_postgres(short_path, settings=FAST)):
                await waiting
    assert "ohlcvd.database" not in {record.name for record in caplog.records}, caplog.text


async def test_waiting_for_the_server_can_be_cancelled(short_path: Path) -> None:
    async with Database(f"host={short_path}") as database:
        waiting = asyncio.create_task(database.wait_until_up())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
