"""Kraken Futures (ccxt: krakenfutures): WebSocket v1, trades only; it sends no candles. Pure parsing.

Sources: docs.kraken.com/api/docs/futures-api/websocket, "Trade", "Heartbeat"; ccxt's class. No recording: tested with
the documented frames.

- `uid` identifies a trade, the same on REST. `side` is the taker's, times are milliseconds, amounts contracts.
- A subscription begins with `trade_snapshot`, the latest 100 trades, newest first.
- Every product is acknowledged by name, without a time; an unknown one is an alert that names nothing.
- No heartbeat unless asked for: a protocol ping shows a dead connection.
"""

from collections.abc import Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, Refusal
from ohlcvd.exchange.venues.base import JsonVenue, taker, trade_events
from ohlcvd.market import Kind, Trade


class KrakenFutures(JsonVenue):
    """See the module."""

    kinds: tuple[Kind, ...] = ("trades",)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return {"event": "subscribe", "feed": "trade", "product_ids": list(wires)}

    def read(self, frame: Any) -> Sequence[Event] | None:
        event, feed = frame.get("event"), frame.get("feed")
        if event == "subscribed" and feed == "trade":
            return [Ack(None, wire, "trades", None) for wire in frame["product_ids"]]
        if event in ("alert", "error"):
            return (Refusal(None, None, None, str(frame.get("message"))),)
        if event is None and feed == "trade":
            return trade_events(frame["product_id"], [frame], _trade)
        if event is None and feed == "trade_snapshot":
            return trade_events(frame["product_id"], frame["trades"][::-1], _trade, snapshot=True)
        return None


def _trade(row: Any) -> Trade:
    side = taker(row["side"])
    return Trade(whole(row["time"]) * 1000, str(row["uid"]), digits(row["price"]), digits(row["qty"]), side)
