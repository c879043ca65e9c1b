"""Instances made ahead: each is given away once."""

import asyncio

from ohlcvd.exchange import spare


async def test_a_spare_is_given_to_one_only() -> None:
    spare.prepare("kraken")
    loop = asyncio.get_running_loop()
    first, second = spare.instance("kraken", loop), spare.instance("kraken", loop)
    assert first is not second
    for exchange in (first, second):
        assert exchange.asyncio_loop is exchange.throttler.loop is loop
        await exchange.close()
