"""What stands between the daemon and the exchange: cuts the network, and counts what REST answers carry."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from tests.process.between import Between

_ROWS = {"Trades": "trades", "aggTrades": "trades", "OHLC": "candles", "klines": "candles"}


@dataclass(frozen=True, slots=True)
class Request:
    """One REST request that was answered. `kind` is "" for what is no history."""

    at_s: float
    exchange: str
    kind: str
    query: Mapping[str, str]
    status: int
    rows: int


class _Gate:
    """Bytes to a port and back; shut, it ends every connection at once and takes no new one."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.is_open = True
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        self.is_open = False
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        await self.shut()
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_open:
            writer.transport.abort()
            return
        self._writers.add(writer)  # shut in the next moment, its pump ends at once
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            self._writers.discard(writer)
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        pumps = {asyncio.create_task(_pump(reader, far_writer)), asyncio.create_task(_pump(far_reader, writer))}
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._writers -= ends
            for end in ends:
                end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


class Relay(Between):
    """`rest_url` and `ws_url` are what the daemon is told; /NAME is the exchange's name, as it is at the exchange."""

    def __init__(self, exchange_url: str) -> None:
        super().__init__(exchange_url)
        self.requests: list[Request] = []

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self._rest.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self._ws.port}"

    def cut(self) -> None:
        """The network is gone: both ways, REST and WebSockets."""
        self.do(self._ws.shut())
        self.do(self._rest.shut())

    def mend(self) -> None:
        self._ws.is_open = self._rest.is_open = True

    def rows(self, kind: str, exchange: str | None = None) -> int:
        """Rows of this kind that were answered."""
        return sum(one.rows for one in self.requests if one.kind == kind and exchange in (None, one.exchange))

    async def opened(self, port: int) -> None:
        self._rest = _Gate(port)
        exchange_port = urlsplit(self.exchange_url).port
        assert exchange_port is not None
        self._ws = _Gate(exchange_port)
        await self._rest.start()
        await self._ws.start()

    async def closing(self) -> None:
        await self._rest.stop()
        await self._ws.stop()

    async def handle(self, request: web.Request) -> web.Response:
        async with self.session.get(f"{self.exchange_url}{request.rel_url}") as answer:
            body = await answer.read()
        kind = _ROWS.get(request.path.rpartition("/")[2], "")
        count = _count(body) if kind and answer.status == 200 else 0
        self.requests.append(
            Request(time.time(), request.match_info["exchange"], kind, dict(request.query), answer.status, count)
        )
        kept = ("Content-Type", "Retry-After", "X-MBX-USED-WEIGHT-1M")
        headers = {name: answer.headers[name] for name in kept if name in answer.headers}
        return web.Response(status=answer.status, body=body, headers=headers)


def _count(body: bytes) -> int:
    """Rows of a page of trades or candles; what cannot be read carries none."""
    try:
        document = json.loads(body)
    except ValueError:
        return 0
    if isinstance(document, dict):
        document = next((part for part in document.get("result", {}).values() if isinstance(part, list)), [])
    return len(document)
