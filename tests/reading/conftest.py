"""A database with two days of minutes and trades of one market, and a configuration that names it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ohlcvd.database import Database
from ohlcvd.embedded import EmbeddedServer
from ohlcvd.market import MINUTE_US
from tests.database.support import NOON_US, candle, trade, writing
from tests.servers import fresh_database, private_directory

# From noon on; the first of the two days is over and complete.
MINUTES = 1_500


class Stored(NamedTuple):
    """Where it is."""

    folder: Path
    file: Path
    conninfo: str


@pytest.fixture(scope="module")
def stored(postgres_server: EmbeddedServer) -> Iterator[Stored]:
    with private_directory() as folder, fresh_database(postgres_server) as conninfo:
        asyncio.run(_fill(conninfo))
        lines = [
            "[ohlcvd]",
            "exchanges = kraken",
            *(f"{name}_dir = {folder}/{name}" for name in ("state", "run", "log")),
        ]
        file = folder / "my.conf"
        file.write_text("\n".join([*lines, "[postgres]", f"dsn = {conninfo}", "[redis]", "url = embedded"]) + "\n")
        (folder / ".env").touch()
        yield Stored(folder, file, conninfo)


async def _fill(conninfo: str) -> None:
    async with Database(conninfo) as database:
        await database.wait_until_up()
        markets = await database.instruments("kraken", ["BTC/USD", "ETH/USD"])
        async with writing(database) as writer:
            market = markets["BTC/USD"]
            candles = [candle(minute, str(100 + minute % 10)) for minute in range(MINUTES)]
            writer.add_candles(market, candles)
            writer.add_trades(market, [trade(number) for number in range(1_000)])
            writer.cover(market, "candles", NOON_US, NOON_US + MINUTES * MINUTE_US)
            writer.cover(market, "trades", NOON_US, NOON_US + MINUTE_US)
            assert await writer.drain(30)
