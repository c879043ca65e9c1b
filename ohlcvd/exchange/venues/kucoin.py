"""KuCoin spot: the address of the stream is asked over REST, then topics. (Contracts go the generic way.)

Sources: www.kucoin.com/docs-new, "Get Public Token - Spot", "WebSocket / Trade", "Klines", "Get Trade History"; ccxt's
class; recorded frames.

- `tradeId` identifies a trade. It equals `sequence` today, which is all that REST gives; recordings of 2021 have ids of
  their own. `side` is the taker's, times are nanoseconds (floored to microseconds). One trade a frame, in order.
- The first candle of a minute comes as `trade.candles.add`, which ccxt drops; no closed flag, no empty minutes.
- A request is answered by its `id` with `ack`, without a time, or with an `error` as a whole. No snapshot.
- No heartbeat: ccxt pings at the venue's interval, the answer is `pong`. REST gives the latest 100 trades.
"""

from collections.abc import Sequence
from typing import Any

from ohlcvd.exchange import urls
from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.sink import TradePage
from ohlcvd.exchange.venue import Ack, Event, Pong, Pulse, Refusal, Request
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, taker, trade_events
from ohlcvd.market import SECOND_US, Candle, Kind, Trade

_CANDLES = "/market/candles:"


class Kucoin(JsonVenue):
    """See the module."""

    symbols_per_request = 50
    page_trades = 100

    def lists(self, market: Any) -> bool:
        return bool(market["spot"])

    async def dial(self, exchange: Any, connection: int) -> str:
        answer = (await exchange.publicPostBulletPublic())["data"]
        server = urls.moved(answer["instanceServers"][0]["endpoint"], None, exchange.ws_server)
        return numbered(f"{server}?token={answer['token']}&connectId=ohlcvd-{connection}", connection)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        names = wires if kind == "trades" else [f"{wire}_1min" for wire in wires]
        topic = ("/market/match:" if kind == "trades" else _CANDLES) + ",".join(names)
        return {"id": str(request_id), "type": "subscribe", "topic": topic, "privateChannel": False, "response": True}

    def read(self, frame: Any) -> Sequence[Event] | None:
        what, subject = frame.get("type"), str(frame.get("subject"))
        if what == "message" and subject == "trade.l3match":
            return trade_events(frame["data"]["symbol"], [frame["data"]], _trade)
        if what == "message" and subject.startswith("trade.candles.") and frame["topic"].endswith("_1min"):
            data = frame["data"]
            return candle_events(data["symbol"], [data["candles"]], _candle, venue_us=whole(data["time"]) // 1000)
        if what == "pong":
            return (Pong(None, None),)
        if what == "welcome":
            return (Pulse(),)
        if what == "ack":
            return (Ack(int(frame["id"]), None, None, None),)
        if what == "error":
            number = int(frame["id"]) if str(frame.get("id")).isdigit() else None
            return (Refusal(number, None, None, f"{frame.get('data')} (code {frame.get('code')})"),)
        return None

    def trades_request(self, market_id: str, from_id: str | None, since_us: int | None, limit: int | None) -> Request:
        return Request("publicGetMarketHistories", {"symbol": market_id})

    def parse_trades(self, answer: Any, limit: int) -> TradePage:
        rows = sorted(answer["data"], key=lambda row: (whole(row["time"]), whole(row["sequence"])))
        return TradePage([_trade(row) for row in rows], None)


def _trade(row: Any) -> Trade:
    number = str(row.get("tradeId") or row["sequence"])
    return Trade(whole(row["time"]) // 1000, number, digits(row["price"]), digits(row["size"]), taker(row["side"]))


def _candle(row: Any) -> tuple[Candle, bool]:
    """[time in s, open, close, high, low, volume, turnover]"""
    start_s, open_, close, high, low, volume, _turnover = row
    return candle(whole(start_s) * SECOND_US, open_, high, low, close, volume), False
