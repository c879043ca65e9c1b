"""Gemini: market data version 2. Pure parsing.

Sources: docs.gemini.com/websocket-api, "Market Data Version 2", "Candles Data Feed"; ccxt's class. No recording: tested
with the documented frames.

- `event_id` is the id that REST calls `tid`. `side` is the taker's, times are milliseconds.
- Trades come with the order book only (`l2`); its changes are thrown away unread. The first message of a symbol holds
  its latest trades, newest first, and is the acknowledgement: the venue sends no other.
- Candles begin with about a day of them, newest first; no closed flag.
- Heartbeats are asked for with the trades by nobody: a protocol ping shows a dead connection, the book an idle one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, Pulse, Refusal
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, taker, trade_events
from ohlcvd.market import Candle, Kind, Trade

_NAMES: dict[Kind, str] = {"trades": "l2", "candles": "candles_1m"}


class Gemini(JsonVenue):
    """See the module."""

    symbols_per_request = 20

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        return numbered(urls["api"]["ws"] + "/v2/marketdata", connection)

    def wire_symbol(self, market: Mapping[str, Any]) -> str:
        return str(market["id"]).upper()

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return {"type": "subscribe", "subscriptions": [{"name": _NAMES[kind], "symbols": list(wires)}]}

    def read(self, frame: Any) -> Sequence[Event] | None:
        what, wire = frame.get("type"), frame.get("symbol")
        if what == "trade":
            return trade_events(wire, [frame], _trade)
        if what == "l2_updates":
            if "trades" not in frame:
                return (Pulse(),)
            return [Ack(None, wire, "trades", None), *trade_events(wire, frame["trades"][::-1], _trade, snapshot=True)]
        if what == "candles_1m_updates":
            is_first = len(frame["changes"]) > 2  # a minute's end brings two
            answered: list[Event] = [Ack(None, wire, "candles", None)] if is_first else []
            return answered + candle_events(wire, frame["changes"][::-1], _candle, snapshot=is_first)
        if frame.get("result") == "error" or what == "error":
            return (Refusal(None, None, None, f"{frame.get('message') or frame.get('reason')}"),)
        return None


def _trade(row: Any) -> Trade:
    number = str(whole(row["event_id"]))
    return Trade(
        whole(row["timestamp"]) * 1000, number, digits(row["price"]), digits(row["quantity"]), taker(row["side"])
    )


def _candle(row: Any) -> tuple[Candle, bool]:
    """[time in ms, open, high, low, close, volume]"""
    return candle(whole(row[0]) * 1000, *row[1:6]), False
