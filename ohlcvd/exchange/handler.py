"""One exchange: its markets, its live streams, its history. All calls to an exchange go through here.

A handler owns one ccxt instance, made in `connect` inside the running event loop and released in `close`. Venues in
the registry have a fast path; all others go the generic way (see generic.py, with its weaker guarantees).
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ohlcvd.errors import ConfigError, ExchangeError, ExchangeUnavailable, MalformedAnswer, UnknownSymbol
from ohlcvd.exchange import catalog, history, spare, urls
from ohlcvd.exchange.allowance import Allowance
from ohlcvd.exchange.bans import Bans
from ohlcvd.exchange.client import Gate, rows_unread
from ohlcvd.exchange.clock import VenueClock
from ohlcvd.exchange.generic import GenericHistory
from ohlcvd.exchange.limits import rules_of
from ohlcvd.exchange.live import LiveStreams, Ways
from ohlcvd.exchange.registry import FAST_VENUES, fast_venue
from ohlcvd.exchange.rejects import Rejects
from ohlcvd.exchange.sink import StreamCounters, StreamSink, TradePage
from ohlcvd.exchange.venue import CandleHistory, Request, TradeHistory, VenueTime
from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Candles, Kind, Trade

if TYPE_CHECKING:
    from ohlcvd.config import ExchangeConfig


def system_now_us() -> int:
    """The local clock; only for judging what lies in the future."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class HandlerConfig:
    """How to reach the exchange; may be changed until `connect`."""

    name: str
    rest_url: str | None = None
    ws_url: str | None = None
    use_sandbox: bool = False
    proxy: str | None = None


class ExchangeHandler:
    """See the module. Not before `connect`: everything but `name`, `config`, `counters` and `clock`."""

    def __init__(self, config: "ExchangeConfig", *, now_us: Callable[[], int] = system_now_us) -> None:
        if config.name in catalog.CLOSED or config.name not in catalog.EXCHANGE_IDS:
            raise ConfigError(catalog.CLOSED.get(config.name, f"ccxt has no exchange {config.name!r}"))
        self.name = config.name
        self.config = HandlerConfig(config.name, config.rest_url, config.ws_url, config.sandbox, config.proxy)
        self.counters = StreamCounters()
        self.clock = VenueClock()
        self._fast = FAST_VENUES.get(config.name, ())
        self._now_us = now_us
        self._log = get_component_logger(f"ohlcvd.exchange.{config.name}")
        self._rejects = Rejects(config.name, self.counters, self._log)
        self._gate = Gate()
        self._bans = Bans(config.bans, config.name, self._log)
        self._connections: set[int] = set()
        self._exchange: Any = None
        self._listed: dict[str, bool] = {}
        self._read: dict[str, Any] = {}  # markets as just read, until it is decided which are kept

    # connecting

    async def connect(
        self,
        markets: Sequence[Mapping[str, Any]] | None = None,
        listed: Mapping[str, bool] | None = None,
        *,
        chosen_later: bool = False,
    ) -> None:
        """Make the ccxt instance and load the markets, or take those given (ccxt's market structures).

        `listed`: what `symbols` is to say, when the markets given are not all that there are. `chosen_later`: nothing
        is asked of any market before `keep_markets`; to make ready thousands takes time and megabytes.
        Raises ExchangeUnavailable when the exchange is out of reach or lists nothing.
        """
        if self._exchange is not None:
            return
        exchange = self._made()
        try:
            if markets is None and chosen_later:
                listed, exchange.markets = await self._read_markets(exchange), {}
            else:
                if markets is not None:
                    exchange.set_markets(list(markets))
                await history.ask(exchange, "its markets", exchange.load_markets)
                if not exchange.markets:
                    raise MalformedAnswer(f"{self.name} answered the question for its markets with none")
        except ExchangeError as error:
            await exchange.close()
            pause_s = error.retry_after_s if isinstance(error, ExchangeUnavailable) else None
            raise ExchangeUnavailable(f"cannot load the markets: {error}", retry_after_s=pause_s) from error
        except BaseException:
            await exchange.close()
            raise
        self._exchange = exchange
        self._listed = dict(listed) if listed is not None else _listing(exchange.markets.values())
        self._log.info("connected: %d markets", len(exchange.markets or self._listed), exchange=self.name)

    def _made(self) -> Any:
        exchange = spare.instance(self.name, asyncio.get_running_loop())
        exchange.number = str
        exchange.newUpdates = True
        # Currencies are asked of some venues with every load of markets; nothing here needs them.
        exchange.has["fetchCurrencies"] = False
        exchange.allowance = Allowance(self.name, rules_of(self.name), exchange.rateLimit / 1000, self._bans)
        exchange.gate = self._gate
        exchange.tap = self._count_frame
        exchange.on_fault = lambda text, error: self._rejects.reject("frame", f"{type(error).__name__} {error}", text)
        exchange.on_end = lambda reason: None
        if self.config.proxy is not None:
            exchange.httpProxy = exchange.wsProxy = self.config.proxy
        exchange.ws_server = self.config.ws_url
        for venue in self._fast:
            venue.adapt(exchange)
        if self.config.use_sandbox:
            self._use_sandbox(exchange)
        exchange.urls["api"] = urls.moved(exchange.urls["api"], self.config.rest_url, self.config.ws_url)
        return exchange

    def _use_sandbox(self, exchange: Any) -> None:
        if not exchange.urls.get("test"):
            raise ConfigError(f"{self.name} has no sandbox: set sandbox = no in [exchange:{self.name}]")
        exchange.set_sandbox_mode(True)

    def _count_frame(self, text: str) -> bool:
        self.counters.frames += 1
        self._rejects.unread(text)
        return False

    async def close(self) -> None:
        """Release everything. Streams must have been cancelled before."""
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            for client in list((exchange.clients or {}).values()):
                await client.shut()
            exchange.clients = {}
            exchange.timeout_on_exit = 0  # shut() has waited for what ccxt would have slept for
            await exchange.close()
            await asyncio.sleep(0)  # aiohttp's transports close in the next turn of the loop

    # markets

    def symbols(self) -> Mapping[str, bool]:
        """Every symbol that the exchange lists, and whether it is traded now."""
        _ = self._ccxt  # not before it is connected
        return self._listed

    async def read_markets(self) -> Mapping[str, bool]:
        """Ask again what the exchange lists; `symbols` says it from then on."""
        self._listed = await self._read_markets(self._ccxt)
        return self._listed

    async def _read_markets(self, exchange: Any) -> dict[str, bool]:
        rows = await history.ask(exchange, "its markets", exchange.fetch_markets)
        listed = history.read(self.name, "its markets", rows, lambda: _listing(rows))
        if not listed:
            raise MalformedAnswer(f"{self.name} answered the question for its markets with none")
        self._read = {row["symbol"]: row for row in rows}
        return listed

    def has_markets(self, symbols: Iterable[str]) -> bool:
        """Whether the structures of all these are at hand."""
        return all(symbol in self._ccxt.markets or symbol in self._read for symbol in symbols)

    def keep_markets(self, symbols: Collection[str]) -> list[Mapping[str, Any]]:
        """Forget the structures of all other markets: there may be thousands. Returns those kept, ccxt's structures."""
        exchange, read = self._ccxt, self._read
        symbols = dict.fromkeys(symbols)
        kept = [exchange.markets.get(symbol) or read.get(symbol) for symbol in symbols]
        markets = [market for market in kept if market is not None]
        if exchange.markets.keys() != symbols.keys() and markets:
            exchange.currencies = {}  # else those of all markets ever read stay
            exchange.markets_loading = None  # its result is all markets
            exchange.set_markets(markets)
            markets = [exchange.markets[market["symbol"]] for market in markets]
        for name, index in exchange.options.items():
            if name.startswith("marketsBy"):  # so some of ccxt's classes name what they keep beside
                exchange.options[name] = {key: one for key, one in index.items() if one.get("symbol") in symbols}
        self._read = {}
        return markets

    @property
    def _ccxt(self) -> Any:
        if self._exchange is None:
            raise ExchangeUnavailable(f"{self.name} is not connected")
        return self._exchange

    def _market(self, symbol: str) -> Any:
        market = self._ccxt.markets.get(symbol)
        if market is None:
            raise UnknownSymbol(f"{self.name} does not list {symbol}")
        return market

    # live

    def live(self, kinds: Collection[Kind], sink: StreamSink) -> LiveStreams:
        """Live streams into `sink`, with no symbols yet. Several may run at once, but only one the generic way."""
        ways = Ways(
            self._ccxt, self.clock, self._rejects, self.counters, self._gate, self._log, self._now_us,
            self._venue_time_after, self._latest_trades, self._connections,
        )  # fmt: skip
        return LiveStreams(ways, kinds, sink)

    async def stream(self, symbols: Sequence[str], kinds: Collection[Kind], sink: StreamSink) -> None:
        """Keep these streams flowing into `sink` until cancelled."""
        live = self.live(kinds, sink)
        live.add(symbols)
        await live.run()

    def pause_reading(self) -> None:
        """Take no more frames: the sockets fill up and the venue waits. Nothing is dropped."""
        self._gate.shut()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        self._gate.open()

    # history

    async def get_ohlcv(
        self, symbol: str, since_us: int | None = None, limit: int | None = None, *, since: datetime | int | None = None
    ) -> list[Candle]:
        """1-minute candles, oldest first; the last one may be of the running minute.

        From `since_us` on (`since`: a datetime, or milliseconds as in ccxt), else the latest. How far back and how many
        depends on the venue. Minutes without trades are there with `trades` 0 where the venue states them.
        """
        if since is not None:
            since_us = int(since.timestamp() * 1_000_000) if isinstance(since, datetime) else since * 1000
        return [*await self.get_candles(symbol, since_us, limit)]

    async def get_candles(self, symbol: str, since_us: int | None = None, limit: int | None = None) -> Candles:
        """The same by columns, for those who want many."""
        market, what = self._market(symbol), f"candles of {symbol}"
        venue: object = fast_venue(self.name, market)
        found: Sequence[Candle]
        if not isinstance(venue, CandleHistory):
            found = await GenericHistory(self._ccxt).candles(symbol, since_us, limit)
        else:
            answer = await self._asked(what, venue.candles_request(market["id"], since_us, limit))
            found = history.read(self.name, what, answer, lambda: venue.parse_candles(answer))
        candles = history.checked_candles(self.name, symbol, found, self._now_us())
        if since_us is None:
            return candles if limit is None else candles[-limit:]
        start = bisect_left(candles.times_us, since_us)
        return candles if not start and limit is None else candles[start:][:limit]

    async def get_trades(
        self, symbol: str, *, from_id: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> TradePage:
        """One page of trades, oldest first: from a cursor (the last page's `next_cursor`), from a time, or the latest.

        A page may begin with trades that the page before ended with.
        """
        market, what = self._market(symbol), f"trades of {symbol}"
        venue: object = fast_venue(self.name, market)
        if not isinstance(venue, TradeHistory):
            page = await GenericHistory(self._ccxt).trades(symbol, from_id, since_us, limit)
        else:
            size = min(limit or venue.page_trades, venue.page_trades)
            answer = await self._asked(what, venue.trades_request(market["id"], from_id, since_us, size))
            await asyncio.sleep(0)  # a page takes milliseconds to read, and live rows come meanwhile
            page = history.read(self.name, what, answer, lambda: venue.parse_trades(answer, size))
            await asyncio.sleep(0)
        trades = history.checked_trades(self.name, symbol, page.trades, self._now_us())
        if from_id is None and since_us is not None:
            trades = [trade for trade in trades if trade.ts_us >= since_us]
        return TradePage(trades, page.next_cursor)

    async def _latest_trades(self, symbol: str) -> list[Trade]:
        return (await self.get_trades(symbol)).trades

    async def venue_time_us(self) -> int:
        """The venue's time, asked now. Feeds `clock`."""
        floor_us, _resolution_us = await self._venue_time()
        return floor_us

    async def _venue_time_after(self) -> int:
        """A venue time that is not earlier than anything received before the call."""
        floor_us, resolution_us = await self._venue_time()
        return floor_us + resolution_us

    async def _venue_time(self) -> tuple[int, int]:
        venues: Sequence[object] = self._fast
        venue = next((venue for venue in venues if isinstance(venue, VenueTime)), None)
        if venue is None:
            time_us = await GenericHistory(self._ccxt).time_us(self._now_us)
        else:
            answer = await self._asked("its time", venue.time_request())
            time_us = history.read(self.name, "its time", answer, lambda: venue.parse_time(answer))
        self.clock.observe(time_us[0], time.monotonic())
        return time_us

    async def _asked(self, what: str, request: Request) -> Any:
        with rows_unread() if request.unread else nullcontext():
            return await history.ask(self._ccxt, what, lambda: getattr(self._ccxt, request.method)(request.params))


def _listing(markets: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """Symbol -> whether it is traded."""
    return {str(market["symbol"]): market.get("active") is not False for market in markets}
