"""Phemex spot and contracts settled in coins: whole numbers with a scale that the list of markets gives. Pure parsing.

Sources: phemex-docs.github.io, "WebSocket API / Subscribe trade, kline", "Price/ratio/value scales"; ccxt's class;
recorded frames. (Contracts settled in US dollar coins have other messages and go the generic way.)

- The venue sends no ids. A trade is known by its time in nanoseconds (stored to the microsecond),
  price, amount, side and its ordinal among equals. REST gives the same rows. The taker's side is a word.
- A frame holds several trades, newest first; the first one is a snapshot of up to 1,000. An id made here does not
  depend on where a frame begins, as equals come in one frame.
- Klines: newest first, no closed flag, the first frame is a snapshot. Empty minutes have the price before.
- A request is answered by its id, and refused as a whole. No heartbeat: ccxt pings in JSON every 9 s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import whole
from ohlcvd.exchange.identity import IdMaker
from ohlcvd.exchange.sink import TradePage
from ohlcvd.exchange.venue import Ack, Event, Pong, Refusal, Request
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, taker, trade_events
from ohlcvd.market import SECOND_US, Candle, Kind, Trade


class Phemex(JsonVenue):
    """See the module."""

    ping_s = 9.0
    page_trades = 1000

    def __init__(self) -> None:
        self._scales: dict[str, tuple[int, int]] = {}  # of price and amount, by the market's id

    def lists(self, market: Mapping[str, Any]) -> bool:
        return market.get("settle") != "USDT" and not market.get("linear")

    def wire_symbol(self, market: Mapping[str, Any]) -> str:
        amount_scale = market.get("valueScale") if market["spot"] else 0
        self._scales[market["id"]] = int(market["priceScale"]), int(amount_scale or 0)
        return str(market["id"])

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        method, params = ("trade", [*wires]) if kind == "trades" else ("kline", [wires[0], 60])
        return {"id": request_id, "method": f"{method}.subscribe", "params": params}

    def unsubscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return None

    def read(self, frame: Any) -> Sequence[Event] | None:
        is_snapshot = frame.get("type") == "snapshot"
        if "trades" in frame:
            wire, rows = frame["symbol"], frame["trades"][::-1]
            return trade_events(wire, rows, self._reader(wire), snapshot=is_snapshot)
        if "kline" in frame:
            wire, rows = frame["symbol"], [row for row in frame["kline"][::-1] if row[1] == 60]
            return candle_events(wire, rows, self._candle_reader(wire), snapshot=is_snapshot)
        if frame.get("result") == "pong":
            return (Pong(None, None),)
        if frame.get("error"):
            return (Refusal(frame.get("id"), None, None, str(frame["error"].get("message"))),)
        return (Ack(frame["id"], None, None, None),) if frame.get("result") == {"status": "success"} else None

    def trades_request(self, market_id: str, from_id: str | None, since_us: int | None, limit: int | None) -> Request:
        return Request("v1GetMdTrade", {"symbol": market_id})

    def parse_trades(self, answer: Any, limit: int) -> TradePage:
        read = self._reader(answer["result"]["symbol"])
        return TradePage([read(row) for row in answer["result"]["trades"][::-1]], None)

    def _reader(self, wire: str) -> Any:
        """Of one frame's rows: [time in ns, side, price, amount]."""
        (price_scale, amount_scale), ids = self._scales[wire], IdMaker()

        def read(row: Any) -> Trade:
            ts_us, side = whole(row[0]) // 1000, taker(row[1])
            price, amount = _scaled(row[2], price_scale), _scaled(row[3], amount_scale)
            return Trade(ts_us, ids.id_of(ts_us, price, amount, side), price, amount, side)

        return read

    def _candle_reader(self, wire: str) -> Any:
        """[time in s, 60, previous close, open, high, low, close, volume, turnover]"""
        price_scale, amount_scale = self._scales[wire]

        def read(row: Any) -> tuple[Candle, bool]:
            prices = [_scaled(value, price_scale) for value in row[3:7]]
            open_, high, low, close = prices
            return candle(whole(row[0]) * SECOND_US, open_, high, low, close, _scaled(row[7], amount_scale)), False

        return read


def _scaled(value: Any, scale: int) -> str:
    """The whole number 329915000 with scale 4 is 32991.5000."""
    text = str(whole(value)).rjust(scale + 1, "0")
    return f"{text[:-scale]}.{text[-scale:]}" if scale else text
