"""A migrated, empty database and two markets of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ohlcvd.database import Database
from ohlcvd.embedded import EmbeddedServer
from ohlcvd.market import Instrument
from tests.servers import fresh_database, private_directory


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        await database.wait_until_up()
        yield database


@pytest.fixture
async def instrument(database: Database) -> Instrument:
    return (await database.instruments("kraken", ["BTC/USD"]))["BTC/USD"]


@pytest.fixture
async def other(database: Database) -> Instrument:
    return (await database.instruments("kraken", ["ETH/USD"]))["ETH/USD"]


@pytest.fixture(scope="module")
def module_database(postgres_server: EmbeddedServer) -> Iterator[str]:
    """The conninfo of a database for a whole module, where tests leave nothing behind."""
    with fresh_database(postgres_server) as conninfo:
        yield conninfo


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A private directory in which a server's socket has room."""
    with private_directory() as folder:
        yield folder
