"""A migrated, empty database and a market of it."""

from collections.abc import AsyncIterator

import pytest

from ohlcvd.database import Database
from ohlcvd.market import Instrument


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        await database.wait_until_up()
        yield database


@pytest.fixture
async def instrument(database: Database) -> Instrument:
    return (await database.instruments("kraken", ["BTC/USD"]))["BTC/USD"]
