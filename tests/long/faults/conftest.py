"""PostgreSQL and Valkey for one test."""

from tests.long.repair.conftest import servers

__all__ = ["servers"]
