"""Coinbase Advanced Trade: trades live and the latest ones over REST; its live candles are of 5 minutes only.

Sources: docs.cdp.coinbase.com/api-reference/advanced-trade-api, "Market trades", "Subscriptions", "Get public market
trades"; ccxt's class. No recording: tested with the documented frames.

- Trade ids are whole numbers, the same live and on REST. `side` is the maker's in both (ccxt leaves it so). Times are
  ISO to the microsecond. Trades of 250 ms come together, newest first, and begin with a snapshot.
- A product in US dollar coins is an alias of the one in dollars, and frames bear that one's name.
- The answer to a request, `subscriptions`, names every product that is subscribed by now, with the venue's time.
- No heartbeat is asked for: a protocol ping shows a dead connection, the flow of trades an idle one.
- REST gives the latest 1,000 trades at most, whatever is asked for.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ohlcvd.exchange.exact import digits, iso_us, whole
from ohlcvd.exchange.sink import TradePage
from ohlcvd.exchange.venue import Ack, Event, Refusal, Request
from ohlcvd.exchange.venues.base import JsonVenue, numbered, taker_of_maker, trade_events
from ohlcvd.market import Kind, Trade


class Coinbase(JsonVenue):
    """See the module."""

    kinds: tuple[Kind, ...] = ("trades",)
    symbols_per_request = 50
    page_trades = 1000

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        return numbered(urls["api"]["ws"], connection)

    def wire_symbol(self, market: Mapping[str, Any]) -> str:
        return str(market["info"].get("alias") or market["id"])

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return {"type": "subscribe", "product_ids": list(wires), "channel": "market_trades"}

    def read(self, frame: Any) -> Sequence[Event] | None:
        if frame.get("type") == "error":
            return (Refusal(None, None, None, str(frame.get("message"))),)
        venue_us = iso_us(frame["timestamp"]) if "timestamp" in frame else None
        events: list[Event] = []
        for event in frame.get("events", ()) if frame.get("channel") in ("market_trades", "subscriptions") else ():
            for wire in event.get("subscriptions", {}).get("market_trades", ()):
                events.append(Ack(None, wire, "trades", venue_us))
            for wire, rows in groupby(event.get("trades", ())[::-1], lambda row: row["product_id"]):
                snapshot = event["type"] == "snapshot"
                events += trade_events(wire, rows, _trade, snapshot=snapshot, venue_us=venue_us)
        return events or None

    def trades_request(self, market_id: str, from_id: str | None, since_us: int | None, limit: int | None) -> Request:
        params = {"product_id": market_id, "limit": limit or self.page_trades}
        return Request("v3PublicGetBrokerageMarketProductsProductIdTicker", params)

    def parse_trades(self, answer: Any, limit: int) -> TradePage:
        return TradePage([_trade(row) for row in reversed(answer["trades"])], None)


def _trade(row: Any) -> Trade:
    side = taker_of_maker(row["side"])
    return Trade(iso_us(row["time"]), str(whole(row["trade_id"])), digits(row["price"]), digits(row["size"]), side)
