"""Coinbase Exchange (ccxt: coinbaseexchange): the market's own feed. Trades only; it sends no candles. Pure parsing.

Sources: docs.cdp.coinbase.com/exchange, "WebSocket channels / Matches, Heartbeat"; recorded frames.

- Trade ids are whole numbers, one after the other for each product, the same on REST. `side` is the maker's. Times are
  ISO to the microsecond; REST through ccxt gives milliseconds, so finer digits are cut off: one trade, one time.
- A subscription begins with the product's `last_match`, which may be old: a snapshot of one (ccxt leaves it out).
- The answer to a request, `subscriptions`, names every product that is subscribed by now, without a time.
- `heartbeat`, each second for each product, is asked for with the trades and carries the venue's time.
"""

from collections.abc import Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, iso_us, whole
from ohlcvd.exchange.venue import Ack, Event, Pulse, Refusal, Silence
from ohlcvd.exchange.venues.base import JsonVenue, taker_of_maker, trade_events
from ohlcvd.market import Kind, Trade


class CoinbaseExchange(JsonVenue):
    """See the module."""

    kinds: tuple[Kind, ...] = ("trades",)
    symbols_per_request = 50
    silence = Silence(data_s=6.0, any_s=10.0)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return {"type": "subscribe", "product_ids": list(wires), "channels": ["matches", "heartbeat"]}

    def read(self, frame: Any) -> Sequence[Event] | None:
        what = frame.get("type")
        if what in ("match", "last_match"):
            return trade_events(frame["product_id"], [frame], _trade, snapshot=what == "last_match")
        if what == "heartbeat":
            return (Pulse(iso_us(frame["time"])),)
        if what == "error":
            return (Refusal(None, None, None, f"{frame.get('message')}: {frame.get('reason')}"),)
        if what == "subscriptions":
            channels = (channel for channel in frame["channels"] if channel["name"] == "matches")
            return [Ack(None, wire, "trades", None) for channel in channels for wire in channel["product_ids"]]
        return None


def _trade(row: Any) -> Trade:
    ts_us = iso_us(row["time"]) // 1000 * 1000
    side = taker_of_maker(row["side"])
    return Trade(ts_us, str(whole(row["trade_id"])), digits(row["price"]), digits(row["size"]), side)
