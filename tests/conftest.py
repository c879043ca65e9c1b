"""Fixtures that several parts share: a PostgreSQL and a Valkey for the whole run, emptied for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ohlcvd.embedded import EmbeddedServer
from tests.servers import fresh_database, temporary_postgres, temporary_valkey

TESTS = Path(__file__).parent


# Files that take minutes: several processes share the suite, and what is long must not come last.
SLOW = (
    "process/test_live",
    "process/test_backfill",
    "exchange/test_stream",
    "test_launcher",
    "repair/",
    "process/",
    "simulator/",
    "database/",
    "embedded/",
    "supervisor/",
    "test_daemon",
    "report/",
)


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
