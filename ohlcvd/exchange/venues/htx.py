"""HTX (formerly Huobi) spot: gzip frames, which ccxt unpacks. Pure parsing. (Contracts go the generic way.)

Sources: www.htx.com/en-us/opend, "WebSocket Market Data / Trade Detail, Kline"; ccxt's class. No recording: tested with
the documented frames.

- `tradeId` is the id that REST calls `trade-id`; the other one, of 22 and more digits, is no use. `direction` is the
  taker's, times are milliseconds. Rows are put in order of time and id. No snapshot.
- Klines have no closed flag; `amount` is the volume in coins, `count` the number of trades.
- One topic a request, answered by its `id` with the venue's time.
- The venue pings every 5 s in JSON and wants an answer. 12 s without a frame is a dead stream.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, Question, Refusal, Silence
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, taker, trade_events
from ohlcvd.market import SECOND_US, Candle, Kind, Trade

_TOPICS: dict[Kind, str] = {"trades": "trade.detail", "candles": "kline.1min"}


class Htx(JsonVenue):
    """See the module."""

    request_pace_s = 0.05
    silence = Silence(data_s=12.0, any_s=16.0)
    options: Mapping[str, Any] = {"fetchMarkets": {"types": {"spot": True, "linear": True, "inverse": True}}}

    def lists(self, market: Mapping[str, Any]) -> bool:
        return bool(market["spot"])

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        return numbered(urls["api"]["ws"]["api"]["spot"]["public"], connection)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return {"sub": f"market.{wires[0]}.{_TOPICS[kind]}", "id": str(request_id)}

    def unsubscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        return {"unsub": f"market.{wires[0]}.{_TOPICS[kind]}", "id": str(request_id)}

    def read(self, frame: Any) -> Sequence[Event] | None:
        if "ping" in frame:
            return (Question({"pong": frame["ping"]}),)
        if "subbed" in frame:
            return (Ack(int(frame["id"]), None, None, whole(frame["ts"]) * 1000),)
        if frame.get("status") == "error":
            number = int(frame["id"]) if str(frame.get("id")).isdigit() else None
            return (Refusal(number, None, None, f"{frame.get('err-msg')} ({frame.get('err-code')})"),)
        _, _, name = str(frame.get("ch", "")).partition("market.")
        wire, _, topic = name.partition(".")
        if topic == "trade.detail":
            rows = sorted(frame["tick"]["data"], key=lambda row: (whole(row["ts"]), whole(row["tradeId"])))
            return trade_events(wire, rows, _trade, venue_us=whole(frame["ts"]) * 1000)
        if topic == "kline.1min":
            return candle_events(wire, [frame["tick"]], _candle, venue_us=whole(frame["ts"]) * 1000)
        return None


def _trade(row: Any) -> Trade:
    number = str(whole(row["tradeId"]))
    return Trade(whole(row["ts"]) * 1000, number, digits(row["price"]), digits(row["amount"]), taker(row["direction"]))


def _candle(row: Any) -> tuple[Candle, bool]:
    values = row["open"], row["high"], row["low"], row["close"], row["amount"], whole(row["count"])
    return candle(whole(row["id"]) * SECOND_US, *values), False
