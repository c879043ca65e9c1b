"""A configured proxy is what an exchange is asked and streamed through."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.errors import ExchangeUnavailable
from ohlcvd.exchange import ExchangeHandler
from tests.exchange.support import BOTH, Recorder, simulator, streaming, until


@asynccontextmanager
async def proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """One that notes what it is asked for and refuses it; its address and the first lines."""
    asked: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode().strip())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize("name", ["kraken", "binance"])
async def test_questions_and_streams_go_through_the_proxy(name: str) -> None:
    recorder = Recorder()
    async with simulator(symbols=2) as running, proxy() as (address, asked):
        urls = running.rest_url(name), running.ws_url(name)
        direct = ExchangeHandler(ExchangeConfig(name, (), *urls))
        await direct.connect()
        markets = [direct._ccxt.markets[symbol] for symbol in direct.symbols()]
        await direct.close()
        handler = ExchangeHandler(ExchangeConfig(name, (), *urls, proxy=address))
        with pytest.raises(ExchangeUnavailable):
            await handler.connect()
        assert asked
        assert all(line.startswith(f"GET {urls[0]}/") for line in asked), asked
        asked.clear()
        await handler.connect(markets)
        async with streaming(handler, list(handler.symbols()), recorder, BOTH):
            await until(lambda: asked, "the stream goes through the proxy")
            assert f"127.0.0.1:{running.port}" in asked[0]
        assert not recorder.live
        await handler.close()
