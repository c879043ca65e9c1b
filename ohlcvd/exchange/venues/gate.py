"""Gate spot: WebSocket v4. Pure parsing. (Its contracts have other addresses and go the generic way.)

Sources: www.gate.com/docs/developers/apiv4/ws/en, "Spot / Public trades channel", "Candlesticks channel"; ccxt's class.

- Trade ids are whole numbers that grow, the same on REST. `side` is the taker's. `create_time_ms` has digits behind the
  point; REST through ccxt gives milliseconds, so they are cut off: one trade, one time. One trade a frame, in order.
- Candles: `w` is true once the minute is closed (older frames lack it), `a` is the volume in coins (older frames have
  only `v`, which is the quote currency's today).
- A request is answered by its `id`, and refused as a whole. No snapshot.
- No heartbeat: ccxt sends `spot.ping`, the answer is `spot.pong`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, Pong, Refusal
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, taker, trade_events
from ohlcvd.market import SECOND_US, Candle, Kind, Trade


class Gate(JsonVenue):
    """See the module."""

    request_pace_s = 0.05

    def lists(self, market: Mapping[str, Any]) -> bool:
        return bool(market["spot"])

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        return numbered(urls["api"]["spot"], connection)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        # The time of a public request is not looked at.
        channel, payload = ("spot.trades", [*wires]) if kind == "trades" else ("spot.candlesticks", ["1m", *wires])
        return {"time": 1, "id": request_id, "channel": channel, "event": "subscribe", "payload": payload}

    def read(self, frame: Any) -> Sequence[Event] | None:
        channel, event = frame.get("channel"), frame.get("event")
        if channel == "spot.pong":
            return (Pong(None, None),)
        if channel not in ("spot.trades", "spot.candlesticks"):
            return None
        if event == "subscribe":
            error = frame.get("error")
            if error:
                return (Refusal(frame.get("id"), None, None, f"{error.get('message')} (code {error.get('code')})"),)
            return (Ack(frame.get("id"), None, None, None),)
        row = frame["result"]
        venue_us = whole(frame["time_ms"]) * 1000 if "time_ms" in frame else None
        if channel == "spot.trades":
            return trade_events(row["currency_pair"], [row], _trade, venue_us=venue_us)
        interval, _, wire = row["n"].partition("_")
        if interval != "1m":
            raise ValueError(f"interval is {interval}, not 1m")
        return candle_events(wire, [row], _candle, venue_us=venue_us)


def _trade(row: Any) -> Trade:
    ts_us = whole(str(row["create_time_ms"]).partition(".")[0]) * 1000
    return Trade(ts_us, str(whole(row["id"])), digits(row["price"]), digits(row["amount"]), taker(row["side"]))


def _candle(row: Any) -> tuple[Candle, bool]:
    values = row["o"], row["h"], row["l"], row["c"], row.get("a", row["v"])
    return candle(whole(row["t"]) * SECOND_US, *values), row.get("w") is True
