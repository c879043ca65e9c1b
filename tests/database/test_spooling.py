"""A writer with a spool: the database goes away, and the rows wait on disk in their order."""

import asyncio
import json
import logging
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ohlcvd.database import Batch, Database, Quarantine, Spool, Writer
from ohlcvd.database import writer as module
from ohlcvd.database.spool.news import REFUSED_PAUSE_S
from ohlcvd.embedded import EmbeddedServer, prepare_postgres, running
from ohlcvd.market import Instrument
from tests.database.feed import assert_exact, feeding, start_again, stop
from tests.database.proxy import Proxy
from tests.database.support import NOON_US, candle, query, stored_ids, trade, trades, until, writing
from tests.servers import FAST, forked

LIMIT = 1 << 30
FOLDER = "spool/kraken"


@pytest.fixture(autouse=True)
def short_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The production value is asserted, then made short."""
    assert module.MOMENT_S == 2.0
    monkeypatch.setattr(module, "MOMENT_S", 0.3)


async def test_rows_go_to_disk_while_the_server_is_away_and_back_in_order(
    short_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    committed: list[int] = []

    def on_commit(batch: Batch) -> None:
        committed.extend(int(t.id) for several in batch.trades.values() for t in several)

    with running(prepare_postgres(short_path, settings=FAST)) as server:
        async with Database(server.address) as database:
            await database.wait_until_up()
            instrument = (await database.instruments("kraken", ["BTC/USD"]))["BTC/USD"]
            spool = Spool(tmp_path / FOLDER, LIMIT)
            with caplog.at_level(logging.INFO, "ohlcvd.database"):
                async with writing(database, on_commit, spool=spool) as writer:
                    async with feeding(writer, instrument) as feed:
                        await until(lambda: writer.counters.commits > 5)
                        await stop(server, signal.SIGKILL)
                        await until(lambda: writer.is_spooling and spool.rows > 2_000)
                        assert writer.memory_rows < 2_000
                        assert not writer.database_up
                        await start_again(server)
                        back_s = time.monotonic()
                        commits = writer.counters.commits
                        await until(lambda: writer.counters.commits > commits)
                        assert time.monotonic() - back_s < 3.0
                        await until(lambda: not writer.is_spooling)
                        commits = writer.counters.commits
                        await until(lambda: writer.counters.commits > commits + 5)
                        assert not writer.is_spooling, "rows go straight to the database again"
                        assert writer.counters.retries > 0
                    assert await writer.drain(30)
                    assert writer.backlog == 0
                    assert list((tmp_path / FOLDER).glob("*.spool")) == []
                    assert writer.counters.spooled > 2_000
                    assert writer.counters.spooled_bytes > 50 * writer.counters.spooled
        assert_exact(server.address, feed)
    assert committed == [*range(feed.given)], "in the order in which they were given"
    said = [record.getMessage() for record in caplog.records]
    for part in ("rows go to the spool", "spool is stored and empty"):
        assert len([line for line in said if part in line]) == 1, said


async def test_a_lock_that_is_held_is_waited_for_on_disk(
    database: Database, instrument: Instrument, tmp_path: Path
) -> None:
    async with writing(database, spool=Spool(tmp_path / FOLDER, LIMIT)) as writer:
        with psycopg.connect(database.conninfo) as blocker:
            blocker.execute("LOCK TABLE ohlcvd.coverage")
            async with feeding(writer, instrument) as feed:
                await until(lambda: writer.counters.spooled >= 1_000)
                assert writer.memory_rows < 1_000
                assert writer.counters.retries == 0
                blocker.rollback()
                await until(lambda: not writer.is_spooling)
        assert await writer.drain(30)
    assert_exact(database.conninfo, feed)


async def test_the_reply_to_commit_is_lost_while_the_spool_is_stored(
    database: Database, instrument: Instrument, short_path: Path, tmp_path: Path
) -> None:
    async with Proxy(database.conninfo, short_path) as proxy, Database(proxy.conninfo) as behind:
        await behind.wait_until_up()
        async with writing(behind, spool=Spool(tmp_path / FOLDER, LIMIT)) as writer:
            async with feeding(writer, instrument) as feed:
                await until(lambda: writer.counters.commits > 3)
                await proxy.cut()
                await until(lambda: writer.counters.spooled > 500)
                proxy.swallow_commits = 3
                proxy.mend()
                await until(lambda: proxy.swallowed == 3)
            await until(lambda: not writer.is_spooling)
            assert await writer.drain(30)
            counters = writer.counters
            assert counters.trades + counters.duplicates == feed.given
    assert_exact(database.conninfo, feed)


async def test_a_drain_while_the_server_is_away_ends_at_once_and_the_next_start_stores_the_rest(
    short_path: Path, tmp_path: Path
) -> None:
    with running(prepare_postgres(short_path, settings=FAST)) as server:
        async with Database(server.address) as database:
            await database.wait_until_up()
            instrument = (await database.instruments("kraken", ["BTC/USD"]))["BTC/USD"]
            async with writing(database, spool=Spool(tmp_path / FOLDER, LIMIT)) as writer:
                async with feeding(writer, instrument) as feed:
                    await until(lambda: writer.counters.commits > 5)
                    await stop(server, signal.SIGINT)
                    await until(lambda: writer.counters.retries > 0)
                began_s = time.monotonic()
                assert not await writer.drain(20)
                assert time.monotonic() - began_s < 3.0
                assert writer.memory_rows == 0
                assert writer.backlog > 0
            await start_again(server)
        before = stored_ids(server.address, instrument)
        # Another database may give other ids: the spool knows markets by name.
        query(server.address, "TRUNCATE ohlcvd.instruments CASCADE")
        query(server.address, "ALTER SEQUENCE ohlcvd.instruments_id_seq RESTART WITH 500")
        async with Database(server.address) as database:
            async with writing(database, spool=Spool(tmp_path / FOLDER, LIMIT)) as writer:
                await database.wait_until_up()
                await until(lambda: writer.counters.commits > 0 and not writer.is_spooling)
                assert await writer.drain(30)
            moved = (await database.instruments("kraken", ["BTC/USD"]))["BTC/USD"]
        assert moved.id >= 500
        assert {*before, *stored_ids(server.address, moved)} == {*range(feed.given)}


async def test_killed_and_started_again_and_again_while_the_server_is_away(
    database: Database, instrument: Instrument, short_path: Path, tmp_path: Path
) -> None:
    """What was spooled is stored, whenever the process was killed; what was not is not claimed."""
    async with Proxy(database.conninfo, short_path) as proxy:
        await proxy.cut()
        for start in range(5):

            def collect(report: Callable[[list[int]], None], first: int = start * 100_000) -> None:
                asyncio.run(collect_for_ever(proxy.conninfo, instrument, tmp_path / FOLDER, first, report))

            with forked(os.geteuid(), collect) as (pid, answer):
                assert await asyncio.to_thread(answer.readline)
                await asyncio.sleep(0.1 * start)
                os.kill(pid, signal.SIGKILL)
                await asyncio.to_thread(os.waitpid, pid, 0)
    async with writing(database, spool=Spool(tmp_path / FOLDER, LIMIT)) as writer:
        await until(lambda: writer.counters.commits > 0 and not writer.is_spooling)
        assert await writer.drain(30)
    stored = stored_ids(database.conninfo, instrument)
    assert len(stored) == len(set(stored))
    covered = await database.coverage(instrument.id, "trades")
    assert len(covered) == 5
    for lower_us, upper_us in covered:
        claimed = range((lower_us - NOON_US) // 10_000, (upper_us - NOON_US) // 10_000)
        assert len(claimed) >= 100
        assert set(claimed) <= set(stored)


async def collect_for_ever(
    conninfo: str, instrument: Instrument, folder: Path, first: int, report: Callable[[list[int]], None]
) -> None:
    spool = Spool(folder, LIMIT)
    async with (
        Database(conninfo) as database,
        writing(database, spool=spool) as writer,
        feeding(writer, instrument, first=first) as feed,
    ):
        await until(lambda: writer.counters.spooled > 100)
        report([feed.given])
        await asyncio.sleep(60)


async def test_a_spool_that_is_full_keeps_what_came_before_and_says_so(
    database: Database, instrument: Instrument, short_path: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert (module.MEMORY_ROWS, REFUSED_PAUSE_S) == (20_000, 1.0)
    monkeypatch.setattr(module, "MEMORY_ROWS", 3_000)
    monkeypatch.setattr(module, "REFUSED_PAUSE_S", 0.1)
    async with Proxy(database.conninfo, short_path) as proxy, Database(proxy.conninfo) as behind:
        await behind.wait_until_up()
        spool = Spool(tmp_path / FOLDER, 100_000)
        async with writing(behind, spool=spool) as writer:
            await proxy.cut()
            async with feeding(writer, instrument) as feed:
                await until(lambda: writer.is_full)
            assert writer.memory_rows >= 3_000
            assert spool.bytes <= 100_000
            writer.add_candles(instrument, [candle(0)])
            proxy.mend()
            await until(lambda: not writer.is_full and not writer.is_spooling)
            assert await writer.drain(30)
    assert_exact(database.conninfo, feed)
    assert query(database.conninfo, "SELECT count(*) FROM ohlcvd.candles_1m") == [(1,)]
    assert len([r for r in caplog.records if r.levelno == logging.ERROR and "spool takes no more" in r.message]) == 1


async def test_a_flood_goes_to_disk_and_memory_stays_bounded(
    database: Database, instrument: Instrument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY_ROWS", 2_000)
    async with writing(database, spool=Spool(tmp_path / FOLDER, LIMIT)) as writer:
        with psycopg.connect(database.conninfo) as blocker:
            blocker.execute("LOCK TABLE ohlcvd.coverage")
            for start in range(0, 20_000, 500):
                writer.add_trades(instrument, trades(range(start, start + 500)))
                writer.cover(instrument, "trades", NOON_US, NOON_US + (start + 500) * 10_000)
                await until(lambda: writer.memory_rows < 3_000)
        await until(lambda: not writer.is_spooling)
        assert await writer.drain(60)
    assert stored_ids(database.conninfo, instrument) == [*range(20_000)]


async def test_refused_rows_are_put_aside_in_a_private_file(
    database: Database, instrument: Instrument, tmp_path: Path
) -> None:
    file = tmp_path / "quarantine" / "kraken.jsonl"
    bad = trade(5)._replace(id="with\0zero \x1b[31m")
    wrong = candle(3, high="1")
    async with writing(database, quarantine=Quarantine(file)) as writer:
        writer.add_trades(instrument, [*trades(range(5)), bad, *trades(range(6, 10))])
        writer.add_candles(instrument, [wrong])
        assert await writer.drain(30)
        assert (writer.counters.refused, writer.counters.quarantined) == (2, 2)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        text = file.read_text()
        assert all(char.isprintable() for char in text.replace("\n", ""))
        lines = [json.loads(line) for line in text.splitlines()]
        assert [(line["kind"], line["symbol"]) for line in lines] == [("trade", "BTC/USD"), ("candle", "BTC/USD")]
        assert lines[0]["row"] == bad._asdict()
        assert lines[1]["row"] == wrong._asdict()
        assert all(line["reason"] and line["error"] and line["time"] for line in lines)
    small = Quarantine(tmp_path / "small" / "kraken.jsonl", 300)
    assert small.put(instrument, bad, "reason", "Error")
    assert not small.put(instrument, bad._replace(price="1" * 300), "reason", "Error")


async def test_poison_in_the_spool_does_not_hold_up_what_is_behind_it(
    database: Database, instrument: Instrument, short_path: Path, tmp_path: Path
) -> None:
    quarantine = Quarantine(tmp_path / "quarantine" / "kraken.jsonl")
    async with Proxy(database.conninfo, short_path) as proxy, Database(proxy.conninfo) as behind:
        await behind.wait_until_up()
        await proxy.cut()
        async with writing(behind, spool=Spool(tmp_path / FOLDER, LIMIT), quarantine=quarantine) as writer:
            for number in range(40):
                one = trade(number)._replace(price="9" * 140_000) if number == 20 else trade(number)
                writer.add_trades(instrument, [one])
                await asyncio.sleep(0.02)
            await until(lambda: writer.is_spooling and not writer.memory_rows)
            writer.cover(instrument, "trades", NOON_US, NOON_US + 400_000)
            proxy.mend()
            await until(lambda: not writer.is_spooling)
            assert await writer.drain(30)
            assert writer.counters.quarantined == 1
    assert stored_ids(database.conninfo, instrument) == [number for number in range(40) if number != 20]
    covered = await database.coverage(instrument.id, "trades")
    assert covered == [(NOON_US, NOON_US + 200_000), (NOON_US + 200_001, NOON_US + 400_000)]


async def test_nothing_of_an_earlier_run_is_stored_before_the_schema_is_known_to_fit(
    postgres_server: EmbeddedServer, database: Database, instrument: Instrument, short_path: Path, tmp_path: Path
) -> None:
    async with Proxy(database.conninfo, short_path) as proxy, Database(proxy.conninfo) as behind:
        await proxy.cut()
        async with writing(behind, spool=Spool(tmp_path / FOLDER, LIMIT)) as writer:
            writer.add_trades(instrument, trades(range(10)))
            assert not await writer.drain(0.5)
        proxy.mend()
        async with writing(behind, spool=Spool(tmp_path / FOLDER, LIMIT)) as writer:
            await until(lambda: writer.is_spooling)
            await asyncio.sleep(0.2)
            assert writer.counters.commits == 0
            await behind.wait_until_up()
            await until(lambda: writer.counters.trades == 10)
    assert stored_ids(database.conninfo, instrument) == [*range(10)]
    assert isinstance(writer, Writer)
