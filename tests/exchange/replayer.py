"""A WebSocket server on this machine that accepts every subscription by silence and sends frames when told to."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web


class Replayer:
    """`received` are the clients' texts of all connections, in order of arrival."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.port = 0

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=503)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self.sockets.append(ws)
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    self.received.append(message.data)
        finally:
            self.sockets.remove(ws)
        return ws

    async def send(self, frames: Iterable[dict[str, Any]]) -> None:
        """The recorded frames to every client; those recorded as binary go as binary."""
        for frame in frames:
            for ws in list(self.sockets):
                await (ws.send_bytes(frame["raw"].encode()) if frame.get("bin") else ws.send_str(frame["raw"]))

    def cut(self) -> None:
        for ws in self.sockets:
            request = ws._req
            assert request is not None
            assert request.transport is not None
            request.transport.abort()


async def _bullet(request: web.Request) -> web.StreamResponse:
    """KuCoin's answer to the question where its stream is."""
    servers = [{"endpoint": "wss://ws-api-spot.kucoin.com/", "pingInterval": 18000, "pingTimeout": 10000}]
    return web.json_response({"code": "200000", "data": {"token": "TOKEN", "instanceServers": servers}})


@asynccontextmanager
async def replayer() -> AsyncIterator[Replayer]:
    server, app = Replayer(), web.Application()
    app.router.add_get("/{path:.*}", server._serve)
    app.router.add_post("/api/v1/bullet-public", _bullet)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        server.cut()
        await asyncio.sleep(0)
        await runner.cleanup()
