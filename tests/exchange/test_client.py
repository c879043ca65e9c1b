"""ccxt's classes as they are used here."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from ohlcvd.exchange import loading
from ohlcvd.exchange.client import Gate, exchange_class

_RequestTimeout: Any = loading.ccxt_name("ccxt.base.errors", "RequestTimeout")


async def test_an_idle_session_hardly_ever_wakes_up_its_process() -> None:
    exchange = exchange_class("kraken")()
    exchange.open()
    try:
        exchange.tcp_connector._cleanup_closed()  # what its timer calls
        timer = exchange.tcp_connector._cleanup_closed_handle  # None: this Python needs no such look
        assert timer is None or timer.when() > asyncio.get_running_loop().time() + 30.0
    finally:
        await exchange.close()


async def test_pings_are_sent_in_step_and_an_end_without_answers_is_noticed() -> None:
    pinged_s: list[float] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.PING:
                pinged_s.append(asyncio.get_running_loop().time())
                if len(pinged_s) <= 3:
                    await ws.pong(message.data)
        return ws

    application = web.Application()
    application.router.add_get("/", serve)
    exchange = exchange_class("binance")()
    exchange.gate, exchange.tap = Gate(), lambda text: True
    exchange.on_fault, exchange.on_end = lambda text, error: None, lambda reason: None
    async with TestServer(application) as server:
        url = str(server.make_url("/"))
        try:
            client = exchange.client(url)
            client.keepAlive = 200.0
            with pytest.raises(_RequestTimeout, match="does not answer pings"):
                await exchange.watch_multiple(url, ["anything"])
        finally:
            await exchange.close()
    assert 4 <= len(pinged_s) <= 7
    assert all(later - sooner < 0.35 for sooner, later in pairwise(pinged_s))
