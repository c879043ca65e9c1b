"""The records that other programs of the ecosystem read, checked key by key."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ohlcvd.cache import OHLCVCache, ProcessCache
from ohlcvd.cache.client import configured_url
from ohlcvd.config import Config
from ohlcvd.embedded import prepare_valkey, running
from ohlcvd.errors import ServiceUnavailable, UsageError
from tests.cache.valkey import Valkey
from tests.servers import private_directory


async def test_a_process_record_and_its_indexes(valkey: Valkey) -> None:
    async with ProcessCache(valkey.url) as cache:
        process_id = await cache.update_process(
            type="ohlcv", key="kraken:BTC/USD", status="starting", params={"symbol": "BTC/USD"}
        )
        first = json.loads(str(valkey.ask("GET", f"process:data:{process_id}")))
        assert await cache.update_process("ohlcv", "kraken:BTC/USD", "running", "collecting") == process_id
        record = await cache.get_process(process_id)
        active = await cache.get_active_processes("ohlcv")
    assert record is not None
    assert list(record) == [
        "process_id", "process_type", "component", "params", "status", "message", "created_at", "updated_at",
        "heartbeat",
    ]  # fmt: skip
    assert record["process_type"] == "ohlcv"
    assert record["component"] == "kraken:BTC/USD"
    assert record["params"] == {"symbol": "BTC/USD"}
    assert (record["status"], record["message"]) == ("running", "collecting")
    assert record["created_at"] == first["created_at"]
    assert record["heartbeat"] == record["updated_at"] > first["heartbeat"]
    assert datetime.now(UTC) - datetime.fromisoformat(record["heartbeat"]) < timedelta(minutes=1)
    assert active == [record]
    assert valkey.ask("HGETALL", "process:active:ohlcv") == {process_id: record["updated_at"]}
    assert valkey.ask("HGETALL", "process:components") == {"kraken:BTC/USD": process_id}
    assert 86_000_000 < int(str(valkey.ask("PTTL", f"process:data:{process_id}"))) <= 86_400_000


async def test_a_stopped_process_leaves_the_indexes_and_keeps_its_record(valkey: Valkey) -> None:
    async with ProcessCache(valkey.url) as cache:
        process_id = await cache.update_process("trade", "kraken:BTC/USD", "running")
        await cache.update_process("trade", "kraken:ETH/USD", "error", "cut off")
        await cache.update_process("trade", "kraken:BTC/USD", "stopped")
        record = await cache.get_process(process_id)
        assert [entry["component"] for entry in await cache.get_active_processes("trade")] == ["kraken:ETH/USD"]
    assert record is not None
    assert record["status"] == "stopped"
    assert valkey.ask("HKEYS", "process:components") == ["kraken:ETH/USD"]


async def test_an_unknown_status_is_refused(redis_url: str) -> None:
    async with ProcessCache(redis_url) as cache:
        with pytest.raises(UsageError, match="starting, running, processing, idle, error, stopped"):
            await cache.update_process("ohlcv", "kraken:BTC/USD", "fine")  # type: ignore[arg-type]
        assert await cache.get_process("ohlcv:kraken:BTC/USD") is None


async def test_bars_are_kept_oldest_first_and_capped(valkey: Valkey) -> None:
    async with OHLCVCache(valkey.url) as cache:
        assert await cache.get_latest_ohlcv_bars("BTC/USD", "1m", 5) == []
        await cache.update_ohlcv_bars("BTC/USD", "1m", [[60 * n, 1.0, 2.0, 0.5, 1.5, 10.0] for n in range(10_005)])
        await cache.update_ohlcv_bars("BTC/USD", "1m", [])
        bars = await cache.get_latest_ohlcv_bars("BTC/USD", "1m", 2)
        assert bars == [[60 * 10_003, 1.0, 2.0, 0.5, 1.5, 10.0], [60 * 10_004, 1.0, 2.0, 0.5, 1.5, 10.0]]
        assert await cache.get_latest_ohlcv_bars("BTC/USD", "1m", 0) == []
        with pytest.raises(UsageError, match="6 numbers"):
            await cache.update_ohlcv_bars("BTC/USD", "1m", [[1.0, 2.0]])
    assert valkey.ask("LLEN", "ohlcv:BTC/USD:1m") == 10_000


async def test_without_a_url_it_is_the_configured_redis(redis_url: str, tmp_path: Path) -> None:
    named = tmp_path / "named.conf"
    named.write_text(f"[redis]\nurl = {redis_url}\n")
    async with ProcessCache(configured_url(Config(named, environ={}, cwd=tmp_path))) as cache:
        assert await cache.get_active_processes("ohlcv") == []


def test_an_embedded_redis_is_found_below_the_state_directory() -> None:
    with private_directory() as state:
        conf = state / "embedded.conf"
        conf.write_text(f"[ohlcvd]\nstate_dir = {state}\n")
        config = Config(conf, environ={}, cwd=state)
        with pytest.raises(ServiceUnavailable, match="the embedded valkey is not running"):
            configured_url(config)
        with running(prepare_valkey(state)) as server:
            assert configured_url(config) == server.address


async def test_the_records_need_redis(valkey: Valkey) -> None:
    valkey.kill()
    async with ProcessCache(valkey.url) as cache:
        with pytest.raises(ServiceUnavailable, match="cannot be used"):
            await cache.update_process("ohlcv", "kraken:BTC/USD", "running")
