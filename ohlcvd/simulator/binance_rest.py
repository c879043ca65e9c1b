"""Binance's public spot REST API: ping, time, exchangeInfo, klines, aggTrades, trades, historicalTrades.

Paging is the venue's: at most 1000 rows, startTime and endTime inclusive, aggTrades also from an id on (`fromId`, also
inclusive, not together with times), the latest rows when nothing is asked for. Empty minutes are sent with zero volume,
the running minute is the last row. Errors have a negative code and status 400.
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from aiohttp import web

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.faults import broken_answer, damaged
from ohlcvd.simulator.tape import AMOUNT_DECIMALS, Execution, MinuteCandle, fixed, scaled
from ohlcvd.simulator.venue import integer

if TYPE_CHECKING:
    from ohlcvd.simulator.binance import BinanceVenue

MAX_ROWS = 1000
DEFAULT_ROWS = 500

_RATE_LIMIT = '{"code":-1003,"msg":"Way too many requests; IP banned until the time in Retry-After."}'
_Answer = Callable[["BinanceVenue", Mapping[str, str]], str]


class _Refused(Exception):
    """Binance's code and words for what is wrong with a request."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def rest_routes(venue: "BinanceVenue") -> list[tuple[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]]:
    return [(path, _handler(venue, path.rpartition("/")[2], answer)) for path, answer in _ANSWERS.items()]


def _handler(
    venue: "BinanceVenue", name: str, answer: _Answer
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        venue.requests[name] += 1
        fault = venue.faults.rest_fault(request.query.get("symbol"))
        if fault is not None:
            await venue.hang(fault)
            broken = broken_answer(fault, _RATE_LIMIT)
            if broken is not None:
                return broken
        status = 200
        try:
            text = answer(venue, request.query)
        except _Refused as refusal:
            status, text = 400, json.dumps({"code": refusal.code, "msg": str(refusal)})
        headers = {"X-MBX-USED-WEIGHT-1M": str(venue.requests.total() % 6000)}
        response = web.Response(status=status, text=text, content_type="application/json", headers=headers)
        return damaged(response) if fault is not None and fault.kind == "cut-body" else response

    return handle


def raw_trades(execution: Execution) -> Iterator[tuple[int, str, str]]:
    """The raw trades (id, price, amount) that an aggregate trade consists of."""
    left = scaled(execution.amount, AMOUNT_DECIMALS)
    for raw_id in range(execution.raw_first, execution.raw_last + 1):
        part = left if raw_id == execution.raw_last else max(1, left // 2)
        left -= part
        yield raw_id, execution.price, fixed(part, AMOUNT_DECIMALS)


def _ping(venue: "BinanceVenue", query: Mapping[str, str]) -> str:
    return "{}"


def _time(venue: "BinanceVenue", query: Mapping[str, str]) -> str:
    return f'{{"serverTime":{venue.clock.now_ns() // 1_000_000}}}'


def _exchange_info(venue: "BinanceVenue", query: Mapping[str, str]) -> str:
    recorded = venue.answers.get("exchangeInfo")
    if recorded is not None:
        return recorded
    if query.get("symbol"):
        _symbol(venue, query)
    return json.dumps(
        {
            "timezone": "UTC",
            "serverTime": venue.clock.now_ns() // 1_000_000,
            "rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}],
            "exchangeFilters": [],
            "symbols": [
                _market(listing.id, listing.base_id, listing.quote_id, listing.decimals, venue.is_listed(symbol))
                for symbol, listing in venue.listings.items()
                if query.get("symbol") in (None, listing.id)
            ],
        }
    )


def _market(market_id: str, base: str, quote: str, decimals: int, trading: bool) -> dict[str, object]:
    tick = f"{Decimal(1).scaleb(-decimals):f}"
    return {
        "symbol": market_id, "status": "TRADING" if trading else "BREAK", "baseAsset": base, "baseAssetPrecision": 8,
        "quoteAsset": quote, "quotePrecision": 8, "quoteAssetPrecision": 8, "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8, "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"], "icebergAllowed": True,
        "ocoAllowed": True, "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": "0.00000001", "maxQty": "9000000000", "stepSize": "0.00000001"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9000000.00000000"},
        ],
        "permissions": [], "permissionSets": [["SPOT"]],
    }  # fmt: skip


def _no_contracts(venue: "BinanceVenue", query: Mapping[str, str]) -> str:
    """Futures and options: the markets are asked for by ccxt's default, there are none here."""
    return json.dumps({"timezone": "UTC", "rateLimits": [], "symbols": [], "optionSymbols": []})


def _klines(venue: "BinanceVenue", query: Mapping[str, str]) -> str:
    symbol = _symbol(venue, query)
    if query.get("interval") != "1m":
        raise _Refused(-1120, "Invalid interval.")
    limit = _limit(query)
    start_ms, end_ms = _integer(query, "startTime"), _integer(query, "endTime")
    newest = venue.clock.now_ns() // 1000 // MINUTE_US * MINUTE_US
    if end_ms is not None:
        newest = min(newest, end_ms * 1000 // MINUTE_US * MINUTE_US)
    if start_ms is None:
        oldest = max(venue.start_us, newest - (limit - 1) * MINUTE_US)
    else:
        oldest = max(venue.start_us, -(-start_ms * 1000 // MINUTE_US) * MINUTE_US)
    visible = venue.visible(symbol)
    stop = min(newest, oldest + (limit - 1) * MINUTE_US) + MINUTE_US
    minutes = (venue.minute(symbol, ts_us, visible) for ts_us in range(oldest, stop, MINUTE_US))
    return f"[{','.join(_kline_row(minute) for minute in minutes if minute is not None)}]"


def _kline_row(minute: MinuteCandle) -> str:
    opened_ms = minute.ts_us // 1000
    return (
        f'[{opened_ms},"{minute.open}","{minute.high}","{minute.low}","{minute.close}","{minute.volume}",'
        f'{opened_ms + 59_999},"{minute.quote_volume}",{minute.raw_trades},"{minute.buy_volume}",'
        f'"{minute.buy_quote_volume}","0"]'
    )


def _agg_trades(venue: "BinanceVenue", query: Mapping[str, str]) -> str:
    symbol, limit = _symbol(venue, query), _limit(query)
    from_id, start_ms, end_ms = (_integer(query, name) for name in ("fromId", "startTime", "endTime"))
    if from_id is not None and (start_ms is not None or end_ms is not None):
        raise _Refused(-1128, "Combination of optional parameters invalid.")
    tape, end = venue.tape(symbol), venue.visible(symbol)
    if end_ms is not None:
        end = min(end, tape.id_at((end_ms + 1) * 1_000_000))
    if from_id is not None:
        start = max(tape.first_id, from_id)
    elif start_ms is not None:
        start = max(tape.first_id, tape.id_at(start_ms * 1_000_000))
    else:
        start = max(tape.first_id, end - limit)
    executions = venue.executions(symbol, start, max(start, min(end, start + limit)))
    return f"[{','.join(map(_agg_row, executions))}]"


def _agg_row(one: Execution) -> str:
    return (
        f'{{"a":{one.id},"p":"{one.price}","q":"{one.amount}","f":{one.raw_first},"l":{one.raw_last},'
        f'"T":{one.ts_ns // 1_000_000},"m":{"true" if one.side == "sell" else "false"},"M":true}}'
    )


def _raw_trades(venue: "BinanceVenue", query: Mapping[str, str]) -> str:
    """The latest raw trades; historicalTrades takes them from a raw id on."""
    symbol, limit, from_id = _symbol(venue, query), _limit(query), _integer(query, "fromId")
    tape, visible = venue.tape(symbol), venue.visible(symbol)
    end_raw = tape.raw_first(visible)
    start_raw = end_raw - limit if from_id is None else from_id
    start_raw = max(start_raw, tape.raw_first(tape.first_id))
    end_raw = min(end_raw, start_raw + limit)
    if start_raw >= end_raw:
        return "[]"
    rows = [
        f'{{"id":{raw_id},"price":"{price}","qty":"{amount}",'
        f'"quoteQty":"{Decimal(price) * Decimal(amount):.8f}","time":{one.ts_ns // 1_000_000},'
        f'"isBuyerMaker":{"true" if one.side == "sell" else "false"},"isBestMatch":true}}'
        for one in venue.executions(symbol, tape.id_of_raw(start_raw), tape.id_of_raw(end_raw - 1) + 1)
        for raw_id, price, amount in raw_trades(one)
        if start_raw <= raw_id < end_raw
    ]
    return f"[{','.join(rows)}]"


def _symbol(venue: "BinanceVenue", query: Mapping[str, str]) -> str:
    symbol = venue.symbol_of(query.get("symbol", ""))
    if symbol is None:
        raise _Refused(-1121, "Invalid symbol.")
    return symbol


def _limit(query: Mapping[str, str]) -> int:
    limit = _integer(query, "limit")
    if limit is None:
        return DEFAULT_ROWS
    if limit < 1:
        raise _Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, MAX_ROWS)


def _integer(query: Mapping[str, str], name: str) -> int | None:
    try:
        value = integer(query, name)
    except ValueError:
        value = -1
    if value is not None and value < 0:
        raise _Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
    return value


_ANSWERS: dict[str, _Answer] = {
    "/api/v3/ping": _ping,
    "/api/v3/time": _time,
    "/api/v3/exchangeInfo": _exchange_info,
    "/api/v3/klines": _klines,
    "/api/v3/aggTrades": _agg_trades,
    "/api/v3/trades": _raw_trades,
    "/api/v3/historicalTrades": _raw_trades,
    "/fapi/v1/time": _time,
    "/dapi/v1/time": _time,
    "/fapi/v1/exchangeInfo": _no_contracts,
    "/dapi/v1/exchangeInfo": _no_contracts,
    "/eapi/v1/exchangeInfo": _no_contracts,
}
