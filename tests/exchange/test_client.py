"""ccxt's classes as they are used here."""

import asyncio

from ohlcvd.exchange.client import exchange_class


async def test_an_idle_session_hardly_ever_wakes_up_its_process() -> None:
    exchange = exchange_class("kraken")()
    exchange.open()
    try:
        exchange.tcp_connector._cleanup_closed()  # what its timer calls
        timer = exchange.tcp_connector._cleanup_closed_handle  # None: this Python needs no such look
        assert timer is None or timer.when() > asyncio.get_running_loop().time() + 30.0
    finally:
        await exchange.close()
