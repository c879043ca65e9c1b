"""Bybit spot, linear and inverse contracts: WebSocket v5, one address for each. Pure parsing.

Sources: bybit-exchange.github.io/docs/v5, "WebSocket Stream / Public / Trade", "Kline" and "Connect"; ccxt's class.

- Trade ids are UUIDs, the same on WebSocket and REST. `S` is the taker's side, times are milliseconds. The trades of a
  frame are in order of time. No snapshot after subscribing, although frames are called so.
- Klines say `confirm` true once a minute is closed; minutes without trades are sent too.
- A request of at most 10 topics is answered by its `req_id`, and refused as a whole if one of them is wrong.
- No heartbeat: the client pings every 20 s at the latest (ccxt does) and is answered.
- Amounts of inverse contracts are US dollars, in trades and here in candles alike (ccxt counts coins in the latter).
- Version 2 of the protocol (topics `trade.X`) is refused aloud: ccxt makes trades without content of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, OldProtocol, Pong, Refusal
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, taker, trade_events
from ohlcvd.market import Candle, Kind, Trade

_TOPICS: dict[Kind, str] = {"trades": "publicTrade.", "candles": "kline.1."}


class Bybit(JsonVenue):
    """One part of the venue: "spot", "linear" or "inverse". See the module."""

    symbols_per_request = 10
    ping_s = 18.0
    options: Mapping[str, Any] = {"fetchMarkets": {"types": ["spot", "linear", "inverse"]}}

    def __init__(self, part: str) -> None:
        self._part = part

    def lists(self, market: Mapping[str, Any]) -> bool:
        return bool(market.get(self._part)) and not market.get("option")

    def adapt(self, exchange: Any) -> None:
        exchange.parse_ohlcv = lambda row, market=None: [int(row[0]), *row[1:6]]

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        return numbered(urls["api"]["ws"]["public"][self._part], connection)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return {"op": "subscribe", "req_id": str(request_id), "args": [_TOPICS[kind] + wire for wire in wires]}

    def read(self, frame: Any) -> Sequence[Event] | None:
        topic = frame.get("topic")
        if topic is None:
            return _answer(frame)
        if topic.startswith("publicTrade."):
            return trade_events(topic.removeprefix("publicTrade."), frame["data"], _trade, venue_us=_sent_us(frame))
        if topic.startswith("kline.1."):
            return candle_events(topic.removeprefix("kline.1."), frame["data"], _candle, venue_us=_sent_us(frame))
        if topic.startswith(("trade.", "klineV2.", "candle.")):
            raise OldProtocol(f"topic {topic} belongs to API version 2, which is no longer spoken")
        return None


def _trade(row: Any) -> Trade:
    return Trade(whole(row["T"]) * 1000, str(row["i"]), digits(row["p"]), digits(row["v"]), taker(row["S"]))


def _candle(row: Any) -> tuple[Candle, bool]:
    values = row["open"], row["high"], row["low"], row["close"], row["volume"]
    return candle(whole(row["start"]) * 1000, *values), row["confirm"] is True


def _sent_us(frame: Any) -> int | None:
    return whole(frame["ts"]) * 1000 if "ts" in frame else None


def _answer(frame: Any) -> Sequence[Event] | None:
    operation, request_id = frame.get("op"), frame.get("req_id")
    if operation in ("ping", "pong") or frame.get("ret_msg") == "pong":
        return (Pong(None, None),)
    if operation != "subscribe":
        return None
    number = int(request_id) if request_id else None
    if frame.get("success") is True:
        return (Ack(number, None, None, None),)
    return (Refusal(number, None, None, str(frame.get("ret_msg"))),)
