"""A second market, a database for a module, room for sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ohlcvd.database import Database
from ohlcvd.embedded import EmbeddedServer
from ohlcvd.market import Instrument
from tests.servers import fresh_database, private_directory


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
