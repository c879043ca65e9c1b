"""OKX: spot, swaps and futures on one address. Pure parsing.

Sources: www.okx.com/docs-v5/en, "WS / All trades channel", "WS / Candlesticks channel", "Notification"; ccxt's class.

- `trades-all` on the business address gives every single trade; `trades` (read too) joins fills at one price into one
  row, whose ids REST does not know. Ids are whole numbers of each instrument, the same on REST. `side` is the taker's,
  times are milliseconds. One trade a frame, in order. No snapshot.
- candle1m says "1" in its last field once the minute is closed. Volumes are in contracts for derivatives, as the
  trades' amounts are (ccxt counts coins in REST candles: changed here).
- Each channel of a request is acknowledged by itself, without a time; an error names the request only by its `id`.
- No heartbeat: 30 s without a frame and the venue disconnects; ccxt sends the text "ping", the answer is "pong".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, Refusal
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, taker, trade_events
from ohlcvd.market import Candle, Kind, Trade

_CHANNELS: dict[Kind, str] = {"trades": "trades-all", "candles": "candle1m"}
_KINDS: dict[str, Kind] = {"trades-all": "trades", "trades": "trades", "candle1m": "candles"}


class Okx(JsonVenue):
    """See the module."""

    symbols_per_request = 50
    request_pace_s = 0.4
    ping_s = 18.0
    options: Mapping[str, Any] = {"fetchMarkets": {"types": ["spot", "swap", "future"]}}

    def lists(self, market: Mapping[str, Any]) -> bool:
        return not market.get("option")

    def adapt(self, exchange: Any) -> None:
        exchange.parse_ohlcv = lambda row, market=None: [int(row[0]), *row[1:6]]

    async def dial(self, exchange: Any, connection: int) -> str:
        demo = "?brokerId=9999" if exchange.options.get("sandboxMode") else ""
        return numbered(f"{exchange.urls['api']['ws']}/business{demo}", connection)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        args = [{"channel": _CHANNELS[kind], "instId": wire} for wire in wires]
        return {"id": str(request_id), "op": "subscribe", "args": args}

    def read(self, frame: Any) -> Sequence[Event] | None:
        event, arg = frame.get("event"), frame.get("arg", {})
        kind, wire = _KINDS.get(arg.get("channel")), arg.get("instId")
        if event == "error":
            return (Refusal(_number(frame), wire, kind, f"{frame.get('msg')} (code {frame.get('code')})"),)
        if kind is None:
            return None
        if event == "subscribe":
            return (Ack(_number(frame), wire, kind, None),)
        if kind == "trades":
            return trade_events(wire, frame["data"], _trade)
        return candle_events(wire, frame["data"], _candle)


def _number(frame: Any) -> int | None:
    return int(frame["id"]) if frame.get("id") else None


def _trade(row: Any) -> Trade:
    return Trade(whole(row["ts"]) * 1000, str(row["tradeId"]), digits(row["px"]), digits(row["sz"]), taker(row["side"]))


def _candle(row: Any) -> tuple[Candle, bool]:
    """[time in ms, open, high, low, close, volume, in coins, in quote currency, "1" when closed]"""
    return candle(whole(row[0]) * 1000, *row[1:6]), len(row) > 8 and row[8] == "1"
