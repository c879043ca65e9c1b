"""The load generator, a process: `python -m tests.bench.generator EXCHANGE SYMBOLS [HISTORY]`. Prints its address last
on a line.

It speaks the exchange's protocol through the simulator's own venue classes, but its trades are made of one counter and
written to the socket directly, many frames in one piece, so that the generator is never what is measured.

With HISTORY, its REST interface has so many trades of each symbol, the same of each, all of the hour before it began,
as texts that are made before anybody asks; with "candles" instead of a number it has candles of every minute there ever
was (Binance only).

POST /control/run {"trades", "rate"}: sends so many to the latest client, at so many a second (0: as fast as the socket
takes them), one symbol after the other, each symbol's ids counting on. Answers when all are written with the number of
all that were ever sent.
GET /control/sent: {symbol: last id}, the number of subscriptions, how many pages of history were asked for.
GET /control/times: [[symbol, id, seconds since 1970]], when each was written, of the last paced run.
"""

import asyncio
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle

from aiohttp import web

from ohlcvd.simulator.binance import BinanceVenue
from ohlcvd.simulator.clock import SystemClock
from ohlcvd.simulator.connection import Connection
from ohlcvd.simulator.kraken import KrakenVenue, iso
from ohlcvd.simulator.listings import Listing, binance_listings, kraken_listings
from ohlcvd.simulator.recording import RecordedTape, RecordedTrade
from ohlcvd.simulator.venue import Venue

KRAKEN_TRADES_PER_FRAME = 10
_PIECE = 500  # trades written at once at full speed
_WAITING_BYTES = 1 << 20


class Load:
    """One venue whose trades are made here."""

    def __init__(self, exchange: str, symbols: int, history: int = 0) -> None:
        is_kraken = exchange == "kraken"
        listings = kraken_listings(symbols) if is_kraken else binance_listings(symbols)
        kind: type[Venue] = KrakenVenue if is_kraken else BinanceVenue
        trades = list(_past(history))
        tape, self.past = RecordedTape(trades), _Past(trades)
        start_us = time.time_ns() // 60_000_000_000 * 60_000_000
        self.venue = kind(listings, lambda symbol: tape, SystemClock(), start_us=start_us, live=False)
        self.last = {listing.symbol: history for listing in listings}
        self.sent = 0
        self.asked = 0
        self.times: list[tuple[str, int, float]] = []
        self._turns = cycle(listings)
        self._trades_per_frame = KRAKEN_TRADES_PER_FRAME if is_kraken else 1
        self._frame: Callable[[Listing, int], bytes] = self._kraken_frame if is_kraken else self._binance_frame

    async def run(self, trades: int, rate: float) -> None:
        """Until all are written, each to the connection that subscribed to its symbol."""
        clients = {
            s.symbol: client for client in self.venue.connections.values() for s in client.subscriptions.values()
        }
        self.times = []
        began, sent = time.monotonic(), 0
        while sent < trades:
            due = int((time.monotonic() - began) * rate) if rate else sent + _PIECE
            pieces: dict[Connection, list[bytes]] = {}
            now_ns = time.time_ns()
            while sent < min(due, trades):
                listing = next(self._turns)
                pieces.setdefault(clients[listing.symbol], []).append(self._frame(listing, now_ns))
                sent += self._trades_per_frame
                self.sent += self._trades_per_frame
                if rate:
                    last = self.last[listing.symbol]
                    self.times += [(listing.symbol, last - n, now_ns / 1e9) for n in range(self._trades_per_frame)]
            for client, frames in pieces.items():
                await _write(client, b"".join(frames))
            await asyncio.sleep(0.001 if rate else 0)

    def _binance_frame(self, listing: Listing, now_ns: int) -> bytes:
        now_ms, number = now_ns // 1_000_000, self._next(listing)
        return _frame(
            f'{{"stream":"{listing.id.lower()}@aggTrade","data":{{"e":"aggTrade","E":{now_ms},"s":"{listing.id}",'
            f'"a":{number},"p":"{50 + number % 977 / 100:.2f}","q":"{0.001 + number % 9973 / 100000:.5f}","f":{number},'
            f'"l":{number},"T":{now_ms},"m":{"true" if number % 2 else "false"},"M":true}}}}'
        )

    def _kraken_frame(self, listing: Listing, now_ns: int) -> bytes:
        now, rows = iso(now_ns), []
        for number in (self._next(listing) for _ in range(KRAKEN_TRADES_PER_FRAME)):
            rows.append(
                f'{{"symbol":"{listing.symbol}","side":"{"buy" if number % 2 else "sell"}",'
                f'"price":{50 + number % 977 / 100:.2f},"qty":{0.001 + number % 9973 / 100000:.5f},'
                f'"ord_type":"limit","trade_id":{number},"timestamp":"{now}"}}'
            )
        return _frame(f'{{"channel":"trade","type":"update","data":[{",".join(rows)}]}}')

    def _next(self, listing: Listing) -> int:
        number = self.last[listing.symbol] = self.last[listing.symbol] + 1
        return number


class _Past:
    """The aggregate trades of every symbol before the generator began: rows of text, oldest first."""

    def __init__(self, trades: list[RecordedTrade]) -> None:
        self._times_ms = [one.ts_ns // 1_000_000 for one in trades]
        self._rows = [
            f'{{"a":{one.id},"p":"{one.price}","q":"{one.amount}","f":{one.id},"l":{one.id},"T":{time_ms},'
            f'"m":{"false" if one.is_buy else "true"},"M":true}}'
            for one, time_ms in zip(trades, self._times_ms, strict=True)
        ]

    def answer(self, query: Mapping[str, str]) -> str | None:
        """A page; None when it would reach into what the generator sends."""
        limit = int(query.get("limit", 500))
        if "fromId" in query:
            start = max(1, int(query["fromId"])) - 1
        else:
            start = bisect_left(self._times_ms, int(query.get("startTime", 0)))
        rows = self._rows[start : start + limit]
        return f"[{','.join(rows)}]" if len(rows) == limit else None


def _past(trades: int) -> Iterator[RecordedTrade]:
    """The last hour's, ids from 1 on."""
    now_ns = time.time_ns()
    for number in range(1, trades + 1):
        ts_ns = (now_ns - (trades - number + 1) * 3_600_000_000_000 // trades) // 1_000_000 * 1_000_000
        price, amount = f"{50 + number % 977 / 100:.2f}", f"{0.001 + number % 9973 / 100000:.5f}"
        yield RecordedTrade(number, ts_ns, price, amount, number % 2 == 0, True, number, number)


def _frame(text: str) -> bytes:
    """A server's text frame, unmasked."""
    data = text.encode()
    size = len(data)
    head = bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2)
    return head + data


async def _write(connection: Connection, data: bytes) -> None:
    transport = connection.request.transport
    if not isinstance(transport, asyncio.Transport):
        raise ConnectionResetError("the client is gone")
    while transport.get_write_buffer_size() > _WAITING_BYTES:
        await asyncio.sleep(0.001)
    transport.write(data)


async def _klines(request: web.Request) -> web.Response:
    """Every minute has a candle, made of its number."""
    start = -(-int(request.query["startTime"]) // 60_000)
    end = min(start + int(request.query["limit"]), int(time.time() // 60) + 1)
    rows = ",".join(
        f'[{minute * 60_000},"{50 + minute % 97 / 100:.8f}","{52 + minute % 89 / 100:.8f}",'
        f'"{49 + minute % 83 / 100:.8f}","{50 + (minute + 1) % 97 / 100:.8f}","{0.001 + minute % 9973 / 1000:.8f}",'
        f'{minute * 60_000 + 59_999},"{minute % 7919 / 10:.8f}",{1 + minute % 300},"0.00100000","0.05000000","0"]'
        for minute in range(start, end)
    )
    return web.Response(text=f"[{rows}]", content_type="application/json")


async def _serve(exchange: str, symbols: str, history: str = "0") -> None:
    load = Load(exchange, int(symbols), 0 if history == "candles" else int(history))

    async def run(request: web.Request) -> web.Response:
        order = await request.json()
        await load.run(order["trades"], order.get("rate", 0))
        return web.json_response({"sent": load.sent})

    async def sent(request: web.Request) -> web.Response:
        return web.json_response({"symbols": load.last, "subscribed": _subscribed(load.venue), "asked": load.asked})

    async def times(request: web.Request) -> web.Response:
        return web.json_response({"times": load.times})

    app = web.Application()
    app.add_routes([web.post("/control/run", run), web.get("/control/sent", sent), web.get("/control/times", times)])
    routes = dict(load.venue.routes())
    ask = routes.get("/api/v3/aggTrades")

    async def candles(request: web.Request) -> web.StreamResponse:
        load.asked += 1
        return await _klines(request)

    async def trades(request: web.Request) -> web.StreamResponse:
        load.asked += 1
        text = load.past.answer(request.query)
        assert ask is not None
        return await ask(request) if text is None else web.Response(text=text, content_type="application/json")

    if history == "candles":
        routes["/api/v3/klines"] = candles
    elif history != "0":
        routes["/api/v3/aggTrades"] = trades
    app.add_routes([web.get(f"/{exchange}{path}", handler) for path, handler in routes.items()])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    while True:
        await asyncio.sleep(1)
        load.venue.every_second()


def _subscribed(venue: Venue) -> int:
    return sum(len(connection.subscriptions) for connection in venue.connections.values())


if __name__ == "__main__":
    sys.exit(asyncio.run(_serve(*sys.argv[1:])))
