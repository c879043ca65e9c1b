"""Stands between the daemon and the exchange and adds what a hostile or broken venue might send."""

import asyncio
import itertools
from typing import Final

import aiohttp
from aiohttp import web

from tests.process.between import Between

EVERY: Final = 7  # so many true frames between two of ours
LARGE: Final = 10 << 20

_CONTROL: Final = "\\u0000\\u001b[2J\\u001b]0;owned\\u0007\\u202e\\ud800"
_SQL: Final = "BTC/USD'); DROP SCHEMA ohlcvd CASCADE; --"
_TRADE: Final = '{"channel":"trade","type":"update","data":[%s]}'
_ROW: Final = '{"symbol":"%s","side":"%s","price":%s,"qty":%s,"ord_type":"limit","trade_id":%s,"timestamp":"%s"}'
_TIME: Final = "2026-01-01T00:00:00.000000Z"
_AGGREGATE: Final = (
    '{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1,"s":%s,"a":%s,"p":"%s","q":"%s","T":%s,"m":true}}'
)

# Each is sent to both venues; most are in the words of one of them.
FRAMES: Final = (
    "",
    "null",
    "[]",
    "{}",
    "\x1b[31mnot json at all\x07",
    "[" * 200_000,
    '{"a":' * 100_000,
    '{"channel":"trade"}',
    '{"channel":"trade","data":null}',
    '{"channel":"trade","data":"x"}',
    '{"channel":["trade"],"data":[]}',
    '{"channel":"trade","data":[' + "[" * 5_000 + "]" * 5_000 + "]}",
    _TRADE % (_ROW % (_CONTROL, "buy", "1", "1", "1", _TIME)),
    _TRADE % (_ROW % (_SQL, "buy", "1", "1", "1", _TIME)),
    _TRADE % (_ROW % ("BTC/USD", _CONTROL, "1", "1", "1", _TIME)),
    _TRADE % (_ROW % ("BTC/USD", "buy", "1e999999999", "NaN", "-1", _TIME)),
    _TRADE % (_ROW % ("BTC/USD", "buy", "-1", "0", "9" * 5_000, _TIME)),
    _TRADE % (_ROW % ("BTC/USD", "buy", "1", "1", "1", _SQL)),
    _TRADE % (_ROW % ("BTC/USD", "buy", "1", "1", "1", "9999-12-31T23:59:59Z")),
    _TRADE % (_ROW % (["BTC/USD"], "buy", "1", "1", "1", _TIME)),
    '{"channel":"ohlc","type":"update","data":[{"symbol":{},"interval":1}]}',
    f'{{"method":"subscribe","success":true,"result":{{"channel":"{_CONTROL}","symbol":"{_SQL}"}}}}',
    f'{{"method":"subscribe","success":false,"error":"{_CONTROL}","symbol":"{_CONTROL}"}}',
    _AGGREGATE % ('"BTCUSDT"', '"x"', _CONTROL, "1", "0"),
    _AGGREGATE % ("null", "-5", "1", "1", f'"{_SQL}"'),
    _AGGREGATE % ('{"a":1}', "1", "1", "1", "1"),
    '{"stream":"btcusdt@kline_1m","data":{"e":"kline","s":"BTCUSDT","k":null}}',
    f'{{"stream":"btcusdt@kline_1m","data":{{"e":"kline","s":"BTCUSDT","k":{{"t":"{_CONTROL}"}}}}}}',
    f'{{"result":null,"id":"{_CONTROL}"}}',
    f'{{"error":{{"code":2,"msg":"{_CONTROL}"}},"id":{{}}}}',
    '{"x":"' + "A" * (1 << 20) + '"}',
    '{"x":"' + "A" * LARGE + '"}',
)
ANSWERS: Final = (
    b"",
    b"null",
    b"<html>\x1b[31mBad Gateway</html>",
    b"[" * 200_000,
    b'{"result":' + b"9" * 100_000 + b"}",
    b'{"error":["%b"],"result":{}}' % _CONTROL.encode(),
    b'{"error":[],"result":{"XXBTZUSD":[[1,2]],"last":"x"}}',
    b'[{"a":"x","p":"%b","q":null,"T":{},"m":0}]' % _CONTROL.encode(),
    b'{"x":"' + b"A" * LARGE + b'"}',
)


class Injector(Between):
    """`rest_url` and `ws_url` are what the daemon is told; /NAME is the exchange's name, as it is at the exchange."""

    def __init__(self, exchange_url: str) -> None:
        super().__init__(exchange_url)
        self.frames = 0  # of ours that were sent
        self.answers = 0
        self.is_hostile = False
        self.rest_url = self.ws_url = ""
        self._next_frame = itertools.cycle(FRAMES)
        self._next_answer = itertools.cycle(ANSWERS)
        self._requests = 0

    async def opened(self, port: int) -> None:
        self.rest_url, self.ws_url = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        self._requests += 1
        if self.is_hostile and self._requests % 2:
            self.answers += 1
            return web.Response(body=next(self._next_answer), content_type="application/json")
        async with self.session.get(f"{self.exchange_url}{request.rel_url}") as answer:
            body = await answer.read()
            return web.Response(status=answer.status, body=body, content_type="application/json")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        near = web.WebSocketResponse()
        await near.prepare(request)
        url = f"{self.exchange_url}{request.rel_url}".replace("http", "ws", 1)
        async with self.session.ws_connect(url, max_msg_size=0) as far:
            ways = [asyncio.create_task(self._outward(near, far)), asyncio.create_task(self._inward(near, far))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        await near.close()
        return near

    async def _outward(self, near: web.WebSocketResponse, far: aiohttp.ClientWebSocketResponse) -> None:
        async for message in near:
            if message.type is aiohttp.WSMsgType.TEXT:
                await far.send_str(message.data)

    async def _inward(self, near: web.WebSocketResponse, far: aiohttp.ClientWebSocketResponse) -> None:
        count = 0
        async for message in far:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            await near.send_str(message.data)
            count += 1
            if self.is_hostile and count % EVERY == 0:
                self.frames += 1
                await near.send_str(next(self._next_frame))
