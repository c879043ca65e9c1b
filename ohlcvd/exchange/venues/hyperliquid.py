"""Hyperliquid: spot and perpetuals on one address. Pure parsing.

Sources: hyperliquid.gitbook.io/hyperliquid-docs, "WebSocket / Subscriptions", "Timeouts and heartbeats"; ccxt's class.
No recording: tested with the documented frames.

- `tid` identifies a trade. `side` is the taker's, A sold and B bought; times are milliseconds. The order within a frame
  is the venue's. REST gives the latest few trades only (`recentTrades`).
- Candles come with their number of trades `n` and no closed flag; REST has the latest 5,000.
- One subscription a request, acknowledged by repeating it, without a time; an error quotes it.
- No heartbeat: ccxt pings in JSON, the answer is the channel `pong`.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.sink import TradePage
from ohlcvd.exchange.venue import Ack, Event, Pong, Refusal, Request
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, trade_events
from ohlcvd.market import Candle, Kind, Trade

_KINDS: dict[str, Kind] = {"trades": "trades", "candle": "candles"}
_QUOTED_COIN = re.compile(r'"coin"\s*:\s*"([^"]+)"')


class Hyperliquid(JsonVenue):
    """See the module."""

    request_pace_s = 0.05
    ping_s = 20.0
    page_trades = 10

    def __init__(self) -> None:
        self._coins: dict[str, str] = {}  # by the market's id

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        return numbered(urls["api"]["ws"]["public"], connection)

    def wire_symbol(self, market: Mapping[str, Any]) -> str:
        coin = str(market["baseName"] if market.get("swap") else market["id"])
        self._coins[market["id"]] = coin
        return coin

    def trades_request(self, market_id: str, from_id: str | None, since_us: int | None, limit: int | None) -> Request:
        return Request("publicPostInfo", {"type": "recentTrades", "coin": self._coins.get(market_id, market_id)})

    def parse_trades(self, answer: Any, limit: int) -> TradePage:
        return TradePage(sorted(map(_trade, answer), key=lambda trade: trade.ts_us), None)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        what = {"type": "trades"} if kind == "trades" else {"type": "candle", "interval": "1m"}
        return {"method": "subscribe", "subscription": {**what, "coin": wires[0]}}

    def read(self, frame: Any) -> Sequence[Event] | None:
        channel, data = frame.get("channel"), frame.get("data")
        if channel == "trades":
            by_coin = groupby(data, lambda row: row["coin"])
            return [event for wire, rows in by_coin for event in trade_events(wire, rows, _trade)]
        if channel == "candle":
            return candle_events(data["s"], [data], _candle)
        if channel == "subscriptionResponse" and data["method"] == "subscribe":
            asked = data["subscription"]
            return (Ack(None, asked.get("coin"), _KINDS.get(asked["type"]), None),)
        if channel == "pong":
            return (Pong(None, None),)
        if channel == "error":
            coin = _QUOTED_COIN.search(str(data).replace("\\", ""))
            return (Refusal(None, coin and coin[1], None, str(data)),)
        return None


def _trade(row: Any) -> Trade:
    side: Any = {"A": "sell", "B": "buy"}.get(row["side"], row["side"])
    return Trade(whole(row["time"]) * 1000, str(whole(row["tid"])), digits(row["px"]), digits(row["sz"]), side)


def _candle(row: Any) -> tuple[Candle, bool]:
    if row["i"] != "1m":
        raise ValueError(f"interval is {row['i']!r}, not 1m")
    values = row["o"], row["h"], row["l"], row["c"], row["v"], whole(row["n"])
    return candle(whole(row["t"]) * 1000, *values), False
