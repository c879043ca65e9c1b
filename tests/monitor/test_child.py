"""The monitor's loop: nothing that is away or deaf keeps it from beating, and it ends when it is told to."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ohlcvd.cache.live import LiveCache
from ohlcvd.config import Config
from ohlcvd.errors import Exit
from ohlcvd.monitor.child import Monitor, TotalsFile
from ohlcvd.supervisor.heartbeat import HeartbeatSender, decode_beat
from tests.cache.valkey import Valkey, free_port, new_valkey
from tests.supervisor.running import Running, supervisor
from tests.waiting import eventually


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with new_valkey() as server:
        server.start()
        yield server


class Watched:
    """A monitor, the beats that it sends, and what it answers."""

    def __init__(self, folder: Path, redis: str, run_dir: Path) -> None:
        self.port = free_port()
        file = folder / "ohlcvd.conf"
        lines = ["[ohlcvd]", "exchanges = kraken", "symbols = BTC/USD", f"run_dir = {run_dir}"]
        lines += [f"{name}_dir = {folder}/{name}" for name in ("state", "log")]
        file.write_text("\n".join([*lines, "[http]", f"listen = 127.0.0.1:{self.port}"]))
        (folder / "state").mkdir()
        self.beats: list[float] = []
        self.stale: tuple[str, ...] = ()
        self.first = ""  # what /metrics says as soon as it is there
        self.monitor = Monitor(Config(file, environ={}), redis, HeartbeatSender(self._write), None)

    def _write(self, line: bytes) -> int:
        self.stale = decode_beat(line.rstrip(b"\n")).stale
        self.beats.append(time.monotonic())
        return len(line)

    async def get(self, path: str) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as reply:
            return reply.status, await reply.json(content_type=None) if path != "/metrics" else await reply.text()


@asynccontextmanager
async def watching(folder: Path, redis: str, run_dir: Path) -> AsyncIterator[Watched]:
    watched = Watched(folder, redis, run_dir)
    task = asyncio.create_task(watched.monitor.run())
    try:
        await eventually(lambda: len(watched.beats) > 0, "it beats")
        await eventually(lambda: task.done() or watched.monitor.is_listening, "it listens")
        watched.first = (await watched.get("/metrics"))[1] if watched.monitor.is_listening else ""
        yield watched
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(task, 30.0) == Exit.OK
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def running() -> Iterator[Running]:
    """A real supervisor with one child, `a`, that beats and streams."""
    with supervisor(children={"a": "beats"}) as started:
        yield started


async def test_supervisor_and_redis_are_watched_and_a_deaf_redis_holds_nothing_up(
    tmp_path: Path, valkey: Valkey, running: Running
) -> None:
    async with watching(tmp_path, valkey.url, running.folder) as watched:
        for sample in ("supervisor_up 1.0", "redis_up 1.0", "supervisor_memory_bytes ", 'exchange_up{exchange="a"}'):
            assert f"ohlcvd_{sample}" in watched.first, "a scrape after the monitor's restart lacks nothing"
        await eventually(lambda: "ohlcvd_redis_up 1.0" in metrics(watched), "redis answers")
        assert (await watched.get("/healthz"))[0] == 200
        assert json.loads(str(valkey.ask("GET", "ohlcvd:heartbeat:monitor")))["state"] == "ready"
        valkey.signal(signal.SIGSTOP)
        try:
            await eventually(lambda: "ohlcvd_redis_up 0.0" in metrics(watched), "redis is found deaf")
            before = len(watched.beats)
            await eventually(lambda: len(watched.beats) >= before + 3, "it beats on")
            assert (await watched.get("/healthz"))[0] == 200
            assert watched.stale == ()
        finally:
            valkey.signal(signal.SIGCONT)
        await eventually(lambda: "ohlcvd_redis_up 1.0" in metrics(watched), "redis answers again")
        running.send(signal.SIGSTOP)
        try:
            await eventually(lambda: watched.monitor.supervisor_fault is not None, "the supervisor is found stopped")
            assert (await watched.get("/healthz"))[0] == 503
        finally:
            running.send(signal.SIGCONT)
        await eventually(lambda: watched.monitor.supervisor_fault is None, "the supervisor answers again")


def metrics(watched: Watched) -> str:
    return watched.monitor.metrics("")[0].decode()


async def test_without_a_supervisor_it_goes_on(tmp_path: Path, valkey: Valkey) -> None:
    async with watching(tmp_path, valkey.url, tmp_path / "nowhere") as watched:
        status, document = await watched.get("/healthz")
        assert status == 503
        assert "does not answer" in document["reason"]
        async with LiveCache(valkey.url, "kraken") as cache:
            await cache.heartbeat({"state": "streaming", "pid": 1, "beats": 1, "frames": 5})
        await eventually(lambda: bool(watched.monitor.report.children), "what Redis says of children is shown")
        assert watched.monitor.report.children[0].counters["frames"] == 5


def test_totals_are_kept_on_disk_and_a_broken_file_begins_at_zero(tmp_path: Path) -> None:
    file = tmp_path / "totals.json"
    kept = TotalsFile(file)
    totals = kept.read()
    totals.observe("kraken", "kraken", "1", {"trades": 5})
    kept.write(totals)
    again = TotalsFile(file).read()
    again.observe("kraken", "kraken", "1", {"trades": 7})
    assert again.of("kraken", ["trades"]) == {"trades": 7}
    file.write_text("{cut")
    assert TotalsFile(file).read().exchanges() == []
    TotalsFile(tmp_path / "nowhere" / "totals.json").write(totals)  # logged, not fatal
