"""A simulator for each test, with a market busy enough that a test need not wait."""

from collections.abc import AsyncIterator

import pytest

from ohlcvd.simulator.market import MarketSettings
from ohlcvd.simulator.server import Simulator, SimulatorSettings

BUSY = MarketSettings(rate=300, symbols=12, history_s=2 * 3600)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(BUSY)) as running:
        yield running
