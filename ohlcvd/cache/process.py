"""Records for other programs of the ecosystem, under the names they already read; ohlcvd itself reads none of them.

| key | type | holds |
|---|---|---|
| `process:data:<id>` | string, 24 h | JSON: process_id, process_type, component, params, status, message, |
| | | created_at, updated_at, heartbeat |
| `process:active:<type>` | hash | process_id -> updated_at |
| `process:components` | hash | component -> process_id |
| `ohlcv:<symbol>:<timeframe>` | list | JSON arrays [ts, open, high, low, close, volume], oldest first, at most 10,000 |

Times are ISO 8601 in UTC, a bar's `ts` is what the caller gives. The component is the caller's key ("kraken:BTC/USD")
and the id is `<type>:<component>`: the same for every run, so that restarts leave no trail of dead ids in the hashes.
Everything raises ServiceUnavailable.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from ohlcvd.cache.client import Client
from ohlcvd.cache.keys import Command, compact, parse_object
from ohlcvd.config import Config
from ohlcvd.errors import ServiceUnavailable, UsageError

ProcessStatus = Literal["starting", "running", "processing", "idle", "error", "stopped"]

RECORD_S = 86_400
BARS = 10_000


def configured_url(config: Config) -> str:
    """The Redis that the configuration names; an embedded one is found by its socket below `state_dir`."""
    if config.redis_url != "embedded":
        return config.redis_url
    address = config.state_dir.absolute() / "valkey.socket" / "valkey.sock"
    if not address.is_socket():
        raise ServiceUnavailable(f"the embedded valkey is not running, there is no {address}; start ohlcvd first")
    return f"unix://{address}"


class _EcosystemCache(Client):
    """Without a URL, Redis is the configured one."""

    def __init__(self, url: str | None = None) -> None:
        super().__init__(url if url is not None else configured_url(Config()))


class ProcessCache(_EcosystemCache):
    """What runs, and how it is: `await cache.update_process(type="ohlcv", key="kraken:BTC/USD", status="running")`."""

    async def update_process(
        self,
        type: str,
        key: str,
        status: ProcessStatus,
        message: str | None = None,
        *,
        params: Mapping[str, object] | None = None,
    ) -> str:
        """Makes or renews the record of one process and its heartbeat, and returns its id. UsageError for a status
        that readers do not know. A stopped one is taken off the hashes; its record stays until it expires."""
        if status not in get_args(ProcessStatus):
            raise UsageError(f"process status {status!r} is not one of {', '.join(get_args(ProcessStatus))}")
        process_id = f"{type}:{key}"
        before = await self.get_process(process_id) or {}
        now = datetime.now(UTC).isoformat()
        record = {
            "process_id": process_id,
            "process_type": type,
            "component": key,
            "params": dict(params) if params is not None else before.get("params", {}),
            "status": status,
            "message": message if message is not None else before.get("message", ""),
            "created_at": before.get("created_at", now),
            "updated_at": now,
            "heartbeat": now,
        }
        data: Command = ("SET", f"process:data:{process_id}", compact(record), "EX", RECORD_S)
        if status == "stopped":
            await self.request(
                data, ("HDEL", f"process:active:{type}", process_id), ("HDEL", "process:components", key)
            )
        else:
            await self.request(
                data,
                ("HSET", f"process:active:{type}", process_id, now),
                ("HSET", "process:components", key, process_id),
            )
        return process_id

    async def get_process(self, process_id: str) -> dict[str, Any] | None:
        """The record, or None where there is none (any more)."""
        [text] = await self.request(("GET", f"process:data:{process_id}"))
        return None if text is None else parse_object(text)

    async def get_active_processes(self, type: str) -> list[dict[str, Any]]:
        """The records of one type that are not stopped, the last updated first."""
        [ids] = await self.request(("HKEYS", f"process:active:{type}"))
        records = [await self.get_process(process_id.decode()) for process_id in ids]
        return sorted(
            (record for record in records if record), key=lambda record: str(record["updated_at"]), reverse=True
        )


class OHLCVCache(_EcosystemCache):
    """Candles of any timeframe as capped lists. For exact digits read PostgreSQL or ohlcvd's own streams."""

    async def update_ohlcv_bars(self, symbol: str, timeframe: str, bars: Sequence[Sequence[float]]) -> None:
        """Appends bars [ts, open, high, low, close, volume], oldest first."""
        for bar in bars:
            if len(bar) != 6:
                raise UsageError(f"a bar has 6 numbers (ts, open, high, low, close, volume), not {len(bar)}: {bar}")
        if bars:
            key = f"ohlcv:{symbol}:{timeframe}"
            await self.request(("RPUSH", key, *(compact(list(bar)) for bar in bars)), ("LTRIM", key, -BARS, -1))

    async def get_latest_ohlcv_bars(self, symbol: str, timeframe: str, count: int) -> list[list[float]]:
        """The newest `count` bars, oldest first."""
        if count <= 0:
            return []
        [texts] = await self.request(("LRANGE", f"ohlcv:{symbol}:{timeframe}", -count, -1))
        return [json.loads(text) for text in texts]
