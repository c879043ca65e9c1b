"""Records for the fullon programs, under the names they already read (see `records.py`); ohlcvd itself reads none.

    async with ProcessCache() as cache:
        await cache.update_process(type="ohlcv", key="kraken:BTC/USD", status="running")

A daemon's own collectors have their records written by its children. Everything raises ServiceUnavailable.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from ohlcvd.cache.client import Client
from ohlcvd.cache.keys import compact, parse_object
from ohlcvd.cache.records import BARS, ProcessStatus, Record, record_commands
from ohlcvd.errors import UsageError


class ProcessCache(Client):
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
        before = await self.get_process(f"{type}:{key}") or {}
        now = datetime.now(UTC)
        record = Record(
            type,
            key,
            status,
            message if message is not None else before.get("message", ""),
            params if params is not None else before.get("params", {}),
            before.get("created_at", now.isoformat()),
        )
        await self.request(*record_commands([record], now))
        return record.process_id

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


class OHLCVCache(Client):
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
