"""What an exchange does not stream is asked of it again and again.

Trades: the latest ones of each market, by turns, each market every POLL_S if the venue's limit allows. An answer that
holds a trade seen before joins on to it without a gap; one that does not ends the unbroken stretch, and what lies
between is history's to fetch. `on_reached` says after each answer how far the market is known.

Candles: only announced. The candle service asks for every minute by itself as long as nothing streams them.

Weaker than a stream, and meant to be: what is known trails the present by POLL_S or more; a busy market whose latest
trades do not fill one answer's distance is interrupted all the time; the venue's order within a millisecond, and trades
that it adds late, are what its answers make of them.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from ohlcvd.errors import ExchangeError, UnknownSymbol
from ohlcvd.exchange.clock import VenueClock
from ohlcvd.exchange.incoming import Incoming
from ohlcvd.exchange.pacing import refused_pause_s
from ohlcvd.exchange.sink import StreamSink
from ohlcvd.exchange.venue import TradeRows
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Kind, Trade

POLL_S = 5.0
ASK: dict[Kind, str] = {"trades": "fetchTrades", "candles": "fetchOHLCV"}
_IDLE_S = 0.2
_REMEMBERED_IDS = 5_000


class _Market:
    """What is known of one market's trades."""

    def __init__(self) -> None:
        self.due_s = 0.0
        self.failures = 0
        self.is_live = False
        self.seen: dict[str, None] = {}

    def take(self, trades: list[Trade]) -> tuple[list[Trade], bool]:
        """The new ones of an answer, and whether it joins on to what was seen before."""
        fresh = [trade for trade in trades if trade.id not in self.seen]
        joins = not fresh or len(fresh) < len(trades)
        self.seen.update((trade.id, None) for trade in fresh)
        for old in list(self.seen)[: max(0, len(self.seen) - _REMEMBERED_IDS)]:
            del self.seen[old]
        return fresh, joins


class PollingStream:
    """Symbols may be added and removed before and while it runs."""

    def __init__(
        self, exchange: Any, names: dict[str, str], sink: StreamSink, incoming: Incoming, clock: VenueClock,
        log: ComponentLogger, latest_trades: Callable[[str], Awaitable[list[Trade]]],
        time_of_venue: Callable[[], Awaitable[int]],
    ) -> None:  # fmt: skip
        self._exchange = exchange
        self._names = names
        self._sink = sink
        self._incoming = incoming
        self._clock = clock
        self._log = log
        self._latest_trades = latest_trades
        self._time_of_venue = time_of_venue
        self._markets: dict[str, _Market] = {}
        self._unannounced: list[str] = []  # candles

    def add(self, symbol: str, name: str, kinds: Collection[Kind]) -> None:
        """Ask for these; a kind that the exchange does not even give when it is asked is refused."""
        self._names[name] = symbol
        for kind in kinds:
            if not self._exchange.has.get(ASK[kind]):
                self._sink.on_refused(symbol, kind, f"{self._exchange.id} gives no public {kind}")
            elif kind == "trades":
                self._markets.setdefault(symbol, _Market())
            else:
                self._unannounced.append(symbol)

    def remove(self, symbol: str) -> None:
        """Ask no more; the sink hears no more of it."""
        self._markets.pop(symbol, None)
        self._unannounced = [other for other in self._unannounced if other != symbol]

    async def run(self) -> None:
        """Until cancelled, also with nothing to do."""
        while True:
            if self._unannounced:
                await self._announce()
            now_s = time.monotonic()
            due = [symbol for symbol, market in self._markets.items() if market.due_s <= now_s]
            if due:
                await self._poll(min(due, key=lambda symbol: self._markets[symbol].due_s))
            else:
                await asyncio.sleep(_IDLE_S)

    async def _announce(self) -> None:
        try:
            venue_us = await self._time_of_venue()
        except ExchangeError as error:
            self._log.warning("%s does not tell its time: %s; asked again", self._exchange.id, error)
            await asyncio.sleep(POLL_S)
            return
        symbols, self._unannounced = self._unannounced, []
        for symbol in symbols:
            self._sink.on_subscribed(symbol, "candles", venue_us)

    async def _poll(self, symbol: str) -> None:
        market = self._markets[symbol]
        market.due_s = time.monotonic() + POLL_S
        try:
            asked_us = self._clock.now_us(time.monotonic())
            if asked_us is None:
                asked_us = await self._time_of_venue()
            trades = await self._latest_trades(symbol)
        except ExchangeError as error:
            self._failed(symbol, market, error)
            return
        market.failures = 0
        if self._markets.get(symbol) is market:
            self._arrived(symbol, market, trades, asked_us)

    def _arrived(self, symbol: str, market: _Market, trades: list[Trade], asked_us: int) -> None:
        fresh, joins = market.take(trades)
        if market.is_live and not joins:
            reason = f"the {len(trades)} latest trades do not reach back to those seen before"
            self._log.warning(f"{symbol}: {reason}; fetching what is between", exchange=self._exchange.id)
            self._sink.on_interrupted(symbol, "trades", reason)
            market.is_live = False
        was_live = market.is_live
        if not market.is_live:
            market.is_live = True
            self._sink.on_subscribed(symbol, "trades", asked_us)
        if fresh:
            self._incoming.deliver(TradeRows(symbol, fresh, snapshot=not was_live))
        self._sink.on_reached(symbol, "trades", asked_us)

    def _failed(self, symbol: str, market: _Market, error: ExchangeError) -> None:
        market.failures += 1
        pause_s = refused_pause_s(market.failures, random.random())
        market.due_s = time.monotonic() + max(POLL_S, pause_s)
        if isinstance(error, UnknownSymbol):
            self._sink.on_refused(symbol, "trades", str(error))
        elif market.failures == 1:
            self._log.warning(
                f"trades of {symbol} could not be asked: {error}; asked again", exchange=self._exchange.id
            )
