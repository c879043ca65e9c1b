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
_TABLE = """
CREATE TABLE floor_trades (
    ts timestamptz NOT NULL, trade_id bigint NOT NULL, instrument_id integer NOT NULL, side "char" NOT NULL,
    price numeric NOT NULL, amount numeric NOT NULL, venue_id text, ordinal integer,
    PRIMARY KEY (instrument_id, ts, trade_id))
"""


async def collect(url: str, dsn: str, symbols: int, trades: int) -> float:
    """Processor seconds for all `trades`."""
    names = [listing.id for listing in binance_listings(symbols)]
    numbers = {name: number for number, name in enumerate(names)}
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    await connection.execute(_TABLE)
    queue: asyncio.Queue[list[TradeRow]] = asyncio.Queue(4)
    storing = asyncio.create_task(_store(connection, queue, trades))
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as ws:
        for start in range(0, symbols, 200):
            streams = [f"{name.lower()}@aggTrade" for name in names[start : start + 200]]
            await ws.send_str(orjson.dumps({"method": "SUBSCRIBE", "params": streams, "id": start}).decode())
        print("subscribed", flush=True)
        rows: list[TradeRow] = []
        began_s, got = 0.0, 0
        while got < trades:
            message = orjson.loads((await ws.receive()).data)
            data: dict[str, Any] | None = message.get("data")
            if data is None:
                continue
            began_s = began_s or _cpu_s()
            side = "sell" if data["m"] else "buy"
            trade = Trade(data["T"] * 1000, str(data["a"]), data["p"], data["q"], side)  # type: ignore[arg-type]
            rows.append((numbers[data["s"]], data["a"], None, trade))
            got += 1
            if len(rows) >= _BATCH or got == trades:
                await queue.put(rows)
                rows = []
        await storing
    await connection.close()
    return _cpu_s() - began_s


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
