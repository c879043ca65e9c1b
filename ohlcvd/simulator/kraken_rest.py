"""Kraken's public REST API: Time, SystemStatus, Assets, AssetPairs, OHLC, Trades, with the venue's own limits.

OHLC gives the latest 720 minutes whatever `since` says (it only cuts away), empty minutes filled with the previous
close, the running minute last. Trades gives at most 1000 after the cursor `since`; `last` is the exact cursor, in
nanoseconds, while the rows' times are rounded. Errors come with status 200. https://docs.kraken.com/api/docs/rest-api
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from aiohttp import web

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.faults import broken_answer, damaged
from ohlcvd.simulator.tape import Execution, MinuteCandle

if TYPE_CHECKING:
    from ohlcvd.simulator.kraken import KrakenVenue

OHLC_ROWS = 720
MAX_TRADES = 1000
_REST_PRICE_DECIMALS = 5  # Trades shows at least so many

_RATE_LIMIT = '{"error":["EAPI:Rate limit exceeded"]}'
_FEES = [[0, 0.4], [10000, 0.35], [50000, 0.24], [100000, 0.22]]
_MAKER_FEES = [[0, 0.25], [10000, 0.2], [50000, 0.14], [100000, 0.12]]

_Answer = Callable[["KrakenVenue", Mapping[str, str]], str]


class _Refused(Exception):
    """Kraken's own word for what is wrong with a request."""


def rest_routes(venue: "KrakenVenue") -> list[tuple[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]]:
    return [(f"/0/public/{name}", _handler(venue, name, answer)) for name, answer in _ANSWERS.items()]


def _handler(
    venue: "KrakenVenue", name: str, answer: _Answer
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        venue.requests[name] += 1
        fault = venue.faults.rest_fault(request.query.get("pair") if name in ("OHLC", "Trades") else None)
        if fault is not None:
            await venue.hang(fault)
            broken = broken_answer(fault, _RATE_LIMIT)
            if broken is not None:
                return broken
        try:
            text = f'{{"error":[],"result":{answer(venue, request.query)}}}'
        except _Refused as refusal:
            text = json.dumps({"error": [str(refusal)]})
        response = web.Response(text=text, content_type="application/json")
        return damaged(response) if fault is not None and fault.kind == "cut-body" else response

    return handle


def _time(venue: "KrakenVenue", query: Mapping[str, str]) -> str:
    seconds = venue.clock.now_ns() // 10**9
    return json.dumps(
        {"unixtime": seconds, "rfc1123": time.strftime("%a, %d %b %y %H:%M:%S +0000", time.gmtime(seconds))}
    )


def _status(venue: "KrakenVenue", query: Mapping[str, str]) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(venue.clock.now_ns() // 10**9))
    return json.dumps({"status": "online", "timestamp": now})


def _assets(venue: "KrakenVenue", query: Mapping[str, str]) -> str:
    assets = {}
    for listing in venue.listings.values():
        base, _, quote = listing.wsname.partition("/")
        for asset_id, altname in ((listing.base_id, base), (listing.quote_id, quote)):
            money = asset_id.startswith("Z") and asset_id != altname
            assets[asset_id] = {
                "aclass": "currency", "altname": altname, "decimals": 4 if money else 10,
                "display_decimals": 2 if money else 5, "status": "enabled",
            }  # fmt: skip
    return json.dumps(assets)


def _asset_pairs(venue: "KrakenVenue", query: Mapping[str, str]) -> str:
    wanted = [_pair(venue, name) for name in query["pair"].split(",")] if query.get("pair") else list(venue.listings)
    pairs = {}
    for symbol in wanted:
        listing = venue.listings[symbol]
        if not venue.is_listed(symbol):
            continue
        pairs[listing.id] = {
            "altname": listing.altname, "wsname": listing.wsname, "aclass_base": "currency", "base": listing.base_id,
            "aclass_quote": "currency", "quote": listing.quote_id, "lot": "unit", "cost_decimals": 5,
            "pair_decimals": listing.decimals, "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": [],
            "leverage_sell": [], "fees": _FEES, "fees_maker": _MAKER_FEES, "fee_volume_currency": "ZUSD",
            "margin_call": 80, "margin_stop": 40, "ordermin": "0.0001", "costmin": "0.5",
            "tick_size": f"{Decimal(1).scaleb(-listing.decimals):f}", "status": "online",
        }  # fmt: skip
    return json.dumps(pairs)


def _ohlc(venue: "KrakenVenue", query: Mapping[str, str]) -> str:
    symbol = _pair(venue, query.get("pair", ""))
    if query.get("interval", "1") != "1":
        raise _Refused("EGeneral:Invalid arguments:interval")
    since_s = _number(query, "since")
    running = venue.clock.now_ns() // 1000 // MINUTE_US * MINUTE_US
    oldest = max(running - (OHLC_ROWS - 1) * MINUTE_US, venue.start_us)
    if since_s is not None:
        oldest = max(oldest, (int(since_s) * 1_000_000 // MINUTE_US + 1) * MINUTE_US)
    visible = venue.visible(symbol)
    minutes = (venue.minute(symbol, ts_us, visible) for ts_us in range(oldest, running + 1, MINUTE_US))
    rows = ",".join(_ohlc_row(minute) for minute in minutes if minute is not None)
    last_s = (running - MINUTE_US) // 1_000_000
    return f'{{"{venue.listings[symbol].id}":[{rows}],"last":{last_s}}}'


def _ohlc_row(minute: MinuteCandle) -> str:
    vwap = minute.vwap if minute.trades else "0.0"
    return (
        f'[{minute.ts_us // 1_000_000},"{minute.open}","{minute.high}","{minute.low}","{minute.close}","{vwap}",'
        f'"{minute.volume}",{minute.trades}]'
    )


def _trades(venue: "KrakenVenue", query: Mapping[str, str]) -> str:
    symbol = _pair(venue, query.get("pair", ""))
    count, since = _number(query, "count"), _number(query, "since")
    if count is not None and not 1 <= count <= MAX_TRADES:
        raise _Refused("EGeneral:Invalid arguments:count")
    limit = MAX_TRADES if count is None else int(count)
    tape, visible = venue.tape(symbol), venue.visible(symbol)
    if since is None:
        start = max(tape.first_id, visible - limit)
        last_ns = venue.clock.now_ns()
    else:
        # seconds, or nanoseconds as `last` has them: Kraken takes both; the trade at `since` itself is not repeated
        last_ns = int(since * 10**9) if since < 10**11 else int(since)
        start = max(tape.first_id, tape.id_at(last_ns + 1))
    executions = venue.executions(symbol, start, min(visible, _page_end(venue, symbol, start, start + limit, visible)))
    if executions:
        last_ns = executions[-1].ts_ns
    rows = ",".join(map(_trade_row, executions))
    return f'{{"{venue.listings[symbol].id}":[{rows}],"last":"{last_ns}"}}'


def _page_end(venue: "KrakenVenue", symbol: str, start: int, end: int, visible: int) -> int:
    """No page ends between trades of one nanosecond (recordings have such): the cursor could not go on after it."""
    if end >= visible:
        return visible
    tape = venue.tape(symbol)
    end_ns = tape.time_ns(end)
    first_of_moment = tape.id_at(end_ns)
    return first_of_moment if first_of_moment > start else min(visible, tape.id_at(end_ns + 1))


def _trade_row(one: Execution) -> str:
    whole, _, part = one.price.partition(".")
    price = f"{whole}.{part:0<{_REST_PRICE_DECIMALS}}"
    kind = "l" if one.is_limit else "m"
    return f'["{price}","{one.amount}",{seconds_text(one.ts_ns)},"{one.side[0]}","{kind}","",{one.id}]'


def seconds_text(ts_ns: int) -> str:
    """ "1762802628.0524116": at most 7 decimals, at least 4."""
    seconds, rest_ns = divmod(ts_ns, 10**9)
    digits = f"{rest_ns // 100:07d}".rstrip("0")
    return f"{seconds}.{digits:0<4}"


def _pair(venue: "KrakenVenue", name: str) -> str:
    symbol = venue.symbol_of(name)
    if symbol is None:
        raise _Refused("EQuery:Unknown asset pair")
    return symbol


def _number(query: Mapping[str, str], name: str) -> Decimal | None:
    text = query.get(name)
    if not text:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise _Refused(f"EGeneral:Invalid arguments:{name}") from None
    if not value.is_finite() or value < 0:
        raise _Refused(f"EGeneral:Invalid arguments:{name}")
    return value


_ANSWERS: dict[str, _Answer] = {
    "Time": _time,
    "SystemStatus": _status,
    "Assets": _assets,
    "AssetPairs": _asset_pairs,
    "OHLC": _ohlc,
    "Trades": _trades,
}
