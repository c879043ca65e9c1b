"""Kraken spot: WebSocket v2 and the public REST API. Pure parsing.

Sources: docs.kraken.com, "Spot WebSocket v2" (trade, ohlc, heartbeat, ping, "Symbol") and "Spot REST / Market Data"
(Get OHLC Data, Get Recent Trades); ccxt's kraken class; recorded answers.

- Trade ids are whole numbers, one after the other for each pair, the same on WebSocket and REST.
- WebSocket prices are JSON numbers with all their digits; REST sends text. Times are ISO to the microsecond on the
  WebSocket; on REST a number of seconds about 0.1 us off, so only `last`, in nanoseconds, is an exact cursor.
- `side` is the taker's. Trades of a frame are in order of execution; a frame may hold several pairs.
- The trade subscription begins with a `snapshot` of the last 50 trades, which may be days old.
- ohlc has no closed flag, sends a minute again with each of its trades and nothing for a minute without any.
- Every symbol is acknowledged by itself, with the venue's time. An unknown one is refused by name and the others go on.
- A heartbeat about every second when nothing else is sent: 6 s without a frame (pongs do not count) is a dead stream.
- Version 1 of the WebSocket (frames that are arrays) is refused aloud: ccxt makes nothing of it.
- OHLC returns the latest 720 minutes whatever `since` says, and the running minute as its last row.
- Trades pages hold up to 1,000 and begin after `since` (exclusive). As several trades may carry the same nanosecond,
  a full page's cursor steps back by one: the next page repeats its last trades instead of losing their siblings.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any

from ohlcvd.exchange.exact import all_digits, decimal_seconds_us, decode, digits, iso_us, whole
from ohlcvd.exchange.sink import TradePage
from ohlcvd.exchange.venue import (
    Ack,
    BadRow,
    CandleRow,
    Event,
    Gathered,
    OldProtocol,
    Pong,
    Pulse,
    Refusal,
    Request,
    Silence,
    TradeRows,
    missing,
)  # fmt: skip
from ohlcvd.exchange.venues.base import JsonVenue
from ohlcvd.market import SECOND_US, Candle, Kind, Side, Trade

_LIVE = '{"channel":"trade","type":"update",'
# Nearly all that a quiet connection brings, every second.
_HEARTBEAT = '{"channel":"heartbeat"}'
_ALIVE = (Pulse(),)
_LIVE_FIELDS = itemgetter("symbol", "side", "price", "qty", "timestamp", "trade_id")
# tuple's own way to make trades: named tuples' takes twice the time
_new: Any = tuple.__new__
_CHANNELS: dict[Kind, str] = {"trades": "trade", "candles": "ohlc"}
_KINDS: dict[str, Kind] = {"trade": "trades", "ohlc": "candles"}
_TAKER: dict[str, Side] = {"b": "buy", "s": "sell"}
# The names of REST and of the old protocol that version 2 spells as everybody does.
_V2_NAMES = {"XBT": "BTC", "XDG": "DOGE"}


class Kraken(JsonVenue):
    """See the module."""

    symbols_per_request = 200
    streams_per_connection = 2000
    request_pace_s = 0.1
    ping_s = 6.0
    silence = Silence(data_s=6.0, any_s=6.0)
    page_trades = 1000
    options: Mapping[str, Any] = {}

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        url: str = urls["api"]["ws"]["publicV2"]
        # ccxt keeps one connection for each address; the query tells them apart and the venue ignores it.
        return url if connection == 0 else f"{url}?connection={connection}"

    def wire_symbol(self, market: Mapping[str, Any]) -> str:
        name = market["info"].get("wsname") or market["symbol"]
        return "/".join(_V2_NAMES.get(leg, leg) for leg in name.split("/"))

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> dict[str, Any]:
        return {"method": "subscribe", "params": _params(kind, wires), "req_id": request_id}

    def unsubscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> dict[str, Any] | None:
        return {"method": "unsubscribe", "params": _params(kind, wires), "req_id": request_id}

    def ping(self, request_id: int) -> dict[str, Any] | None:
        return {"method": "ping", "req_id": request_id}

    def gather(self, texts: Sequence[str], gathered: Gathered) -> Iterator[str]:
        for text in texts:
            rows = _live_trades(text) if text.startswith(_LIVE) else None
            if rows is None:
                yield text
            else:
                gathered.add(rows)

    def parse(self, text: str) -> Sequence[Event] | None:
        return _ALIVE if text == _HEARTBEAT else super().parse(text)

    def read(self, frame: Any) -> Sequence[Event] | None:
        if isinstance(frame, list) or "event" in frame:
            raise OldProtocol("the frame is one of WebSocket version 1, which is no longer spoken")
        channel = frame.get("channel")
        if channel == "trade":
            return _trade_rows(frame)
        if channel == "ohlc":
            return _candle_rows(frame)
        if channel == "heartbeat":
            return _ALIVE
        if frame.get("method") == "pong":
            return (Pong(frame.get("req_id"), _answer_us(frame)),)
        if frame.get("method") == "subscribe":
            return (_subscription(frame),)
        if frame.get("method") == "unsubscribe":
            return ()
        return None

    def candles_request(self, market_id: str, since_us: int | None, limit: int | None) -> Request:
        params: dict[str, Any] = {"pair": market_id, "interval": 1}
        if since_us is not None:
            params["since"] = since_us // SECOND_US - 60  # the venue returns what is after `since`
        return Request("publicGetOHLC", params)

    def parse_candles(self, answer: Any) -> list[Candle]:
        rows, _last = _result(answer)
        return [_candle(row) for row in rows]

    def trades_request(self, market_id: str, from_id: str | None, since_us: int | None, limit: int | None) -> Request:
        params: dict[str, Any] = {"pair": market_id, "count": limit or self.page_trades}
        if from_id is not None:
            params["since"] = from_id
        elif since_us is not None:
            params["since"] = str(max(0, since_us * 1000 - 1))
        return Request("publicGetTrades", params)

    def parse_trades(self, answer: Any, limit: int) -> TradePage:
        rows, last = _result(answer)
        trades = [
            Trade(decimal_seconds_us(row[2]), str(whole(row[6])), digits(row[0]), digits(row[1]), _TAKER[row[3]])
            for row in rows
        ]
        trades.sort(key=lambda trade: int(trade.id))
        if len(rows) < limit:
            return TradePage(trades, None)
        one_moment = digits(rows[0][2]) == digits(rows[-1][2])
        return TradePage(trades, str(whole(last) if one_moment else whole(last) - 1))

    def time_request(self) -> Request:
        return Request("publicGetTime", {})

    def parse_time(self, answer: Any) -> tuple[int, int]:
        return whole(answer["result"]["unixtime"]) * SECOND_US, SECOND_US


def _params(kind: Kind, wires: Sequence[str]) -> dict[str, Any]:
    params: dict[str, Any] = {"channel": _CHANNELS[kind], "symbol": list(wires)}
    if kind == "candles":
        params["interval"] = 1
    return params


def _candle(row: Any) -> Candle:
    """[time in s, open, high, low, close, volume-weighted mean, volume, number of trades]"""
    start_s, open_, high, low, close, _mean, volume, trades = row
    prices = digits(open_), digits(high), digits(low), digits(close)
    return Candle(whole(start_s) * SECOND_US, *prices, digits(volume), whole(trades), "venue")


def _live_trades(text: str) -> TradeRows | None:
    """A frame of one market's trades that are as they always are, all at once; None for everything else."""
    try:
        rows = decode(text)["data"]
        wires, sides, prices, amounts, times, numbers = zip(*map(_LIVE_FIELDS, rows), strict=True)
        if {*wires} != {wires[0]} or type(wires[0]) is not str or {*map(type, numbers)} != {int}:
            return None
        values = all_digits((*prices, *amounts))
        columns = map(iso_us, times), map(str, numbers), values[: len(prices)], values[len(prices) :], sides
        return TradeRows(wires[0], [*map(_new, repeat(Trade), zip(*columns, strict=True))], False)
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _trade_rows(frame: Any) -> list[Event]:
    snapshot = frame.get("type") == "snapshot"
    events: list[Event] = []
    wire, trades = None, list[Trade]()
    for row in frame["data"]:
        try:
            side = row["side"]
            trade = Trade(
                iso_us(row["timestamp"]), str(whole(row["trade_id"])), digits(row["price"]), digits(row["qty"]), side
            )
        except (KeyError, TypeError, ValueError) as error:
            symbol = row.get("symbol") if isinstance(row, dict) else None
            events.append(BadRow(symbol, "trades", missing(row, error), str(row)))
            continue
        if row["symbol"] != wire:
            wire, trades = row["symbol"], []
            events.append(TradeRows(wire, trades, snapshot))
        trades.append(trade)
    return events


def _candle_rows(frame: Any) -> list[Event]:
    snapshot = frame.get("type") == "snapshot"
    events: list[Event] = []
    venue_us = iso_us(frame["timestamp"]) if "timestamp" in frame else None
    for row in frame["data"]:
        try:
            if whole(row["interval"]) != 1:
                raise ValueError(f"interval is {row['interval']!r}, not 1")
            candle = Candle(
                iso_us(row["interval_begin"]),
                digits(row["open"]), digits(row["high"]), digits(row["low"]), digits(row["close"]),
                digits(row["volume"]), whole(row["trades"]), "venue",
            )  # fmt: skip
            events.append(CandleRow(row["symbol"], candle, False, snapshot, venue_us))
        except (KeyError, TypeError, ValueError) as error:
            symbol = row.get("symbol") if isinstance(row, dict) else None
            events.append(BadRow(symbol, "candles", missing(row, error), str(row)))
    return events


def _subscription(frame: Any) -> Event:
    request_id = frame.get("req_id")
    if frame.get("success"):
        result = frame["result"]
        return Ack(request_id, result["symbol"], _KINDS[result["channel"]], _answer_us(frame))
    # The refused symbol is a field of its own; older answers have it only as the last word of the sentence.
    reason = str(frame.get("error"))
    wire = frame.get("symbol") or next((word for word in reason.split()[::-1] if "/" in word), None)
    if "already subscribed" in reason.lower():
        return Ack(request_id, wire, None, _answer_us(frame))
    return Refusal(request_id, wire, None, reason)


def _answer_us(frame: Any) -> int | None:
    text = frame.get("time_out") or frame.get("time_in")
    return None if text is None else iso_us(text)


def _result(answer: Any) -> tuple[list[Any], Any]:
    """The rows, under the pair's own name, and the cursor of an answer; ValueError if it is none."""
    result = answer["result"]
    rows = [value for name, value in result.items() if name != "last"]
    if len(rows) != 1 or not isinstance(rows[0], list) or "last" not in result:
        raise ValueError("the answer holds no list of rows with its `last`")
    return rows[0], result["last"]
