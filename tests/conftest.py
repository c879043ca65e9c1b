"""Fixtures that several parts share: a PostgreSQL and a Valkey for the whole run, emptied for each test."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict

from ohlcvd.database import Database
from ohlcvd.embedded import EmbeddedServer
from ohlcvd.market import Instrument
from tests.faults import fault_seen, pytest_terminal_summary
from tests.servers import fresh_database, scratch, temporary_postgres, temporary_valkey

__all__ = ["fault_seen", "pytest_terminal_summary"]

TESTS = Path(__file__).parent

# How fast examples come says something about the machine, nothing about the program.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


# Files that take minutes: several processes share the suite, and what is long must not come last.
SLOW = (
    "process/test_live",
    "process/test_backfill",
    "exchange/test_stream",
    "test_examples",
    "test_launcher",
    "repair/",
    "process/",
    "simulator/",
    "database/",
    "embedded/",
    "supervisor/",
    "test_daemon",
    "reading/",
    "report/",
)


def pytest_configure() -> None:
    """Where temporary files go, unless the caller said so, and which signals processes start with.

    Started in the background or by nohup, a run ignores signals, and so would every process that a test starts.
    """
    tempfile.tempdir = os.environ.setdefault("TMPDIR", str(scratch()))  # pytest has asked for it already
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow files first, in the order of SLOW; otherwise as collected."""

    def rank(item: pytest.Item) -> int:
        name = str(item.path.relative_to(TESTS))
        return next((number for number, start in enumerate(SLOW) if name.startswith(start)), len(SLOW))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedServer]:
    """One private PostgreSQL for the whole run."""
    with temporary_postgres() as server:
        yield server


@pytest.fixture
def database_url(postgres_server: EmbeddedServer) -> Iterator[str]:
    """The conninfo of a new, empty database."""
    with fresh_database(postgres_server) as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def schema_template(postgres_server: EmbeddedServer) -> Iterator[str]:
    """The name of a database with the schema: copying it takes less than half of what migrating takes."""

    async def migrate(conninfo: str) -> None:
        async with Database(conninfo) as database:
            await database.wait_until_up()

    with fresh_database(postgres_server) as conninfo:
        asyncio.run(migrate(conninfo))
        yield str(conninfo_to_dict(conninfo)["dbname"])


@pytest.fixture
async def database(postgres_server: EmbeddedServer, schema_template: str) -> AsyncIterator[Database]:
    """A database of its own with the schema."""
    with fresh_database(postgres_server, schema_template) as conninfo:
        async with Database(conninfo) as database:
            await database.wait_until_up()
            yield database


@pytest.fixture
async def instrument(database: Database) -> Instrument:
    """One market of it."""
    return (await database.instruments("kraken", ["BTC/USD"]))["BTC/USD"]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedServer]:
    """One private Valkey for the whole run."""
    with temporary_valkey() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedServer) -> str:
    """The URL of an empty Valkey."""
    with redis.Redis.from_url(redis_server.address) as client:
        client.flushall()
    return redis_server.address
