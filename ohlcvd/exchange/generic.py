"""Every ccxt.pro venue without a file of its own, through ccxt's own parsers.

Trades are taken where ccxt files them: each `ArrayCache` that it puts into `exchange.trades` is replaced in place by
one that reports what is appended, so every trade is seen once and in order, whatever the size of the cache and however
late a `watch_trades` returns. The `watch_*` calls only subscribe, keep the connection and raise when it ends.

Weaker than a fast path, and meant to be: no acknowledgement is seen, so a subscription counts as unbroken from the
first data or, in a quiet market, ten seconds after asking without an error; when one connection ends every market of
the venue counts as interrupted; times are milliseconds; side, order and identity are what ccxt makes of them; candles
have no closed flag and no number of trades, and some of ccxt's classes make floats of their numbers. A trade without
an id gets one from its time, price, amount, side and its ordinal among equals.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from ohlcvd.errors import ExchangeError
from ohlcvd.exchange import history, loading
from ohlcvd.exchange.client import Gate, first_line
from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.identity import IdMaker
from ohlcvd.exchange.incoming import Incoming
from ohlcvd.exchange.pacing import Backoff, SilenceWatch, refused_pause_s
from ohlcvd.exchange.sink import StreamCounters, StreamSink, TradePage
from ohlcvd.exchange.venue import BadRow, CandleRow, Silence, TradeRows, missing
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Candle, Kind, Side, Trade

_ArrayCache: Any = loading.ccxt_name("ccxt.async_support.base.ws.cache", "ArrayCache")
_NetworkError: Any = loading.ccxt_name("ccxt.base.errors", "NetworkError")
_BaseError: Any = loading.ccxt_name("ccxt.base.errors", "BaseError")

TRUST_AFTER_S = 10.0
_TICK_S = 1.0
_ANNOUNCE_S = 0.2
_FULL_PAGE = 100  # rows; where the venue chooses the size of a page, a fuller one may go on
_SILENCE = Silence(data_s=10.0, any_s=75.0, quiet_s=75.0)
WATCH: dict[Kind, str] = {"trades": "watchTrades", "candles": "watchOHLCV"}
_UNWATCH: dict[Kind, str] = {"trades": "unWatchTrades", "candles": "unWatchOHLCV"}


def parse_trade(row: Any, ids: IdMaker) -> Trade:
    """One of ccxt's trades; raises KeyError, TypeError or ValueError where it lacks what a trade needs."""
    if row["timestamp"] is None and row["price"] is None:
        raise ValueError("all fields are empty: the venue speaks a protocol that this ccxt does not know")
    side: Side = row["side"]
    ts_us, price, amount = whole(row["timestamp"]) * 1000, _digits(row["price"]), _digits(row["amount"])
    return Trade(ts_us, str(row["id"] or ids.id_of(ts_us, price, amount, side)), price, amount, side)


def parse_candle(row: Any) -> Candle:
    """One of ccxt's candles; raises as parse_trade does."""
    start_ms, open_, high, low, close, volume = row[:6]
    prices = _digits(open_), _digits(high), _digits(low), _digits(close)
    return Candle(whole(start_ms) * 1000, *prices, _digits(volume), None, "venue")


def _digits(value: Any) -> str:
    """As `digits`; some of ccxt's classes make floats of the venue's text themselves."""
    return digits(repr(value) if type(value) is float else value)


class _TappedCache(_ArrayCache):  # type: ignore[misc]
    """ccxt's cache of trades that reports every one appended."""

    tell: Callable[[Any], None]

    def append(self, item: Any) -> None:
        self.tell(item)
        super().append(item)


class _Caches(dict[str, Any]):
    """`exchange.trades`: taps each cache that ccxt puts in."""

    def __init__(self, tell: Callable[[Any], None]) -> None:
        super().__init__()
        self._tell = tell

    def __setitem__(self, symbol: str, cache: Any) -> None:
        if not isinstance(cache, _TappedCache):
            for item in cache:  # some venues fill a cache before they file it
                self._tell(item)
            cache.__class__ = _TappedCache
            cache.tell = self._tell
        super().__setitem__(symbol, cache)


class GenericStream:
    """One task for each (symbol, kind); symbols may be added and removed before and while it runs."""

    def __init__(
        self, exchange: Any, names: dict[str, str], sink: StreamSink, incoming: Incoming, counters: StreamCounters,
        gate: Gate, log: ComponentLogger, time_of_venue: Callable[[], Awaitable[int]],
    ) -> None:  # fmt: skip
        self._exchange = exchange
        self._names = names  # in ccxt's rows -> symbol; filled here, read by `incoming`
        self._sink = sink
        self._incoming = incoming
        self._counters = counters
        self._gate = gate
        self._log = log
        self._time_of_venue = time_of_venue
        self._live: set[tuple[str, Kind]] = set()
        self._ids: dict[str, IdMaker] = {}
        self._wanted: dict[tuple[str, Kind], asyncio.Task[None] | None] = {}
        self._refusals: dict[tuple[str, Kind], int] = {}
        self._group: asyncio.TaskGroup | None = None
        self._fresh: set[tuple[str, Kind]] = set()  # no data since the subscription
        self._trusted_from_s: dict[tuple[str, Kind], float] = {}  # subscribed and not announced
        self._renewed: set[tuple[str, Kind]] = set()  # ended while the venue was asked for its time
        self._arrived: dict[str, list[Trade]] = {}

    def add(self, symbol: str, name: str, kinds: Collection[Kind]) -> None:
        """Subscribe; what it already has is left alone."""
        self._names[name] = symbol
        self._ids.setdefault(symbol, IdMaker())
        for kind in sorted(kinds, reverse=True):  # trades first
            if (symbol, kind) not in self._wanted:
                self._wanted[symbol, kind] = None
                self._start(symbol, kind)

    def remove(self, symbol: str) -> None:
        """Unsubscribe where ccxt can; the sink hears no more of it. A few of its rows may still come."""
        for key in [key for key in self._wanted if key[0] == symbol]:
            task = self._wanted.pop(key)
            if task is not None:
                task.cancel()
            self._live.discard(key)
            self._trusted_from_s.pop(key, None)
            self._renewed.add(key)
            self._refusals.pop(key, None)
            if self._group is not None and self._exchange.has.get(_UNWATCH[key[1]]):
                self._group.create_task(self._unwatch(*key))

    async def run(self) -> None:
        """Until cancelled, also with nothing to do."""
        self._exchange.trades = _Caches(self._on_trade)
        self._exchange.on_end = self._on_end
        self._exchange.on_fault = self._on_fault
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._watch_silence())
                group.create_task(self._announce_all())
                for key in self._wanted:
                    self._start(*key)
        finally:
            self._group = None
            for symbol, kind in list(self._live):
                self._interrupt(symbol, kind, "the stream was stopped")
            self._exchange.on_end = lambda reason: None
            for client in self._clients():
                self._exchange.clients.pop(client.url, None)
                await client.shut()

    def _start(self, symbol: str, kind: Kind) -> None:
        if self._group is not None:
            self._wanted[symbol, kind] = self._group.create_task(self._keep(symbol, kind))

    async def _unwatch(self, symbol: str, kind: Kind) -> None:
        """Where it fails, what still comes is not looked at."""
        try:
            if kind == "trades":
                await self._exchange.un_watch_trades(symbol)
            else:
                await self._exchange.un_watch_ohlcv(symbol, "1m")
        except (_BaseError, KeyError, ValueError, TypeError) as error:
            self._log.debug("%s does not unsubscribe %s: %s", self._exchange.id, symbol, first_line(error))

    async def _keep(self, symbol: str, kind: Kind) -> None:
        backoff, key = Backoff(), (symbol, kind)
        while True:
            began_s = time.monotonic()
            self._trusted_from_s[key] = began_s + TRUST_AFTER_S
            self._fresh.add(key)
            try:
                await self._follow(symbol, kind)
            except _NetworkError as error:
                ended_s = time.monotonic()
                backoff.ended(key in self._live, ended_s - began_s, ended_s)
                self._interrupt(symbol, kind, first_line(error))
                self._trusted_from_s.pop(key, None)
                # they share connections: those of one end together, and the first to come back opens it for all
                pause_s = backoff.pause_s(random.random(), len(self._wanted), spread_s=0.0)
                self._counters.cut(key, first_line(error), time.time_ns() // 1000, pause_s)
                await asyncio.sleep(pause_s)
            except _BaseError as error:
                self._trusted_from_s.pop(key, None)
                await asyncio.sleep(self._refuse(symbol, kind, f"{type(error).__name__}: {first_line(error)}"))

    async def _follow(self, symbol: str, kind: Kind) -> None:
        """Watch until ccxt raises.

        ccxt tells a waiting call only: between the end of one and the beginning of the next nothing else may run.
        """
        await self._exchange.allowance.silence()
        while True:
            if kind == "trades":
                await self._exchange.watch_trades(symbol)
            else:
                rows = await self._exchange.watch_ohlcv(symbol, "1m")
                self._on_candles(symbol, [list(row) for row in rows])

    # what arrives

    def _on_trade(self, row: Any) -> None:
        """Called by a cache inside ccxt's message handler."""
        symbol = row.get("symbol")
        if symbol not in self._ids:
            self._incoming.deliver(BadRow(symbol, "trades", "market unknown or not subscribed", str(row)))
            return
        try:
            trade = parse_trade(row, self._ids[symbol])
        except (KeyError, TypeError, ValueError) as error:
            self._pass_on(symbol, "trades", BadRow(symbol, "trades", missing(row, error), str(row)))
            return
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._arrived.setdefault(symbol, []).append(trade)

    def _deliver(self) -> None:
        arrived, self._arrived = self._arrived, {}
        for symbol, trades in arrived.items():
            self._pass_on(symbol, "trades", TradeRows(symbol, trades, (symbol, "trades") in self._fresh))
            self._arrive(symbol, "trades")

    def _on_candles(self, symbol: str, rows: Any) -> None:
        for row in rows:
            try:
                candle = parse_candle(row)
            except (IndexError, TypeError, ValueError) as error:
                self._pass_on(symbol, "candles", BadRow(symbol, "candles", missing(row, error), str(row)))
            else:
                self._pass_on(symbol, "candles", CandleRow(symbol, candle, False, (symbol, "candles") in self._fresh))
        self._arrive(symbol, "candles")

    def _arrive(self, symbol: str, kind: Kind) -> None:
        """There was data, so the subscription works."""
        self._fresh.discard((symbol, kind))
        if (symbol, kind) in self._trusted_from_s:
            self._trusted_from_s[symbol, kind] = 0.0

    def _pass_on(self, symbol: str, kind: Kind, event: TradeRows | CandleRow | BadRow) -> None:
        """Deliver; a row that cannot be used ends the unbroken stretch and the next one begins at once."""
        lost = self._incoming.deliver(event)
        if lost is not None and (symbol, kind) in self._live:
            self._interrupt(symbol, kind, f"a {lost.noun} could not be used: {lost.reason}")
            self._trusted_from_s[symbol, kind] = 0.0

    # what is announced

    async def _announce_all(self) -> None:
        """Announces what can be trusted by now, with one question for the venue's time."""
        while True:
            await asyncio.sleep(_ANNOUNCE_S)
            due = {key for key, from_s in self._trusted_from_s.items() if from_s <= time.monotonic()}
            if not due:
                continue
            self._renewed.clear()
            try:
                venue_us = await self._time_of_venue()
            except ExchangeError as error:
                self._log.warning("%s does not tell its time: %s; asked again", self._exchange.id, error)
                await asyncio.sleep(_TICK_S)
                continue
            for key in due & self._trusted_from_s.keys() - self._renewed:
                del self._trusted_from_s[key]
                self._fresh.discard(key)
                self._live.add(key)
                self._refusals.pop(key, None)
                self._counters.whole(key)
                self._sink.on_subscribed(*key, venue_us)

    def _interrupt(self, symbol: str, kind: Kind, reason: str) -> None:
        self._renewed.add((symbol, kind))
        if (symbol, kind) in self._live:
            self._live.discard((symbol, kind))
            self._sink.on_interrupted(symbol, kind, reason)

    def _refuse(self, symbol: str, kind: Kind, reason: str) -> float:
        """Returns for how long it is left alone."""
        key = (symbol, kind)
        self._interrupt(symbol, kind, reason)
        refusals = self._refusals[key] = self._refusals.get(key, 0) + 1
        pause_s = refused_pause_s(refusals, random.random())
        self._log.error(
            f"subscription to the {kind} of {symbol} refused: {reason}; asked again in {pause_s:.0f} s",
            exchange=self._exchange.id,
            symbol=symbol,
        )
        self._sink.on_refused(symbol, kind, reason)
        return pause_s

    def _on_fault(self, text: str, error: Exception) -> None:
        """A frame that ccxt cannot read, of whichever market."""
        self._incoming.reject_frame(text, error)
        for symbol, kind in list(self._live):
            self._interrupt(symbol, kind, f"a frame could not be read: {type(error).__name__}")
            self._trusted_from_s[symbol, kind] = 0.0

    def _on_end(self, reason: str) -> None:
        """A connection has ended; which markets were on it ccxt does not tell."""
        if self._live:
            self._counters.reconnects += 1
            self._log.warning(
                "a connection ended: %s; connecting again", reason, exchange=self._exchange.id, streams=len(self._live)
            )
        self._renewed.update(self._trusted_from_s)
        for symbol, kind in list(self._live):
            self._interrupt(symbol, kind, reason)
            self._trusted_from_s[symbol, kind] = time.monotonic() + TRUST_AFTER_S
        self._ids = {symbol: IdMaker() for symbol in self._ids}

    def _clients(self) -> list[Any]:
        """The connections that ccxt has opened; those of fast paths are taken care of there."""
        return [client for client in (self._exchange.clients or {}).values() if client.tap is self._exchange.tap]

    async def _watch_silence(self) -> None:
        watches: dict[Any, SilenceWatch] = {}
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = time.monotonic()
            clients = [client for client in self._clients() if client.isConnected]
            watches = {client: watches.get(client) or SilenceWatch(_SILENCE, now_s) for client in clients}
            for client, watch in watches.items():
                if not self._gate.is_open:
                    client.lastPong = int(time.time() * 1000)  # ccxt must not miss pongs that wait unread
                    continue
                fault = watch.fault(now_s, client.frames, client.last_frame_s, self._gate.opened_s)
                if fault is not None:
                    client.on_error(_NetworkError(f"stale: {fault}"))


class GenericHistory:
    """History through ccxt's unified calls."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    async def candles(self, symbol: str, since_us: int | None, limit: int | None) -> list[Candle]:
        """As the venue's class in ccxt gives them."""
        since_ms, what = _floor_ms(since_us), f"candles of {symbol}"
        rows = await history.ask(
            self._exchange, what, lambda: self._exchange.fetch_ohlcv(symbol, "1m", since_ms, limit)
        )
        return history.read(self._exchange.id, what, rows, lambda: [parse_candle(row) for row in rows])

    async def trades(self, symbol: str, from_id: str | None, since_us: int | None, limit: int | None) -> TradePage:
        """A page; its cursor is a time in microseconds, so the next page repeats the trades of that millisecond."""
        start_us, what = int(from_id) if from_id is not None else since_us, f"trades of {symbol}"
        since_ms = _floor_ms(start_us)
        rows = await history.ask(self._exchange, what, lambda: self._exchange.fetch_trades(symbol, since_ms, limit))
        ids = IdMaker()
        trades = history.read(self._exchange.id, what, rows, lambda: [parse_trade(row, ids) for row in rows])
        trades = in_order(trades)
        if since_ms is None or not trades:
            return TradePage(trades, None)
        if trades[-1].ts_us > since_ms * 1000:
            return TradePage(trades, str(trades[-1].ts_us))
        if len(trades) >= (limit or _FULL_PAGE):
            raise ExchangeError(f"{self._exchange.id} has more trades of {symbol} in one millisecond than in a page")
        return TradePage(trades, None)

    async def time_us(self, now_us: Callable[[], int]) -> tuple[int, int]:
        """(floor, resolution); the local clock where ccxt cannot ask the venue."""
        if not self._exchange.has.get("fetchTime"):
            return now_us(), 0
        answer = await history.ask(self._exchange, "its time", self._exchange.fetch_time)
        return history.read(self._exchange.id, "its time", answer, lambda: (whole(answer) * 1000, 1000))


def in_order(trades: list[Trade]) -> list[Trade]:
    """In order of time and, within a millisecond, of whole-number ids: ccxt sorts those as text, 1000 before 999."""
    if all(trade.id.isascii() and trade.id.isdigit() for trade in trades):
        return sorted(trades, key=lambda trade: (trade.ts_us, int(trade.id)))
    return sorted(trades, key=lambda trade: trade.ts_us)


def _floor_ms(time_us: int | None) -> int | None:
    return None if time_us is None else time_us // 1000
