"""Fixtures for the cache: a server that a test may break, and what was logged meanwhile."""

import logging
from collections.abc import Iterator

import pytest

from tests.cache.valkey import Valkey, new_valkey


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """Running, with no password, on a unix socket only."""
    with new_valkey() as server:
        server.start()
        yield server


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Level and message of each line that the cache logs."""
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname}: {record.getMessage()}")

    logger, keeper = logging.getLogger("ohlcvd.cache"), Keeper()
    level = logger.level
    logger.addHandler(keeper)
    logger.setLevel(logging.DEBUG)
    yield lines
    logger.removeHandler(keeper)
    logger.setLevel(level)
