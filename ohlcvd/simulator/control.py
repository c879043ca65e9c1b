"""/control/...: what a test or the demo asks the simulator itself. JSON; errors are {"error": sentence}, status 400.

GET  /control/status    what runs, clients, requests, how much was sent
GET  /control/sent?exchange=&symbol=[&snapshots=1]
                        trades that went over WebSockets as new, in order: [id, ts_us, price, amount, side];
                        without symbol: counts of all symbols; with snapshots=1 also what only a snapshot carried
GET  /control/truth?exchange=&symbol=[&from_us=&to_us=][&kind=candles]
                        what happened, whether sent or not; candles are [ts_us, open, high, low, close, volume,
                        trades], closed minutes with trades only
GET  /control/faults    every fault and what it does
POST /control/freeze    ends the market; what was sent is final when it answers
POST /control/fault     {"fault": NAME, "exchange"?: , "symbol"?: , "value"?: }
"""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ohlcvd.errors import UsageError
from ohlcvd.simulator.fault_list import FAULTS
from ohlcvd.simulator.venue import Venue, as_rows, integer

if TYPE_CHECKING:
    from ohlcvd.simulator.server import Simulator

_Answer = Callable[[web.Request], Awaitable[object]]


def control_routes(simulator: "Simulator") -> list[web.RouteDef]:
    control = _Control(simulator)
    return [
        web.get("/control/status", _json(control.status)),
        web.get("/control/sent", _json(control.sent)),
        web.get("/control/truth", _json(control.truth)),
        web.get("/control/faults", _json(control.faults)),
        web.post("/control/freeze", _json(control.freeze)),
        web.post("/control/fault", _json(control.fault)),
    ]


def _json(answer: _Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response(await answer(request))
        except (UsageError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)

    return handle


class _Control:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    async def status(self, request: web.Request) -> object:
        replay = self._simulator.replay
        venues = {name: _venue_status(venue) for name, venue in self._simulator.venues.items()}
        document: dict[str, object] = {
            "mode": "live" if replay is None else "replay",
            "sent": sum(venue["sent"] for venue in venues.values()),
            "exchanges": venues,
        }
        if replay is not None:
            document |= replay.status()
        return document

    async def sent(self, request: web.Request) -> object:
        venue, symbol = self._asked(request)
        if symbol is None:
            return {"exchange": venue.name, "symbols": {name: len(venue.sent.get(name, ())) for name in venue.listings}}
        trades = venue.sent_trades(symbol, snapshots=request.query.get("snapshots") == "1")
        return {"exchange": venue.name, "symbol": symbol, "trades": as_rows(trades)}

    async def truth(self, request: web.Request) -> object:
        venue, symbol = self._asked(request)
        if symbol is None:
            raise UsageError("truth needs a symbol")
        from_us = integer(request.query, "from_us") or venue.start_us
        to_us = integer(request.query, "to_us") or venue.clock.now_ns() // 1000 + 1
        if request.query.get("kind", "trades") == "candles":
            candles = venue.true_candles(symbol, from_us, to_us)
            return {"exchange": venue.name, "symbol": symbol, "candles": [list(candle[:7]) for candle in candles]}
        return {"exchange": venue.name, "symbol": symbol, "trades": as_rows(venue.true_trades(symbol, from_us, to_us))}

    async def faults(self, request: web.Request) -> object:
        return {known.name: known.help for known in FAULTS.values()}

    async def freeze(self, request: web.Request) -> object:
        frozen_us, complete = await self._simulator.freeze()
        return {"frozen_us": frozen_us, "complete": complete}

    async def fault(self, request: web.Request) -> object:
        try:
            wanted: Any = json.loads(await request.text() or "{}")
        except ValueError:
            wanted = None
        if not isinstance(wanted, dict) or not isinstance(wanted.get("fault"), str):
            raise UsageError('send a JSON object such as {"fault": "cut", "exchange": "kraken"}')
        texts = {key: None if wanted.get(key) is None else str(wanted[key]) for key in ("exchange", "symbol", "value")}
        return {"fault": wanted["fault"], "touched": self._simulator.fault(wanted["fault"], **texts)}

    def _asked(self, request: web.Request) -> tuple[Venue, str | None]:
        venue = self._simulator.venue(request.query.get("exchange", ""))
        symbol = request.query.get("symbol")
        if symbol is not None and symbol not in venue.listings:
            raise UsageError(f"{venue.name} has no symbol {symbol!r} here")
        return venue, symbol


def _venue_status(venue: Venue) -> dict[str, Any]:
    return {
        "now_us": venue.clock.now_ns() // 1000,
        "start_us": venue.start_us,
        "frozen_us": None if venue.frozen_ns is None else venue.frozen_ns // 1000,
        "symbols": len(venue.listings),
        "connections": len(venue.connections),
        "connected_ever": venue.connected_ever,
        "subscriptions": sum(len(connection.subscriptions) for connection in venue.connections.values()),
        "requests": dict(venue.requests),
        "requests_total": venue.requests.total(),
        "sent": sum(len(ids) for ids in venue.sent.values()),
        "injected": dict(venue.faults.injected),
        "withheld": {symbol: [list(part) for part in ids] for symbol, ids in venue.faults.withheld.items()},
    }
