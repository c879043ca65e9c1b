"""The spool by itself: what goes in comes out in order, whatever crashes, full disks and flipped bits do."""

import asyncio
import os
import random
import resource
import signal
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.database.batch import Ordinals, Pending
from ohlcvd.database.spool import Spool, SpoolDamaged, SpoolFull, frames
from ohlcvd.errors import PermissionRefused
from ohlcvd.market import Candle, Instrument, Kind, Trade
from tests.database.support import NOON_US, candle, trades
from tests.servers import forked, run_as

BTC = Instrument(7, "kraken", "BTC/USD")
ETH = Instrument(9, "kraken", "ETH/\u20ac\u202e\"'")
LIMIT = 1 << 30


def batch(first: int, rows: int = 3) -> Pending:
    pending = Pending()
    pending.add_trades(BTC, trades(range(first, first + rows)), Ordinals())
    pending.cover(BTC, "trades", NOON_US, NOON_US + (first + rows) * 10_000)
    return pending


def read_back(pending: Pending, *, claims: bool = True, ids: int = 0) -> Pending:
    """Through its frame, into a database where instruments have other ids."""
    data = frames.encode(pending)
    head = frames.read_head(data)
    assert head is not None
    assert frames.is_whole(head, data[frames.HEAD_BYTES :])
    document = frames.decode(data[frames.HEAD_BYTES :])
    known = {(one.exchange, one.symbol): one._replace(id=one.id + ids) for one in (BTC, ETH)}
    result = Pending()
    frames.absorb(result, document, known, claims=claims)
    return result


def numbers(spool: Spool) -> list[int]:
    """The ids of all trades that wait, in the order of the line."""
    found: list[int] = []
    while not spool.is_empty:
        count, documents = spool.peek(100)
        found += [int(row[2]) for document, _ in documents for row in document["trades"]]
        spool.advance(count)
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


@contextmanager
def closing(spool: Spool) -> Iterator[Spool]:
    try:
        yield spool
    finally:
        spool.close()


async def opened(folder: Path, limit: int = LIMIT) -> Spool:
    spool = Spool(folder, limit)
    await spool.open()
    return spool


def fill(folder: Path, count: int, limit: int = LIMIT) -> list[int]:
    """A spool with so many batches; where each of them ends (if they are in one file)."""

    async def work() -> list[int]:
        with closing(await opened(folder, limit)) as spool:
            ends = []
            for number in range(count):
                spool.append([batch(number * 3)])
                ends.append(spool.bytes)
            return ends

    return asyncio.run(work())


# --- frames


def test_a_batch_comes_back_as_it_was() -> None:
    pending = Pending()
    odd = [Trade(NOON_US, name, "0.000000000000000001", "9" * 30, "sell") for name in ("7", "\ud800x", "\0", "id")]
    pending.add_trades(ETH, odd, Ordinals())
    pending.add_trades(BTC, trades(range(5)), Ordinals())
    for number in range(3):
        pending.add_candle(BTC, candle(number, trades=None if number else 7))
    pending.cover(BTC, "trades", 0, 100)
    pending.uncover(BTC, "trades", 10, 20)
    pending.cover(ETH, "candles", 5, 6)
    pending.duplicates, pending.corrections = 3, 4
    back = read_back(pending)
    for name in ("rows", "candles", "covered", "uncovered", "duplicates", "corrections"):
        assert getattr(back, name) == getattr(pending, name), name
    elsewhere = read_back(pending, ids=100)
    assert {row[0] for row in elsewhere.rows} == {107, 109}
    assert read_back(pending, claims=False).covered == {}
    assert read_back(pending, claims=False).uncovered == pending.uncovered


_RANGES = st.tuples(st.integers(0, 30), st.integers(0, 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))
_ACTS = st.lists(st.tuples(st.sampled_from(["cover", "uncover"]), _RANGES), max_size=8)


@given(st.lists(_ACTS, min_size=1, max_size=4), st.lists(_RANGES, max_size=3))
def test_batches_that_are_joined_claim_what_they_would_have_claimed_one_by_one(
    batches: list[list[tuple[str, Range]]], before: list[Range]
) -> None:
    joined, stored = Pending(), coverage.normalise(before)
    for acts in batches:
        pending = Pending()
        for act, (lower, upper) in acts:
            getattr(pending, act)(BTC, "trades", lower, upper)
        stored = applied(stored, pending)
        frames.absorb(
            joined,
            frames.decode(frames.encode(pending)[frames.HEAD_BYTES :]),
            {("kraken", "BTC/USD"): BTC},
            claims=True,
        )
    assert applied(coverage.normalise(before), joined) == stored


def applied(covered: list[Range], pending: Pending) -> list[Range]:
    claim: tuple[Instrument, Kind] = (BTC, "trades")
    return coverage.add(coverage.subtract(covered, pending.uncovered.get(claim, [])), *pending.covered.get(claim, []))


def test_a_later_state_of_a_candle_counts_when_batches_are_joined() -> None:
    states: Sequence[Candle] = (candle(close="101"), candle(close="102"), candle(close="99", source="trades"))
    joined = Pending()
    for state in states:
        pending = Pending()
        pending.add_candle(BTC, state)
        frames.absorb(
            joined,
            frames.decode(frames.encode(pending)[frames.HEAD_BYTES :]),
            {("kraken", "BTC/USD"): BTC},
            claims=True,
        )
    assert [one.close for _, own in joined.candles for one in own] == ["102"]
    assert joined.corrections == 1


# --- files


async def test_order_is_kept_files_are_removed_and_everything_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "kraken"
    with closing(await opened(folder, 1 << 20)) as spool:
        for number in range(400):
            spool.append([batch(number * 20, 10), batch(number * 20 + 10, 10)])
        assert spool.rows == 8_000
        assert spool.bytes == sum(path.stat().st_size for path in files(folder))
        assert len(files(folder)) > 3
        for path in (folder, folder.parent):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        half, _ = spool.peek(4_000)
        spool.advance(half)
        assert spool.rows == 4_000
        before = len(files(folder))
        spool.append([batch(8_000, 10)])
        assert numbers(spool) == [*range(4_000, 8_010)]
        assert before > 1
        assert (spool.rows, spool.bytes, files(folder)) == (0, 0, [])
        spool.append([batch(1)])
        assert numbers(spool) == [1, 2, 3]


async def test_what_an_earlier_process_left_comes_first(tmp_path: Path) -> None:
    await asyncio.to_thread(fill, tmp_path, 5)
    with closing(await opened(tmp_path)) as spool:
        assert spool.rows == 15
        spool.append([batch(15)])
        assert numbers(spool) == [*range(18)]


async def test_killed_at_any_byte_the_torn_end_is_cut_and_the_rest_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends = await asyncio.to_thread(fill, tmp_path / "whole", 4)
    data = files(tmp_path / "whole")[0].read_bytes()
    assert ends[-1] == len(data)
    sizes = {edge + step for edge in (0, *ends) for step in (-1, 0, 1, 3, 4, 15, 16, 17)}
    sizes |= set(random.Random(2).sample(range(len(data)), 30))
    for size in sorted(size for size in sizes if 0 <= size <= len(data)):
        folder = tmp_path / f"{size}"
        folder.mkdir()
        (folder / "000000000001.spool").write_bytes(data[:size])
        caplog.clear()
        with closing(await opened(folder)) as spool:
            whole = sum(end <= size for end in ends)
            assert spool.rows == 3 * whole
            assert ("torn end of the spool" in caplog.text) == (size not in (0, *ends)), size
            spool.append([batch(100)])
            assert numbers(spool) == [*range(3 * whole), 100, 101, 102]


async def test_zeros_or_rubbish_behind_the_last_frame_are_cut(tmp_path: Path) -> None:
    rnd = random.Random(3)
    await asyncio.to_thread(fill, tmp_path / "whole", 2)
    data = files(tmp_path / "whole")[0].read_bytes()
    for number, end in enumerate([bytes(4096), rnd.randbytes(5000), data[:30], frames.MAGIC + b"\xff" * 40]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "000000000001.spool").write_bytes(data + end)
        with closing(await opened(folder)) as spool:
            assert numbers(spool) == [*range(6)]


async def test_damage_in_the_middle_costs_the_claims_behind_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows are lost there, and what follows may claim them."""
    for first in (0, 3, 6):
        await asyncio.to_thread(fill_one_file, tmp_path, first)
    middle = files(tmp_path)[1]
    data = bytearray(middle.read_bytes())
    data[len(data) // 2] ^= 1
    middle.write_bytes(data)
    with closing(await opened(tmp_path)) as spool:
        believed = [claims for _, claims in spool.peek(100).documents]
        assert believed == [True, False]
        assert numbers(spool) == [0, 1, 2, 6, 7, 8]
    assert "damaged in the middle" in caplog.text


def fill_one_file(folder: Path, first: int) -> None:
    async def work() -> None:
        with closing(await opened(folder)) as spool:
            spool.append([batch(first)])

    asyncio.run(work())


async def test_a_frame_that_changes_under_us_is_noticed(tmp_path: Path) -> None:
    with closing(await opened(tmp_path)) as spool:
        spool.append([batch(0)])
        path = files(tmp_path)[0]
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)
        with pytest.raises(SpoolDamaged):
            spool.peek(10)


async def test_the_limit_is_kept_and_room_comes_back(tmp_path: Path) -> None:
    with closing(await opened(tmp_path, 1 << 20)) as spool:
        given = 0
        while spool.bytes < (1 << 20) - 20_000:
            spool.append([batch(given, 100)])
            given += 100
        with pytest.raises(SpoolFull):
            spool.append([batch(given + more, 100) for more in range(0, 1_000, 100)])
        assert spool.bytes <= 1 << 20
        assert sum(path.stat().st_size for path in files(tmp_path)) == spool.bytes
        spool.advance(spool.peek(given // 2).frames)
        spool.append([batch(given, 100)])
        assert numbers(spool)[-1] == given + 99


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit of the process on the size of files fails writes in the middle, as a full disk does."""

    async def work() -> None:
        with closing(await opened(tmp_path)) as spool:
            spool.append([batch(0)])
            size = spool.bytes
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))
            for _ in range(3):
                with pytest.raises(OSError, match="too large"):
                    spool.append([batch(3), batch(6)])
                assert (spool.bytes, spool.rows) == (size, 3)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            spool.append([batch(9)])
            assert numbers(spool) == [0, 1, 2, 9, 10, 11]
            assert files(tmp_path) == []

    run_as(os.geteuid(), lambda: asyncio.run(work()))


async def test_one_process_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(await opened(tmp_path)) as first:
        first.append([batch(0)])
        second = Spool(tmp_path, LIMIT)
        waiting = asyncio.create_task(second.open())
        async with asyncio.timeout(10):
            while "held by another process" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not waiting.done()
    async with asyncio.timeout(10):
        await waiting
    with closing(second):
        assert numbers(second) == [0, 1, 2]


def test_a_folder_that_is_closed_to_us_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)

    def refused() -> None:
        with pytest.raises(PermissionRefused, match="cannot keep the spool"):
            asyncio.run(opened(closed / "kraken"))

    run_as(os.geteuid() or 65534, refused)


def test_killed_in_the_middle_of_appending_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    rnd = random.Random(11)
    given = 0
    for _ in range(6):
        log = tmp_path / "acknowledged"
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

        def append_for_ever(report: object, first: int = given, log_fd: int = log_fd) -> None:
            async def work() -> None:
                spool = await opened(tmp_path)
                number = first
                while True:
                    spool.append([batch(number, 40)])
                    number += 40
                    os.write(log_fd, number.to_bytes(8))

            asyncio.run(work())

        with forked(os.geteuid(), append_for_ever) as (pid, _):
            while not log.stat().st_size:
                os.sched_yield()
            for _ in range(rnd.randrange(20_000)):
                pass
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(log_fd)
        data = log.read_bytes()
        acknowledged = int.from_bytes(data[len(data) // 8 * 8 - 8 : len(data) // 8 * 8])
        log.unlink()

        async def look(at_least: int = acknowledged) -> int:
            with closing(await opened(tmp_path)) as spool:
                documents = spool.peek(1 << 40).documents
                found = [int(row[2]) for document, _ in documents for row in document["trades"]]
                assert found == [*range(len(found))]
                assert len(found) >= at_least
                return len(found)

        given = asyncio.run(look())
    assert given > 0
