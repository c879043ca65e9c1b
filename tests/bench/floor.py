"""The floor: what collecting costs at least, a process: `python -m tests.bench.floor WS_URL DSN SYMBOLS TRADES`.

A plain WebSocket client, orjson, and binary COPY into a table like ours, and nothing else: no checks, no coverage, no
candles, no reconnect, no repair, no Redis. Prints the processor seconds from the first frame to the last COMMIT.
"""

import asyncio
import resource
import sys
from typing import Any

import aiohttp
import orjson
import psycopg

from ohlcvd.database.encode import COPY_HEAD, COPY_TAIL, TradeRow, copy_rows
from ohlcvd.market import Trade
from ohlcvd.simulator.listings import binance_listings

_BATCH = 10_000
_STREAMS = 200  # of a connection
TABLE = """
CREATE TABLE floor_trades (
    ts timestamptz NOT NULL, trade_id bigint NOT NULL, instrument_id integer NOT NULL, side "char" NOT NULL,
    price numeric NOT NULL, amount numeric NOT NULL, venue_id text, ordinal integer,
    PRIMARY KEY (instrument_id, ts, trade_id))
"""


async def collect(url: str, dsn: str, symbols: int, trades: int) -> float:
    """Processor seconds for all `trades`."""
    names = [listing.id for listing in binance_listings(symbols)]
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await connection.execute(TABLE)
    floor = _Floor({name: number for number, name in enumerate(names)}, trades)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        storing = group.create_task(_store(connection, floor.queue, trades))
        reading = []
        for start in range(0, symbols, _STREAMS):
            ws = await session.ws_connect(url, max_msg_size=0)
            params = [f"{name.lower()}@aggTrade" for name in names[start : start + _STREAMS]]
            await ws.send_str(orjson.dumps({"method": "SUBSCRIBE", "params": params, "id": start}).decode())
            reading.append(group.create_task(floor.read(ws)))
        print("subscribed", flush=True)
        await storing
        for task in reading:
            task.cancel()
    await connection.close()
    return _cpu_s() - floor.began_s


class _Floor:
    """What comes over all connections, as batches."""

    def __init__(self, numbers: dict[str, int], trades: int) -> None:
        self.queue: asyncio.Queue[list[TradeRow]] = asyncio.Queue(4)
        self.began_s = 0.0
        self._numbers = numbers
        self._trades = trades
        self._got = 0
        self._rows: list[TradeRow] = []

    async def read(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        """One connection, until cancelled."""
        numbers = self._numbers
        while True:
            message = orjson.loads((await ws.receive()).data)
            data: dict[str, Any] | None = message.get("data")
            if data is None:
                continue
            self.began_s = self.began_s or _cpu_s()
            side = "sell" if data["m"] else "buy"
            trade = Trade(data["T"] * 1000, str(data["a"]), data["p"], data["q"], side)  # type: ignore[arg-type]
            self._rows.append((numbers[data["s"]], data["a"], None, trade))
            self._got += 1
            if len(self._rows) >= _BATCH or self._got == self._trades:
                rows, self._rows = self._rows, []
                await self.queue.put(rows)


async def _store(
    connection: "psycopg.AsyncConnection[Any]", queue: "asyncio.Queue[list[TradeRow]]", trades: int
) -> None:
    stored = 0
    while stored < trades:
        rows = await queue.get()
        async with connection.cursor() as cursor, cursor.copy("COPY floor_trades FROM STDIN (FORMAT binary)") as copy:
            await copy.write(COPY_HEAD + copy_rows(rows) + COPY_TAIL)
        stored += len(rows)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(asyncio.run(collect(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))), flush=True)
