"""Binance spot, USD-M and COIN-M contracts: WebSocket streams and the public REST API. Pure parsing.

Sources: developers.binance.com, "Spot / WebSocket Streams" (aggregate trade, kline, live subscribing, limits), "Spot /
REST API / Market Data endpoints" (aggTrades, klines), and the same chapters of "Derivatives Trading / USD-M Futures"
and "COIN-M Futures"; ccxt's classes; recorded answers.

- Aggregate trades everywhere, live (`@aggTrade`) and in history (`aggTrades`): one family of ids, whole numbers without
  a hole for each symbol. Single trades have other ids and are not used.
- `m` tells that the buyer was the maker, so the taker sold. Prices and amounts are text; times are whole milliseconds.
- A subscription brings no snapshot. The acknowledgement of a request has neither time nor symbols: the venue's time is
  asked afterwards. A request with an unknown stream is refused as a whole.
- klines: `x` is true once the minute is closed, `n` its number of trades. A minute without trades is sent with zeros.
- The venue has no heartbeat. A protocol ping every 3 s shows a dead connection (8 s without any frame, pongs included);
  a live one on which the data has stopped is told by the flow: klines come every 2 s for each active symbol.
- At most 5 messages a second from us, pings included, and 1,024 streams a connection; ccxt asks for 200.
- History pages hold up to 1,000 rows; `fromId` and `startTime` are inclusive.
- Contracts (ccxt: binanceusdm, binancecoinm) have other addresses and the same messages. Amounts and volumes of COIN-M
  are contracts. Aggregate trades of contracts leave out the insurance fund's and liquidators' own deals.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from operator import gt, itemgetter
from typing import Any

import orjson

from ohlcvd.exchange.exact import Unread, all_digits, all_whole, decode, digits, whole
from ohlcvd.exchange.sink import TradePage
from ohlcvd.exchange.venue import (
    Ack,
    BadRow,
    CandleRow,
    Event,
    Gathered,
    Refusal,
    Request,
    Silence,
    TradeRows,
    missing,
)  # fmt: skip
from ohlcvd.exchange.venues.base import JsonVenue
from ohlcvd.market import Candle, Candles, Kind, Side, Trade
from ohlcvd.memory import many_objects

_LIVE_FIELDS = itemgetter("e", "T", "E", "a", "s", "p", "q", "m")
_PAST_FIELDS = itemgetter("a", "T", "p", "q", "m")
_new = tuple.__new__

_STREAMS: dict[Kind, str] = {"trades": "@aggTrade", "candles": "@kline_1m"}


class Binance(JsonVenue):
    """Spot. See the module."""

    address = "spot"
    rest = "publicGet"

    symbols_per_request = 200
    streams_per_connection = 200
    request_pace_s = 0.3
    ping_s = 3.0
    silence = Silence(data_s=7.0, any_s=8.0, quiet_s=75.0)
    page_trades = 1000
    options: Mapping[str, Any] = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"}

    def lists(self, market: Mapping[str, Any]) -> bool:
        return bool(market["spot"])

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        # ccxt tells connections apart by a number after the path and spot from derivatives by "/stream" in the address.
        url: str = urls["api"]["ws"][self.address]
        if "/stream" not in url:
            url = url.removesuffix("/ws") + "/stream"
        return f"{url}/{connection}"

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> dict[str, Any]:
        return {"method": "SUBSCRIBE", "params": _streams(kind, wires), "id": request_id}

    def unsubscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> dict[str, Any] | None:
        return {"method": "UNSUBSCRIBE", "params": _streams(kind, wires), "id": request_id}

    def gather(self, texts: Sequence[str], gathered: Gathered) -> Iterator[str]:
        # orjson takes a third of json's time, but would make a float of a number with a point: here these are texts.
        trades = gathered.trades
        for text in texts:
            try:
                event, time_ms, sent_ms, number, wire, price, amount, is_sell = _LIVE_FIELDS(orjson.loads(text)["data"])
            except (KeyError, TypeError, ValueError):
                yield text
                continue
            if (
                event == "aggTrade"
                and type(time_ms) is type(sent_ms) is type(number) is int
                and type(price) is type(amount) is type(wire) is str
                and type(is_sell) is bool
                and number >= 0
                and not ("e" in price or "E" in price or "e" in amount or "E" in amount)
            ):
                # tuple's own way to make it: named tuples' takes twice the time
                trade = _new(Trade, (time_ms * 1000, str(number), price, amount, "sell" if is_sell else "buy"))
                trades[wire].append(trade)
                gathered.venue_us = sent_ms * 1000
            else:
                yield text

    def read(self, frame: Any) -> Sequence[Event] | None:
        if "stream" in frame:
            frame = frame["data"]
        event = frame.get("e")
        if event == "aggTrade":
            return (_trade_row(frame),)
        if event == "kline":
            return (_candle_row(frame),)
        if event is None and "id" in frame:
            return (_answer(frame),)
        if event is None and "error" in frame:
            raise ValueError(f"the venue reports an error: {frame['error']!r:.200}")
        return None

    def candles_request(self, market_id: str, since_us: int | None, limit: int | None) -> Request:
        params: dict[str, Any] = {"symbol": market_id, "interval": "1m", "limit": min(limit or 1000, 1000)}
        if since_us is not None:
            params["startTime"] = since_us // 1000
        return Request(f"{self.rest}Klines", params, unread=True)

    def parse_candles(self, answer: Any) -> Sequence[Candle]:
        if isinstance(answer, Unread):
            # orjson takes half of json's time; where it made a float of a number, that is not taken for one
            with suppress(TypeError, ValueError), many_objects():
                return _candles(orjson.loads(answer.text))
        rows = _rows(answer)
        return _candles(rows) if rows else ()

    def trades_request(self, market_id: str, from_id: str | None, since_us: int | None, limit: int | None) -> Request:
        params: dict[str, Any] = {"symbol": market_id, "limit": limit or self.page_trades}
        if from_id is not None:
            params["fromId"] = from_id
        elif since_us is not None:
            params["startTime"] = since_us // 1000
        return Request(f"{self.rest}AggTrades", params)

    def parse_trades(self, answer: Any, limit: int) -> TradePage:
        rows = _rows(answer)
        trades = _trades(rows) if rows else []
        return TradePage(trades, str(int(trades[-1].id) + 1) if len(rows) >= limit else None)

    def time_request(self) -> Request:
        return Request(f"{self.rest}Time", {})

    def parse_time(self, answer: Any) -> tuple[int, int]:
        return whole(answer["serverTime"]) * 1000, 1000


def _streams(kind: Kind, wires: Sequence[str]) -> list[str]:
    return [wire.lower() + _STREAMS[kind] for wire in wires]


class BinanceUsdM(Binance):
    """Contracts settled in US dollar coins."""

    address = "linear"
    rest = "fapiPublicGet"
    options: Mapping[str, Any] = {"fetchMarkets": {"types": ["linear"]}}

    def lists(self, market: Mapping[str, Any]) -> bool:
        return bool(market["linear"])


class BinanceCoinM(Binance):
    """Contracts settled in their own coin."""

    address = "inverse"
    rest = "dapiPublicGet"
    options: Mapping[str, Any] = {"fetchMarkets": {"types": ["inverse"]}}

    def lists(self, market: Mapping[str, Any]) -> bool:
        return bool(market["inverse"])


def _candles(rows: list[Any]) -> Candles:
    """[open time in ms, open, high, low, close, volume, close time, quote volume, number of trades, ...] each."""
    starts_ms, opens, highs, lows, closes, volumes, _ends_ms, _quote_volumes, trades, *_ = zip(*rows, strict=True)
    times_us = [start_ms * 1000 for start_ms in all_whole(starts_ms)]
    prices = all_digits(opens), all_digits(highs), all_digits(lows), all_digits(closes)
    return Candles(times_us, *prices, all_digits(volumes), all_whole(trades), ["venue"] * len(times_us))


def _trades(rows: list[Any]) -> list[Trade]:
    """In the order of their ids."""
    numbers, times_ms, prices, amounts, are_sells = zip(*map(_PAST_FIELDS, rows), strict=True)
    if {*map(type, are_sells)} != {bool} or {*map(type, numbers)} != {int}:
        return sorted(map(_trade, rows), key=lambda trade: int(trade.id))
    times_us = [time_ms * 1000 for time_ms in all_whole(times_ms)]
    sides = ["sell" if is_sell else "buy" for is_sell in are_sells]
    columns = times_us, map(str, numbers), all_digits(prices), all_digits(amounts), sides
    trades: list[Trade] = [*map(_new, repeat(Trade), zip(*columns, strict=True))]
    if any(map(gt, numbers, numbers[1:])):
        trades.sort(key=lambda trade: int(trade.id))
    return trades


def _trade(row: Any) -> Trade:
    if type(row["m"]) is not bool:
        raise ValueError(f"m is {row['m']!r:.50}, not true or false")
    taker: Side = "sell" if row["m"] else "buy"
    return Trade(whole(row["T"]) * 1000, str(whole(row["a"])), digits(row["p"]), digits(row["q"]), taker)


def _trade_row(frame: Any) -> Event:
    try:
        return TradeRows(frame["s"], [_trade(frame)], False, _sent_us(frame))
    except (KeyError, TypeError, ValueError) as error:
        return BadRow(frame.get("s"), "trades", missing(frame, error), str(frame))


def _candle_row(frame: Any) -> Event:
    try:
        minute = frame["k"]
        if minute["i"] != "1m":
            raise ValueError(f"interval is {minute['i']!r}, not 1m")
        if type(minute["x"]) is not bool:
            raise ValueError(f"closed flag is {minute['x']!r}")
        candle = Candle(
            whole(minute["t"]) * 1000,
            digits(minute["o"]), digits(minute["h"]), digits(minute["l"]), digits(minute["c"]),
            digits(minute["v"]), whole(minute["n"]), "venue",
        )  # fmt: skip
        return CandleRow(frame["s"], candle, minute["x"], False, _sent_us(frame))
    except (KeyError, TypeError, ValueError) as error:
        return BadRow(frame.get("s"), "candles", missing(frame, error), str(frame))


def _sent_us(frame: Any) -> int | None:
    return whole(frame["E"]) * 1000 if "E" in frame else None


def _answer(frame: Any) -> Event:
    error = frame.get("error") or (frame if "code" in frame else None)
    if error is None:
        return Ack(whole(frame["id"]), None, None, None)
    return Refusal(whole(frame["id"]), None, None, f"{error.get('msg')} (code {error.get('code')})")


def _rows(answer: Any) -> list[Any]:
    if isinstance(answer, Unread):
        answer = decode(answer.text)
    if not isinstance(answer, list):
        raise ValueError("the answer is not a list of rows")
    return answer
