"""What a child collects: its exchange, its symbols, the services over them, and the repair of what is missing.

It begins when the database and the exchange can be reached, and runs until it is cancelled.
"""

import asyncio
import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from ohlcvd.config import Config
from ohlcvd.coverage import Range
from ohlcvd.database import Batch, Database, Writer
from ohlcvd.database.closing import close_partitions
from ohlcvd.database.wanted import Want, want_all
from ohlcvd.errors import ExchangeError
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.capabilities import capability_of
from ohlcvd.exchange.limits import rules_of
from ohlcvd.exchange.live import LiveStreams
from ohlcvd.exchange.priority import background
from ohlcvd.log import get_component_logger
from ohlcvd.market import Instrument, Kind, minute_of
from ohlcvd.ohlcv.manager import OhlcvManager
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.records import DatabaseRecords
from ohlcvd.repair.scheduler import KINDS, RepairScheduler
from ohlcvd.rhythm import until_beat
from ohlcvd.router import StreamRouter
from ohlcvd.trade.manager import TradeManager
from ohlcvd.worker.following import Following
from ohlcvd.worker.retaining import Retaining
from ohlcvd.worker.reviving import Reviving

TICK_S = 1.0
# A venue that has not spoken of its time for so long is asked for it, so that quiet minutes end; in between our clock
# goes on from what it said. Most do without being asked (trades, pongs, the minute's candles), and a question takes the
# place of a page of history.
CLOCK_S = 65.0
# How often one looks for partitions to close, and to drop.
CLOSING_S = 1_200.0
# A removed symbol's collectors stay for so long; claims lag behind more, so that none speaks of the time after that.
LEAVING_S = 3.0


class Collecting:
    """See the module."""

    def __init__(
        self, config: Config, child: str, handler: ExchangeHandler, database: Database, writer: Writer
    ) -> None:
        self.config = config
        self.exchange = config.exchange(child.partition("/")[0])
        self.log = get_component_logger(f"ohlcvd.worker.{child}")
        self.handler = handler
        self.database = database
        self.writer = writer
        self.book = CoverageBook()
        self.following = Following(config, child, handler, database, self)
        self.instruments: dict[str, Instrument] = {}
        self.router: StreamRouter | None = None
        self.repair: RepairScheduler | None = None
        self._streams: LiveStreams | None = None
        self._reviving = Reviving()
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._decided = False

    @property
    def is_live(self) -> bool:
        """Whether any stream is subscribed and unbroken, or there is none to subscribe: a shard may have no symbol."""
        if self._decided and not self.following.decision.symbols and not self.instruments:
            return True
        return self.router is not None and self.router.is_live

    @property
    def unlisted(self) -> list[str]:
        """Symbols wanted by name that the exchange does not list."""
        return self.following.decision.unlisted

    @property
    def parked(self) -> list[str]:
        """Symbols wanted that are not traded any more."""
        return self.following.decision.parked

    @property
    def left_out(self) -> int:
        """Live trades that came while there was no room for them."""
        return self.router.trades.left_out if self.router is not None and self.router.trades is not None else 0

    def committed(self, batch: Batch) -> None:
        """The writer's news."""
        self.book.committed(batch)
        if self.repair is not None:
            self.repair.committed(batch.trades)

    async def run(self) -> None:
        """Until cancelled; ConfigError when there is nothing to collect."""
        await self.database.wait_until_up()
        await self._connect_exchange()
        self.router = router = self._make_services()
        router.on_failed = self._failed
        kinds: set[Kind] = set()
        if router.trades is not None:
            kinds.add("trades")
        if router.candles is not None:
            kinds.add("candles")
        self.repair = self._make_repair(kinds, router)
        self._streams = self.handler.live(kinds, router)
        self.writer.pressure.tell = self._pause
        await self.following.first()
        self._decided = True
        self.log.info("collecting", symbols=len(self.instruments), kinds=sorted(kinds), first=[*self.instruments][:5])
        async with asyncio.TaskGroup() as group:
            group.create_task(self._streams.run(), name="stream")
            group.create_task(self._tick_forever(router), name="tick")
            group.create_task(self._tell_time_forever(), name="venue time")
            group.create_task(self.repair.run(), name="repair", context=background())
            group.create_task(self.following.run(), name="symbols")
            group.create_task(self._close_partitions_forever(), name="closing")
            if router.candles is not None:
                group.create_task(router.candles.ask_forever(router.on_final), name="candle questions")

    # which symbols

    @property
    def collected(self) -> Collection[str]:
        """The symbols, now."""
        return self.instruments.keys()

    @property
    def instrument_ids(self) -> list[int]:
        """Of these."""
        return [instrument.id for instrument in self.instruments.values()]

    def want(self, wants: Iterable[Want]) -> None:
        """History that is asked for while this runs."""
        by_id = {instrument.id: instrument for instrument in self.instruments.values()}
        for instrument_id, kind, from_us in wants:
            if instrument_id in by_id:
                self.book.want(by_id[instrument_id], kind, from_us)

    def is_trading(self, symbol: str) -> bool:
        """Whether there were trades of it within the last minute."""
        venue_now_us = self.venue_now_us()
        return self.router is not None and venue_now_us is not None and self.router.is_trading(symbol, venue_now_us)

    def is_refused(self) -> bool:
        """Whether the exchange refuses a subscription at present."""
        return self.router is not None and self.router.is_refused

    async def add(self, symbols: Sequence[str]) -> None:
        """Collect these, too; the others are not disturbed. Changes nothing if the database is away."""
        assert self.router is not None
        assert self.repair is not None
        assert self._streams is not None
        instruments = await self.database.instruments(self.exchange.name, symbols)
        pages = await self._load_coverage(instruments)
        for instrument, kind, covered, wanted_from_us in pages:
            self.book.load(instrument, kind, covered, wanted_from_us)
        for instrument in instruments.values():
            self._forget(instrument.symbol)
            self.router.add(instrument)
        self.instruments.update(instruments)
        self.repair.add(instruments.values())
        self._streams.add(symbols)

    def remove(self, symbols: Sequence[str]) -> None:
        """Collect these no longer. What is sent until the exchange has heard of it is stored; then they are gone."""
        assert self.router is not None
        assert self.repair is not None
        assert self._streams is not None
        self._streams.remove(symbols)
        self.repair.remove([self.instruments.pop(symbol) for symbol in symbols])
        for symbol in symbols:
            self._reviving.forget(symbol)
            self._leaving[symbol] = asyncio.get_running_loop().call_later(LEAVING_S, self._forget, symbol)

    def _forget(self, symbol: str) -> None:
        handle = self._leaving.pop(symbol, None)
        if handle is not None and self.router is not None:
            handle.cancel()
            self.router.remove(symbol)

    async def _load_coverage(
        self, instruments: Mapping[str, Instrument]
    ) -> list[tuple[Instrument, Kind, list[Range], int | None]]:
        """What is there, and what is wanted: a duration of `since` counts back from a market's first start."""
        venue_now_us = self.venue_now_us() or time.time_ns() // 1000
        since_us = minute_of(self.config.since.start_us(venue_now_us))
        wanted: set[Kind] = {"candles", "trades"} if self._collects_trades else {"candles"}
        ids = [instrument.id for instrument in instruments.values()]
        pages = {(page.instrument_id, page.kind): page for page in await want_all(self.database, ids, wanted, since_us)}
        found: list[tuple[Instrument, Kind, list[Range], int | None]] = []
        for instrument in instruments.values():
            for kind in KINDS:
                page = pages.get((instrument.id, kind))
                if page is not None:
                    wanted_from_us = page.wanted_from_us if kind in wanted else None
                    found.append((instrument, kind, page.covered, wanted_from_us))
        return found

    async def _close_partitions_forever(self) -> None:
        retaining = Retaining(self.config, self.exchange.name, self.database)
        while True:
            await asyncio.sleep(CLOSING_S * random.uniform(0.5, 1.0))
            await close_partitions(self.database, time.time_ns() // 1000)
            await retaining.step(time.time_ns() // 1000, time.monotonic())

    async def _connect_exchange(self) -> None:
        pause_s = 1.0
        while True:
            try:
                await self.following.connect()
                await self.handler.venue_time_us()
                self.handler.counters.whole("markets")
                return
            except ExchangeError as error:
                if self.following.knew_markets:
                    self.log.warning("exchange does not answer, its streams may", error=str(error))
                    return
                self.handler.counters.cut("markets", str(error), time.time_ns() // 1000, pause_s)
                self.log.warning("exchange cannot be reached yet", error=str(error), retry_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(60.0, pause_s * 2)

    # collectors that fail

    def _failed(self, symbol: str) -> None:
        """Its collectors are gone; new ones come after a pause. Called in the middle of a frame."""
        loop = asyncio.get_running_loop()
        pause_s = self._reviving.failed(symbol, loop.time(), random.random())
        self.log.warning("market is started again", symbol=symbol, in_s=round(pause_s, 1))
        if self._streams is not None:
            loop.call_soon(self._streams.remove, [symbol])

    def _revive(self, router: StreamRouter) -> None:
        for symbol in self._reviving.due(asyncio.get_running_loop().time()):
            if symbol in self.instruments and self._streams is not None:
                router.add(self.instruments[symbol])
                self._streams.add([symbol])

    @property
    def _collects_trades(self) -> bool:
        return self.config.collects_trades and capability_of(self.exchange.name).trades != "none"

    def _make_services(self) -> StreamRouter:
        exchange = self.exchange.name
        rules = rules_of(exchange)
        trades = candles = None
        can = capability_of(exchange)
        collects_candles = self.config.collects_candles and can.candles != "none"
        if self._collects_trades:
            trades = TradeManager(
                exchange,
                {},
                self.writer,
                stores_candles=not collects_candles,
                sequential_ids=rules.sequential_ids,
            )
        if collects_candles:
            candles = OhlcvManager(
                exchange,
                {},
                self.writer,
                finality=rules.candle_finality,
                sends_empty=rules.sends_empty_minutes,
                fetch=self.handler.get_ohlcv,
                venue_now_us=self.venue_now_us,
            )
        return StreamRouter(exchange, trades, candles, counts_agree=rules.counts_stream_trades)

    def _make_repair(self, kinds: set[Kind], router: StreamRouter) -> RepairScheduler:
        return RepairScheduler(
            self.exchange.name,
            [],
            kinds,
            self.handler,
            self.writer.history,
            self.book,
            rules=rules_of(self.exchange.name),
            live_from_us=router.live_from_us,
            venue_now_us=self.venue_now_us,
            records=DatabaseRecords(self.database),
            waiting_since_s=lambda: self.writer.waiting_since_s,
        )

    async def _tick_forever(self, router: StreamRouter) -> None:
        while True:
            await until_beat(TICK_S)
            venue_now_us = self.venue_now_us()
            if venue_now_us is not None:
                router.tick(venue_now_us)
            self._revive(router)
            self._hold_back(router, venue_now_us)

    def _pause(self, pauses: bool) -> None:
        """The database is behind: reading pauses, nothing is dropped, the venue waits."""
        if pauses:
            self.handler.pause_reading()
        else:
            self.handler.resume_reading()

    def _hold_back(self, router: StreamRouter, venue_now_us: int | None) -> None:
        """When the database is behind and the disk is full."""
        if router.trades is not None and self.writer.is_full:
            router.trades.suspend("the database is away, the spool takes no more, and memory is full")
        elif router.trades is not None and venue_now_us is not None:
            router.trades.resume(venue_now_us)

    async def _tell_time_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            silent_s = loop.time() - self.handler.clock.heard_s
            if silent_s >= CLOCK_S:
                try:
                    await self.handler.venue_time_us()
                except ExchangeError as error:
                    self.log.debug("venue did not tell its time", error=str(error))
                silent_s = 0.0
            await asyncio.sleep(CLOCK_S - silent_s)

    def venue_now_us(self) -> int | None:
        """The venue's time; None before it was heard."""
        return self.handler.clock.now_us(asyncio.get_running_loop().time())
