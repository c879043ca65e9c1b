"""PostgreSQL is killed, stopped, away, blocked, or loses a reply: 0 lost, 0 doubled, and storing again at once."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from ohlcvd.database.commit import ATTEMPT_S
from tests.database.proxy import Proxy
from tests.process.harness import wait_for
from tests.process.sites import (
    RANDOM,
    STORING_AGAIN_S,
    Server,
    collecting,
    now_us,
    site,
    wait_streaming,
)
from tests.servers import private_directory


@pytest.mark.parametrize(
    ("how", "away_s"),
    [(signal.SIGKILL, 20.0), (signal.SIGINT, 20.0), (signal.SIGKILL, 180.0)],
    ids=["killed", "stopped", "killed-minutes"],
)
def test_away(tmp_path: Path, database: Server, cache: Server, how: signal.Signals, away_s: float) -> None:
    with site(tmp_path, database.address, cache.address) as here, collecting(here) as from_us:
        pids = here.pids()
        frames = {name: beat["frames"] for name, beat in here.beats().items()}
        newest_us = here.newest_us()
        database.end(how)
        time.sleep(away_s)
        beats = here.beats()
        assert all(beat["state"] == "streaming" for beat in beats.values()), beats
        assert all(beats[name]["frames"] > frames[name] + 20 * away_s for name in frames), (frames, beats)
        ready_s = database.start()
        took_s = here.wait_until_storing(newest_us, since_s=ready_s)
        wait_for("the spool is stored", lambda: all(beat["backlog"] < 500 for beat in here.beats().values()), 90)
        drained_s = time.monotonic() - ready_s
        figures = here.check(from_us)
        assert here.pids() == pids, "no child was restarted"
        assert took_s < STORING_AGAIN_S
    print(
        f"{how.name}, away {away_s:.0f} s: {figures}; storing after {took_s:.1f} s, all of it after {drained_s:.0f} s"
    )


def test_away_while_the_collector_is_stopped_and_started_twice(tmp_path: Path, database: Server, cache: Server) -> None:
    with site(tmp_path, database.address, cache.address) as here, collecting(here) as from_us:
        newest_us = here.newest_us()
        database.end(signal.SIGKILL)
        time.sleep(6)
        stops = []
        for _ in range(2):
            began_s = time.monotonic()
            assert here.daemon.command("stop").returncode == 0
            stops.append(time.monotonic() - began_s)
            assert here.daemon.command("start").returncode == 0
            time.sleep(4)
        assert here.said("drained into the spool") >= 2
        ready_s = database.start()
        took_s = here.wait_until_storing(newest_us, since_s=ready_s)
        wait_streaming(here)
        figures = here.check(from_us)
        assert max(stops) < 20.0
        assert took_s < STORING_AGAIN_S
    print(
        f"stopped and started twice while away: {figures}; stops took {max(stops):.1f} s, storing after {took_s:.1f} s"
    )


def test_the_collector_is_killed_ten_times_while_the_database_is_away(
    tmp_path: Path, database: Server, cache: Server
) -> None:
    with site(tmp_path, database.address, cache.address) as here, collecting(here) as from_us:
        database.end(signal.SIGKILL)
        for number in range(10):
            time.sleep(RANDOM.uniform(0.5, 5.0))
            status = here.daemon.status()
            if number % 3 == 2:
                os.kill(status["pid"], signal.SIGKILL)
                time.sleep(2.5)
                assert here.daemon.command("start").returncode == 0
                continue
            for child in status["children"]:
                if child["pid"]:
                    os.kill(child["pid"], signal.SIGKILL)
        database.start()
        wait_streaming(here)
        figures = here.check(from_us)
    print(f"collector killed ten times while away: {figures}")


def test_a_lock_is_held_for_thirty_seconds(tmp_path: Path, database: Server, cache: Server) -> None:
    with site(tmp_path, database.address, cache.address) as here, collecting(here) as from_us:
        memory = {name: resident_bytes(pid) for name, pid in here.pids().items()}
        frames = {name: beat["frames"] for name, beat in here.beats().items()}
        with psycopg.connect(database.address) as blocker:
            blocker.execute("LOCK TABLE ohlcvd.coverage, ohlcvd.trades IN ACCESS EXCLUSIVE MODE")
            time.sleep(30)
            beats = here.beats()
            grown = max(resident_bytes(pid) - memory[name] for name, pid in here.pids().items())
        assert all(beats[name]["frames"] > frames[name] + 600 for name in frames)
        assert grown < 20 << 20
        figures = here.check(from_us)
    print(f"locked for 30 s: {figures}; memory grew by {grown / 2**20:.1f} MiB at most")


def test_the_reply_to_commit_is_lost_twenty_times(tmp_path: Path, database: Server, cache: Server) -> None:
    with (
        private_directory() as folder,
        proxied(database.address, folder) as proxy,
        site(tmp_path, proxy.conninfo, cache.address) as here,
        collecting(here) as from_us,
    ):
        for number in range(20):
            time.sleep(RANDOM.uniform(0.2, 2.0))
            proxy.swallow_commits += 1
            wait_for("a reply is lost", lambda: proxy.swallowed > number, 30)  # noqa: B023 - waited for here
        figures = here.check(from_us)
        found_again = sum(beat["duplicates"] for beat in here.beats().values())
    print(f"{proxy.swallowed} replies to COMMIT lost: {figures}; {found_again} rows found stored already")


def test_a_network_that_is_cut_slow_and_deaf(tmp_path: Path, database: Server, cache: Server) -> None:
    with (
        private_directory() as folder,
        proxied(database.address, folder) as proxy,
        site(tmp_path, proxy.conninfo, cache.address) as here,
        collecting(here) as from_us,
    ):
        proxy.delay_s = 0.5
        time.sleep(15)
        proxy.delay_s = 0.0
        proxy.deaf.set()
        time.sleep(20)
        proxy.deaf.clear()
        began_us = now_us()
        # What was on its way is lost for ever, and so is its connection: the writer gives it up.
        took_s = here.wait_until_storing(began_us, patience_s=ATTEMPT_S + 30)
        figures = here.check(from_us)
    print(f"slow for 15 s, deaf for 20 s: {figures}; storing what came after it {took_s:.0f} s later")


@contextmanager
def proxied(conninfo: str, folder: Path) -> Iterator[Proxy]:
    """A proxy in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy")
    thread.start()
    proxy = Proxy(conninfo, folder)
    asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result(10)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
