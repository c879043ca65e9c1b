"""Servers for one test, which it may kill."""

from collections.abc import Iterator

import pytest

from tests.process.sites import Server, postgres, valkey


@pytest.fixture
def database() -> Iterator[Server]:
    with postgres() as server:
        yield server


@pytest.fixture
def cache() -> Iterator[Server]:
    with valkey() as server:
        yield server
