"""Bitstamp: WebSocket v2, trades only; it sends no candles. Pure parsing.

Sources: www.bitstamp.net/websocket/v2, "Public channels / Live ticker" and "Subscriptions"; ccxt's class. No recording
of trades: tested with the documented frames.

- Trade ids are whole numbers that grow with gaps, the same on REST. `type` 0: the taker bought, 1: sold. Prices and
  amounts are taken from the fields that are text.
- REST gives whole seconds only, so live times are cut to them: one trade, one time. Trades come in order of execution.
- One channel a request, acknowledged by name, without a time and without a snapshot.
- No heartbeat: a protocol ping shows a dead connection.
"""

from collections.abc import Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, Refusal
from ohlcvd.exchange.venues.base import JsonVenue, trade_events
from ohlcvd.market import SECOND_US, Kind, Trade

_CHANNEL = "live_trades_"


class Bitstamp(JsonVenue):
    """See the module."""

    kinds: tuple[Kind, ...] = ("trades",)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return {"event": "bts:subscribe", "data": {"channel": _CHANNEL + wires[0]}}

    def read(self, frame: Any) -> Sequence[Event] | None:
        event, channel = frame.get("event"), frame.get("channel") or ""
        wire = channel.removeprefix(_CHANNEL) if channel.startswith(_CHANNEL) else None
        if event == "bts:error":
            return (Refusal(None, wire, "trades", str(frame.get("data", {}).get("message"))),)
        if wire is None:
            return None
        if event == "bts:subscription_succeeded":
            return (Ack(None, wire, "trades", None),)
        return trade_events(wire, [frame["data"]], _trade) if event == "trade" else None


def _trade(row: Any) -> Trade:
    ts_us = whole(row["timestamp"]) * SECOND_US
    side: Any = {0: "buy", 1: "sell"}.get(row["type"], row["type"])
    return Trade(ts_us, str(whole(row["id"])), digits(row["price_str"]), digits(row["amount_str"]), side)
