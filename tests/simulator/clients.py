"""Plain clients for the simulator's tests: one REST session, one WebSocket, and waiting for a condition."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from ohlcvd.simulator.server import Simulator

PATIENCE_S = 120.0


class Client:
    """A WebSocket with everything that came over it: `texts` as sent, `frames` decoded (numbers as text)."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.texts: list[str] = []
        self.frames: list[Any] = []

    async def send(self, message: object) -> None:
        await self.ws.send_str(message if isinstance(message, str) else json.dumps(message))

    async def receive(self, timeout_s: float = PATIENCE_S) -> bool:
        """One frame; False when the connection has ended."""
        message = await self.ws.receive(timeout=timeout_s)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return False
        self.texts.append(message.data)
        try:
            self.frames.append(json.loads(message.data, parse_float=str))
        except ValueError:
            self.frames.append(None)
        return True

    async def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Reads until the condition holds; AssertionError when it does not in time, or the connection ends."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"not in {timeout_s} s; last frames: {self.texts[-3:]}"
            assert await self.receive(left), f"the connection ended; last frames: {self.texts[-3:]}"

    async def quiet(self, seconds: float) -> int:
        """Reads for so long; how many frames came."""
        before, deadline = len(self.frames), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                if not await self.receive(left):
                    break
            except TimeoutError:
                break
        return len(self.frames) - before

    def kraken_rows(self, channel: str, symbol: str, kind: str = "update") -> list[dict[str, Any]]:
        return [
            row
            for frame in self.frames
            if frame and frame.get("channel") == channel and frame.get("type") == kind
            for row in frame["data"]
            if row["symbol"] == symbol
        ]

    def events(self, kind: str, market_id: str) -> list[dict[str, Any]]:
        """Binance's events, wrapped or bare."""
        bodies = [frame.get("data", frame) for frame in self.frames if frame]
        return [body for body in bodies if body.get("e") == kind and body.get("s") == market_id]


@asynccontextmanager
async def websocket(url: str, **options: Any) -> AsyncIterator[Client]:
    async with (
        aiohttp.ClientSession(**options) as session,
        session.ws_connect(url, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=1)) as ws,
    ):
        yield Client(ws)


@asynccontextmanager
async def kraken(
    simulator: Simulator, symbols: Sequence[str], *channels: str, **params: object
) -> AsyncIterator[Client]:
    """Subscribed: every acknowledgement has come."""
    async with websocket(simulator.ws_url("kraken") + "/v2") as client:
        for channel in channels:
            more = {"interval": 1} if channel == "ohlc" else {}
            wanted = {"channel": channel, "symbol": list(symbols), **more, **params}
            await client.send({"method": "subscribe", "params": wanted})
        count = len(symbols) * len(channels)
        await client.until(lambda: sum(frame.get("method") == "subscribe" for frame in client.frames) == count)
        yield client


@asynccontextmanager
async def binance(simulator: Simulator, *streams: str) -> AsyncIterator[Client]:
    """Subscribed over /stream: the acknowledgement has come."""
    async with websocket(simulator.ws_url("binance") + "/stream") as client:
        await client.send({"method": "SUBSCRIBE", "params": list(streams), "id": 1})
        await client.until(lambda: {"result": None, "id": 1} in client.frames)
        yield client


async def get(url: str, **query: object) -> Any:
    """A REST answer; numbers with a point stay text."""
    async with aiohttp.ClientSession() as session, session.get(url, params=_texts(query)) as answer:
        return json.loads(await answer.text(), parse_float=str)


async def get_raw(url: str, **query: object) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers."""
    async with aiohttp.ClientSession() as session, session.get(url, params=_texts(query)) as answer:
        return answer.status, await answer.text(), dict(answer.headers)


async def post(url: str, document: object) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(url, json=document) as answer:
        return answer.status, await answer.json()


def control(simulator: Simulator, name: str) -> str:
    return f"http://{simulator.host}:{simulator.port}/control/{name}"


async def eventually(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Waits for a condition that no frame announces."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s"
        await asyncio.sleep(0.01)


def _texts(query: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items()}
