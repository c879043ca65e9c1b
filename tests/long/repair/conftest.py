"""PostgreSQL and Valkey for one test."""

import pytest

from tests.long.repair.support import Servers


@pytest.fixture
def servers(database_url: str, redis_url: str) -> Servers:
    return Servers(database_url, redis_url)
