"""Deribit: JSON-RPC 2.0 over WebSocket. Pure parsing.

Sources: docs.deribit.com, "public/subscribe", "trades.{instrument_name}.{interval}", "chart.trades.{...}.{resolution}",
"public/get_time"; ccxt's class. No recording: tested with the documented frames.

- `trade_id` identifies a trade, the same on REST; `trade_seq` counts an instrument's trades and gives their order.
  `direction` is the taker's, times are milliseconds. Notifications are gathered over 100 ms (raw ones need an account)
  and leave nothing out. No snapshot.
- chart.trades has no closed flag. Its `volume` counts coins; amounts of inverse contracts count US dollars.
- The answer to a request lists the channels that are subscribed, with the venue's time in microseconds; one that is not
  among them is unknown.
- No heartbeat: `public/get_time` is the ping and tells the venue's time.
"""

from collections.abc import Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, Pong, Refusal
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, taker, trade_events
from ohlcvd.market import Candle, Kind, Trade


class Deribit(JsonVenue):
    """See the module."""

    symbols_per_request = 50

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        channels = [f"trades.{wire}.100ms" if kind == "trades" else f"chart.trades.{wire}.1" for wire in wires]
        return _call(request_id, "public/subscribe", {"channels": channels})

    def ping(self, request_id: int) -> dict[str, Any] | None:
        return _call(request_id, "public/get_time", {})

    def read(self, frame: Any) -> Sequence[Event] | None:
        if frame.get("method") == "subscription":
            kind, wire = _channel(frame["params"]["channel"])
            data = frame["params"]["data"]
            if kind == "trades":
                return trade_events(wire, sorted(data, key=lambda row: whole(row["trade_seq"])), _trade)
            return candle_events(wire, [data], _candle)
        if "error" in frame:
            return (Refusal(frame.get("id"), None, None, f"{frame['error'].get('message')}"),)
        result, venue_us = frame.get("result"), frame.get("usOut")
        if isinstance(result, list):
            named = (_channel(name) for name in result)
            return [Ack(frame["id"], wire, kind, venue_us) for kind, wire in named]
        return (Pong(frame.get("id"), whole(result) * 1000),) if isinstance(result, int) else None


def _call(request_id: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def _channel(name: str) -> tuple[Kind, str]:
    parts = name.split(".")
    return ("candles", parts[2]) if parts[0] == "chart" else ("trades", parts[1])


def _trade(row: Any) -> Trade:
    ts_us = whole(row["timestamp"]) * 1000
    return Trade(ts_us, str(row["trade_id"]), digits(row["price"]), digits(row["amount"]), taker(row["direction"]))


def _candle(row: Any) -> tuple[Candle, bool]:
    values = row["open"], row["high"], row["low"], row["close"], row["volume"]
    return candle(whole(row["tick"]) * 1000, *values), False
