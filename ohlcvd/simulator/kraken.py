"""Kraken's WebSocket v2 as a server: acks and refusals per symbol, heartbeats, snapshots, trade and ohlc updates.

Prices and amounts are JSON numbers with all their digits. Nothing is sent for a minute without trades, and nothing
says that a candle is closed. https://docs.kraken.com/api/docs/websocket-v2/trade
"""

import json
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from aiohttp import web

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.connection import Channel, Connection, Frame, Subscription
from ohlcvd.simulator.kraken_rest import rest_routes
from ohlcvd.simulator.sent import IdRanges
from ohlcvd.simulator.tape import Execution, MinuteCandle
from ohlcvd.simulator.venue import Handler, Venue

SNAPSHOT_TRADES = 50
SNAPSHOT_CANDLES = 10
TRADES_PER_FRAME = 100

_CHANNELS: dict[str, Channel] = {"trade": "trade", "ohlc": "candle"}


class KrakenVenue(Venue):
    """Kraken, spot."""

    name: ClassVar[str] = "kraken"

    def routes(self) -> list[tuple[str, Handler]]:
        return [("/v2", self._websocket), *rest_routes(self)]

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        return await self.serve(request, combined=False)

    def greet(self, connection: Connection, streams: Sequence[str]) -> None:
        connection.send(
            '{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2",'
            f'"connection_id":{6447481662169813000 + connection.number}}}]}}'
        )

    def every_second(self) -> None:
        for connection in list(self.connections.values()):
            if connection.subscriptions:
                connection.send('{"channel":"heartbeat"}')

    # the client's messages

    def received(self, connection: Connection, text: str) -> None:
        time_in = iso(self.clock.now_ns())
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self._refuse(connection, time_in, {}, "Malformed request")
            return
        method = message.get("method")
        if method == "ping":
            self._answer(connection, time_in, message, {})
        elif method in ("subscribe", "unsubscribe"):
            self._subscriptions(connection, time_in, message)
        else:
            self._refuse(connection, time_in, message, "Event(s) not found")

    def _subscriptions(self, connection: Connection, time_in: str, message: dict[str, Any]) -> None:
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        channel, symbols = params.get("channel"), params.get("symbol")
        if channel not in _CHANNELS:
            self._refuse(connection, time_in, message, "Subscription name invalid")
            return
        if not isinstance(symbols, list) or not symbols:
            self._refuse(connection, time_in, message, "Symbol(s) not found")
            return
        if channel == "ohlc" and params.get("interval", 1) != 1:
            self._refuse(connection, time_in, message, "Subscription ohlc interval not supported")
            return
        accepted = []
        for symbol in map(str, symbols):
            fault = self._fault_of(connection, message["method"], channel, symbol)
            if fault is not None:
                self._refuse(connection, time_in, message, fault, symbol=symbol)
                continue
            result: dict[str, object] = {"channel": channel}
            if channel == "ohlc":
                result["interval"] = 1
            if message["method"] == "subscribe":
                result["snapshot"] = params.get("snapshot", True) is not False
                accepted.append(self.subscribe(connection, f"{channel}:{symbol}", _CHANNELS[channel], symbol))
            else:
                self.unsubscribe(connection, f"{channel}:{symbol}")
            self._answer(connection, time_in, message, {"result": {**result, "symbol": symbol}, "success": True})
        if self.live and params.get("snapshot", True) is not False:
            for subscription in accepted:
                self._snapshot(connection, subscription)

    def _fault_of(self, connection: Connection, method: str, channel: str, symbol: str) -> str | None:
        if not self.is_listed(symbol) or symbol in self.faults.refused:
            return f"Currency pair not supported {symbol}"
        subscribed = f"{channel}:{symbol}" in connection.subscriptions
        if method == "subscribe" and subscribed:
            return "Already subscribed"
        if method == "unsubscribe" and not subscribed:
            return "Subscription Not Found"
        return None

    def _answer(self, connection: Connection, time_in: str, message: dict[str, Any], more: dict[str, object]) -> None:
        method = message.get("method")
        answer = {"method": "pong" if method == "ping" else method, **more}
        if message.get("req_id") is not None:
            answer["req_id"] = message["req_id"]
        answer |= {"time_in": time_in, "time_out": iso(self.clock.now_ns())}
        connection.send(json.dumps(answer, separators=(",", ":")))

    def _refuse(
        self, connection: Connection, time_in: str, message: dict[str, Any], error: str, *, symbol: str | None = None
    ) -> None:
        more: dict[str, object] = {"error": error, "success": False}
        if symbol is not None:
            more["symbol"] = symbol
        self._answer(connection, time_in, message, more)

    # trades and candles

    def _snapshot(self, connection: Connection, subscription: Subscription) -> None:
        symbol = subscription.symbol
        if subscription.channel == "trade":
            start = max(self.tape(symbol).first_id, subscription.cursor - SNAPSHOT_TRADES)
            executions = self.executions(symbol, start, subscription.cursor)
            if executions:
                self.snapshots.setdefault(symbol, IdRanges()).add(start, subscription.cursor)
                connection.send(_trade_frame(symbol, executions, kind="snapshot"))
            return
        newest = self.clock.now_ns() // 1000 // MINUTE_US * MINUTE_US
        minutes = (
            self.minute(symbol, newest - back * MINUTE_US, subscription.cursor)
            for back in range(SNAPSHOT_CANDLES, -1, -1)
        )
        rows = [_candle_json(symbol, minute) for minute in minutes if minute is not None and minute.trades]
        if rows:
            connection.send(self._candle_frame(rows, kind="snapshot"))

    def trade_frames(self, symbol: str, executions: Sequence[Execution], *, combined: bool = True) -> list[str]:
        return [
            _trade_frame(symbol, executions[at : at + TRADES_PER_FRAME])
            for at in range(0, len(executions), TRADES_PER_FRAME)
        ]

    def part_frames(self, connection: Connection, subscription: Subscription, start: int, end: int) -> Iterator[Frame]:
        symbol = subscription.symbol
        for at in range(start, end, TRADES_PER_FRAME):
            stop = min(end, at + TRADES_PER_FRAME)
            yield Frame(_trade_frame(symbol, self.tape(symbol).executions(at, stop)), symbol, at, stop)

    def candle_due(self, connection: Connection, subscription: Subscription) -> Iterator[Frame]:
        """One frame for each minute that has new trades."""
        symbol, tape = subscription.symbol, self.tape(subscription.symbol)
        visible = self.visible(symbol)
        while subscription.cursor < visible:
            traded_us = tape.time_ns(subscription.cursor) // 1000
            minute_us = traded_us - traded_us % MINUTE_US
            end = min(visible, tape.id_at((minute_us + MINUTE_US) * 1000))
            subscription.cursor, subscription.minute_us = end, minute_us
            candle = self.minute(symbol, minute_us, end)
            if candle is not None:
                yield Frame(self.candle_frame(symbol, candle, closed=False))

    def candle_frame(self, symbol: str, candle: MinuteCandle, *, closed: bool, combined: bool = True) -> str:
        return self._candle_frame([_candle_json(symbol, candle)], kind="update")

    def _candle_frame(self, rows: list[str], *, kind: str) -> str:
        now = iso(self.clock.now_ns())
        return f'{{"channel":"ohlc","type":"{kind}","timestamp":"{now}","data":[{",".join(rows)}]}}'


def _trade_frame(symbol: str, executions: Sequence[Execution], *, kind: str = "update") -> str:
    rows = ",".join(
        f'{{"symbol":"{symbol}","side":"{one.side}","price":{one.price},"qty":{one.amount},'
        f'"ord_type":"{"limit" if one.is_limit else "market"}","trade_id":{one.id},"timestamp":"{iso(one.ts_ns)}"}}'
        for one in executions
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'


def _candle_json(symbol: str, candle: MinuteCandle) -> str:
    begin, end = iso(candle.ts_us * 1000)[:-1], iso((candle.ts_us + MINUTE_US) * 1000)
    return (
        f'{{"symbol":"{symbol}","open":{candle.open},"high":{candle.high},"low":{candle.low},"close":{candle.close},'
        f'"trades":{candle.trades},"volume":{candle.volume},"vwap":{candle.vwap},"interval_begin":"{begin}000Z",'
        f'"interval":1,"timestamp":"{end}"}}'
    )


def iso(ts_ns: int) -> str:
    """ "2025-11-10T17:23:53.971744Z": microseconds, floored."""
    seconds, rest_ns = divmod(ts_ns, 10**9)
    return f"{_iso_second(seconds)}.{rest_ns // 1000:06d}Z"


@lru_cache(maxsize=256)
def _iso_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
