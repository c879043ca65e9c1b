"""Binance's spot WebSocket streams as a server: /stream (events wrapped with their stream's name) and /ws (bare).

SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS are answered; like the real one it accepts any well-formed stream name,
also of a market that it does not have, and then sends nothing. Events: @aggTrade (one for each aggregate trade), @trade
(raw trades, another family of ids), @kline_1m (about every 2 s after a change, and a last one with "x":true for every
minute). https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
"""

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import ClassVar

from aiohttp import web

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.binance_rest import raw_trades, rest_routes
from ohlcvd.simulator.connection import Channel, Connection, Frame, Subscription
from ohlcvd.simulator.tape import Execution, MinuteCandle
from ohlcvd.simulator.venue import Handler, Venue

MAX_STREAMS = 1024
PING_EVERY_S = 20
KLINE_EVERY_S = 2.0

_STREAM = re.compile(r"([a-z0-9_.]+)@([A-Za-z0-9_@:+]+)", re.ASCII)
_CHANNELS: dict[str, Channel] = {"aggTrade": "trade", "trade": "raw", "kline_1m": "candle"}


class BinanceVenue(Venue):
    """Binance, spot."""

    name: ClassVar[str] = "binance"
    counts_raw_trades: ClassVar[bool] = True
    _seconds = 0

    def routes(self) -> list[tuple[str, Handler]]:
        return [
            ("/stream", self._combined),
            ("/stream/{tail:.*}", self._combined),
            ("/ws", self._bare),
            ("/ws/{tail:.*}", self._bare),
            *rest_routes(self),
        ]

    async def _combined(self, request: web.Request) -> web.StreamResponse:
        return await self.serve(request, combined=True, streams=_names(request.query.get("streams", "")))

    async def _bare(self, request: web.Request) -> web.StreamResponse:
        return await self.serve(request, combined=False, streams=_names(request.match_info.get("tail", "")))

    def greet(self, connection: Connection, streams: Sequence[str]) -> None:
        for stream in streams:
            self._add(connection, stream)

    def every_second(self) -> None:
        self._seconds += 1
        for connection in list(self.connections.values()):
            for name, subscription in connection.subscriptions.items():
                if subscription.channel == "candle":
                    connection.due(name)
            if self._seconds % PING_EVERY_S == 0 and not connection.deaf and not self.faults.is_silent():
                connection.ping(str(self.clock.now_ns() // 1_000_000).encode())

    # the client's messages

    def received(self, connection: Connection, text: str) -> None:
        if self._talks_too_much(connection):
            connection.close_with(1008, b"Too many requests")
            return
        try:
            message = json.loads(text)
        except ValueError as error:
            connection.send(json.dumps({"error": {"code": 3, "msg": f"Invalid JSON: {error}"}}))
            return
        method, params = (message.get("method"), message.get("params", [])) if isinstance(message, dict) else (None, [])
        request_id = message.get("id") if isinstance(message, dict) else None
        if method == "LIST_SUBSCRIPTIONS":
            connection.send(json.dumps({"result": list(connection.subscriptions), "id": request_id}))
            return
        fault = self._fault_of(connection, method, params)
        if fault is not None:
            code, reason = fault
            connection.send(json.dumps({"error": {"code": code, "msg": reason}, "id": request_id}))
            return
        for stream in params:
            if method == "SUBSCRIBE":
                self._add(connection, stream)
            elif stream in connection.subscriptions:
                self.unsubscribe(connection, stream)
        connection.send(json.dumps({"result": None, "id": request_id}))

    def _talks_too_much(self, connection: Connection) -> bool:
        now = asyncio.get_running_loop().time()
        times: deque[float] = connection.heard
        while times and times[0] < now - 1:
            times.popleft()
        times.append(now)
        return len(times) > self.faults.messages_per_s

    def _fault_of(self, connection: Connection, method: object, params: object) -> tuple[int, str] | None:
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return 2, "Invalid request: unknown method"
        if not isinstance(params, list) or not all(isinstance(stream, str) for stream in params):
            return 2, "Invalid request: request params must be a list of strings"
        if method == "UNSUBSCRIBE":
            return None
        for stream in params:
            matched = _STREAM.fullmatch(stream)
            if matched is None:
                return 2, "Invalid request: invalid stream"
            if self.symbol_of(matched[1].upper()) in self.faults.refused:
                return -1121, "Invalid symbol."
        if len(connection.subscriptions.keys() | set(params)) > MAX_STREAMS:
            return 2, f"Invalid request: too many streams, a connection may have {MAX_STREAMS}"
        return None

    def _add(self, connection: Connection, stream: str) -> None:
        matched = _STREAM.fullmatch(stream)
        if matched is None or stream in connection.subscriptions:
            return
        symbol = self.symbol_of(matched[1].upper())
        self.subscribe(connection, stream, _CHANNELS.get(matched[2], "other"), symbol or "")

    # trades and candles

    def trade_frames(self, symbol: str, executions: Sequence[Execution], *, combined: bool = True) -> list[str]:
        market_id = self.listings[symbol].id
        now_ms = self.clock.now_ns() // 1_000_000
        return [
            _wrapped(
                f"{market_id.lower()}@aggTrade",
                f'{{"e":"aggTrade","E":{max(now_ms, one.ts_ns // 1_000_000)},"s":"{market_id}","a":{one.id},'
                f'"p":"{one.price}","q":"{one.amount}","f":{one.raw_first},"l":{one.raw_last},'
                f'"T":{one.ts_ns // 1_000_000},"m":{"true" if one.side == "sell" else "false"},"M":true}}',
                combined,
            )
            for one in executions
        ]

    def part_frames(self, connection: Connection, subscription: Subscription, start: int, end: int) -> Iterator[Frame]:
        symbol = subscription.symbol
        executions = self.tape(symbol).executions(start, end)
        if subscription.channel == "raw":
            for execution in executions:
                yield from (Frame(text) for text in self._raw_frames(symbol, execution, connection.combined))
            return
        for execution, text in zip(
            executions, self.trade_frames(symbol, executions, combined=connection.combined), strict=True
        ):
            yield Frame(text, symbol, execution.id, execution.id + 1)

    def _raw_frames(self, symbol: str, execution: Execution, combined: bool) -> Iterator[str]:
        market_id = self.listings[symbol].id
        maker = "true" if execution.side == "sell" else "false"
        ts_ms = execution.ts_ns // 1_000_000
        for raw_id, price, amount in raw_trades(execution):
            yield _wrapped(
                f"{market_id.lower()}@trade",
                f'{{"e":"trade","E":{ts_ms},"s":"{market_id}","t":{raw_id},"p":"{price}","q":"{amount}","T":{ts_ms},'
                f'"m":{maker},"M":true}}',
                combined,
            )

    def candle_due(self, connection: Connection, subscription: Subscription) -> Iterator[Frame]:
        """The closing event of every minute that has ended, then the running minute when it has changed.

        The closings come first when a trade of the next minute is due: the venue never goes back to an old minute.
        """
        symbol, tape = subscription.symbol, self.tape(subscription.symbol)
        now_us = self.clock.now_ns() // 1000
        running = now_us - now_us % MINUTE_US
        visible = self.visible(symbol)
        while subscription.minute_us < running:
            ended = subscription.minute_us
            subscription.minute_us = ended + MINUTE_US
            subscription.cursor = max(subscription.cursor, min(visible, tape.id_at((ended + MINUTE_US) * 1000)))
            yield from self._kline(connection, symbol, ended, visible, closed=True)
        now_mono = time.monotonic()
        if subscription.cursor < visible and now_mono - subscription.reported_mono >= KLINE_EVERY_S:
            subscription.cursor, subscription.reported_mono = visible, now_mono
            yield from self._kline(connection, symbol, running, visible, closed=False)

    def _kline(self, connection: Connection, symbol: str, ts_us: int, visible: int, *, closed: bool) -> Iterator[Frame]:
        candle = self.minute(symbol, ts_us, visible)
        if candle is not None:
            yield Frame(self.candle_frame(symbol, candle, closed=closed, combined=connection.combined))

    def candle_frame(self, symbol: str, candle: MinuteCandle, *, closed: bool, combined: bool = True) -> str:
        market_id = self.listings[symbol].id
        opened_ms = candle.ts_us // 1000
        return _wrapped(
            f"{market_id.lower()}@kline_1m",
            f'{{"e":"kline","E":{self.clock.now_ns() // 1_000_000},"s":"{market_id}","k":{{"t":{opened_ms},'
            f'"T":{opened_ms + 59_999},"s":"{market_id}","i":"1m","f":{candle.raw_first},"L":{candle.raw_last},'
            f'"o":"{candle.open}","c":"{candle.close}","h":"{candle.high}","l":"{candle.low}","v":"{candle.volume}",'
            f'"n":{candle.raw_trades},"x":{"true" if closed else "false"},"q":"{candle.quote_volume}",'
            f'"V":"{candle.buy_volume}","Q":"{candle.buy_quote_volume}","B":"0"}}}}',
            combined,
        )


def _wrapped(stream: str, event: str, combined: bool) -> str:
    return f'{{"stream":"{stream}","data":{event}}}' if combined else event


def _names(text: str) -> list[str]:
    """Streams named in a URL; ccxt adds a number there, which names none."""
    return [name for name in text.split("/") if "@" in name]
