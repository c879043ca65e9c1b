"""A collecting child's main: one event loop, one exchange, its services, its heartbeat, its drain.

The supervisor calls `worker_main` right after the fork. The order of life:

    starting   until the loop runs
    ready      the loop runs: waits for the database and the exchange (for ever if need be), then subscribes
    streaming  at least one stream is live
    draining   TERM: reading stops, what was read is committed, exit 0

Whatever fails unexpectedly ends the process with code 70 and a traceback in its log; the supervisor starts it again.
A child that has nothing to collect exits with 78: only a change of configuration can help it.
"""

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any

from ohlcvd import coverage
from ohlcvd.cache.live import LiveCache
from ohlcvd.config import Config
from ohlcvd.database import Batch, Database, Writer
from ohlcvd.errors import ConfigError, ExchangeError, Exit, ServiceUnavailable
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.limits import rules_of
from ohlcvd.log import get_component_logger, reopen_logs, setup_logging
from ohlcvd.market import Instrument, Kind, minute_of
from ohlcvd.ohlcv.manager import OhlcvManager
from ohlcvd.repair import plan
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.records import DatabaseRecords
from ohlcvd.repair.scheduler import KINDS, RepairCounters, RepairScheduler
from ohlcvd.router import StreamRouter
from ohlcvd.supervisor.heartbeat import Beat, BeatState, HeartbeatSender
from ohlcvd.symbols import select, shard_of
from ohlcvd.trade.manager import TradeManager

BEAT_S = 1.0
TICK_S = 0.5
# A venue that has not spoken of its time for so long is asked for it, so that quiet minutes end. Most do without being
# asked (trades, pongs), and a question takes the place of a page of history.
CLOCK_S = 10.0
# How soon history that `backfill` asks for is noticed.
WANTS_S = 3.0
# Reading pauses above this many uncommitted rows, and goes on below half of it.
BACKLOG_ROWS = 50_000
# Commits waiting to be published in Redis; more than that, and the oldest are dropped (Redis holds nothing unique).
WAITING_PUBLICATIONS = 1_000


def worker_main(config: Config, child: str, postgres: str, redis: str, sender: HeartbeatSender) -> int:
    """Collect for `child` ("kraken", "binance/2") until TERM. Returns the exit code."""
    log_file = config.log_dir / f"{child.replace('/', '-')}.log"
    setup_logging(file=log_file, level=config.log_level, terminal=sys.stderr.isatty())
    return asyncio.run(Worker(config, child, postgres, redis, sender).run())


class Worker:
    """One exchange (or one shard of it) being collected."""

    def __init__(self, config: Config, child: str, postgres: str, redis: str, sender: HeartbeatSender) -> None:
        self.child = child
        exchange, _, shard = child.partition("/")
        self.exchange = config.exchange(exchange)
        self.shard = int(shard or 1)
        self.config = config
        self.sender = sender
        self.state: BeatState = "starting"
        self.log = get_component_logger(f"ohlcvd.worker.{child}")
        self.handler = ExchangeHandler(self.exchange)
        self.database = Database(postgres, application_name=f"ohlcvd {child}")
        self.writer = Writer(self.database, on_commit=self._on_commit)
        self.cache = LiveCache(redis, child)
        self.instruments: dict[str, Instrument] = {}
        self.book = CoverageBook()
        self.router: StreamRouter | None = None
        self.repair: RepairScheduler | None = None
        self.unlisted: list[str] = []
        self._publications: deque[Batch] = deque(maxlen=WAITING_PUBLICATIONS)
        self._committed = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Collect until TERM or INT, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, reopen_logs)
        self.state = "ready"
        beating = asyncio.create_task(self._beat_forever())
        try:
            return await self._live()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await self.handler.close()
            await self.cache.close()
            await self.database.close()

    async def _live(self) -> int:
        announcing = asyncio.create_task(self._announce_forever(), name="redis heartbeat")
        storing = asyncio.create_task(self.writer.run(), name="writer")
        publishing = asyncio.create_task(self._publish_forever(), name="redis streams")
        collecting = asyncio.create_task(self._collect(), name="collecting")
        stopping = asyncio.create_task(self._stop.wait(), name="stopping")
        tasks: tuple[asyncio.Task[Any], ...] = (announcing, storing, publishing, collecting, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.state = "draining"
            code = await self._end_collecting(collecting)
            for task in (announcing, storing, publishing):
                if task.done():
                    code = self._crashed(task)
            if not storing.done():
                await self._drain()
            return code
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end_collecting(self, collecting: asyncio.Task[None]) -> int:
        stopped = self._stop.is_set()
        collecting.cancel()
        outcome = (await asyncio.gather(collecting, return_exceptions=True))[0]
        if isinstance(outcome, ConfigError):
            self.log.error("cannot collect until the configuration is changed", reason=str(outcome))
            return Exit.CONFIG
        if stopped and (outcome is None or isinstance(outcome, asyncio.CancelledError)):
            return Exit.OK
        return self._crashed(collecting)

    def _crashed(self, task: asyncio.Task[Any]) -> int:
        error = None if task.cancelled() else task.exception()
        self.log.error("task ended unexpectedly, the process ends", task=task.get_name(), exc_info=error)
        return Exit.BUG

    async def _drain(self) -> None:
        await self.handler.close()
        rows = self.writer.backlog
        complete = await self.writer.drain(self.config.drain_s)
        while self._publications:
            await self.cache.publish(self._publications.popleft())
        if complete:
            self.log.info("drained, everything read is committed", rows=rows)
        else:
            self.log.error("drain timed out, rows left uncommitted", rows=self.writer.backlog)

    # --- collecting

    async def _collect(self) -> None:
        await self.database.wait_until_up()
        await self._connect_exchange()
        symbols = self._choose_symbols()
        instruments = await self.database.instruments(self.exchange.name, symbols)
        self.instruments = instruments
        await self._load_coverage(instruments)
        self.router = router = self._make_services(instruments)
        kinds: set[Kind] = set()
        if router.trades is not None:
            kinds.add("trades")
        if router.candles is not None:
            kinds.add("candles")
        self.repair = self._make_repair(instruments, kinds, router)
        self.log.info("collecting", symbols=len(symbols), kinds=sorted(kinds), first=symbols[:5])
        async with asyncio.TaskGroup() as group:
            group.create_task(self.handler.stream(symbols, kinds, router), name="stream")
            group.create_task(self._tick_forever(router), name="tick")
            group.create_task(self._tell_time_forever(), name="venue time")
            group.create_task(self.repair.run(), name="repair")
            group.create_task(self._note_wants_forever(instruments), name="wants")
            if router.candles is not None:
                group.create_task(router.candles.ask_forever(router.on_final), name="candle questions")

    async def _load_coverage(self, instruments: Mapping[str, Instrument]) -> None:
        """What is there, and what is wanted: a duration of `since` counts back from a market's first start."""
        venue_now_us = self._venue_now_us()
        assert venue_now_us is not None  # connecting asked for it
        since_us = minute_of(self.config.since.start_us(venue_now_us))
        for instrument in instruments.values():
            for kind in KINDS:
                wanted_from_us = None
                if kind == "candles" or self.config.collects_trades:
                    wanted_from_us = await self.database.want(instrument.id, kind, since_us)
                self.book.load(instrument, kind, await self.database.coverage(instrument.id, kind), wanted_from_us)

    async def _note_wants_forever(self, instruments: Mapping[str, Instrument]) -> None:
        """More history may be asked for while this runs: what is wanted stands in the database."""
        by_id = {instrument.id: instrument for instrument in instruments.values()}
        while True:
            await asyncio.sleep(WANTS_S)
            try:
                wants = await self.database.wants(list(by_id))
            except ServiceUnavailable as error:
                self.log.debug("what is wanted could not be read", error=str(error))
                continue
            for instrument_id, kind, wanted_from_us in wants:
                self.book.want(by_id[instrument_id], kind, wanted_from_us)

    async def _connect_exchange(self) -> None:
        pause_s = 1.0
        while True:
            try:
                await self.handler.connect()
                await self.handler.venue_time_us()
                return
            except ExchangeError as error:
                self.log.warning("exchange cannot be reached yet", error=str(error), retry_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(60.0, pause_s * 2)

    def _choose_symbols(self) -> list[str]:
        selection = select(self.exchange.symbols, self.handler.symbols())
        self.unlisted = selection.unlisted
        alone = len(self.config.exchanges) == 1
        for symbol in selection.unlisted:
            say = self.log.error if alone else self.log.warning
            say("symbol is not listed by this exchange, the others go on", symbol=symbol)
        if not selection.symbols:
            wanted = ", ".join(self.exchange.symbols)
            raise ConfigError(f"{self.exchange.name} lists none of the symbols wanted: {wanted}")
        return shard_of(selection.symbols, self.shard, self.exchange.shards)

    def _make_services(self, instruments: Mapping[str, Instrument]) -> StreamRouter:
        exchange = self.exchange.name
        rules = rules_of(exchange)
        trades = candles = None
        if self.config.collects_trades:
            trades = TradeManager(
                exchange,
                instruments,
                self.writer,
                stores_candles=not self.config.collects_candles,
                sequential_ids=rules.sequential_ids,
            )
        if self.config.collects_candles:
            candles = OhlcvManager(
                exchange,
                instruments,
                self.writer,
                finality=rules.candle_finality,
                sends_empty=rules.sends_empty_minutes,
                fetch=self.handler.get_ohlcv,
                venue_now_us=self._venue_now_us,
            )
        return StreamRouter(exchange, trades, candles, counts_agree=rules.counts_stream_trades)

    def _make_repair(
        self, instruments: Mapping[str, Instrument], kinds: set[Kind], router: StreamRouter
    ) -> RepairScheduler:
        return RepairScheduler(
            self.exchange.name,
            instruments.values(),
            kinds,
            self.handler,
            self.writer,
            self.book,
            rules=rules_of(self.exchange.name),
            live_from_us=router.live_from_us,
            venue_now_us=self._venue_now_us,
            records=DatabaseRecords(self.database),
            backlog=lambda: self.writer.backlog,
        )

    async def _tick_forever(self, router: StreamRouter) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            venue_now_us = self._venue_now_us()
            if venue_now_us is not None:
                router.tick(venue_now_us)
            self.state = "streaming" if router.is_live else "ready"
            self._hold_back()

    def _hold_back(self) -> None:
        """Back-pressure: a database that is behind stops the reading of sockets, nothing is dropped."""
        if self.writer.backlog > BACKLOG_ROWS:
            self.handler.pause_reading()
        elif self.writer.backlog < BACKLOG_ROWS // 2:
            self.handler.resume_reading()

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

    def _venue_now_us(self) -> int | None:
        return self.handler.clock.now_us(asyncio.get_running_loop().time())

    # --- telling others

    def _on_commit(self, batch: Batch) -> None:
        self.book.committed(batch)
        self._publications.append(batch)
        self._committed.set()

    async def _publish_forever(self) -> None:
        while True:
            await self._committed.wait()
            self._committed.clear()
            while self._publications:
                await self.cache.publish(self._publications.popleft())

    async def _beat_forever(self) -> None:
        while True:
            self.sender.send(Beat(self.state, self.counters()))
            await asyncio.sleep(BEAT_S)

    async def _announce_forever(self) -> None:
        """The heartbeat in Redis, the forming candles, the markets: a slow Redis holds up only this task."""
        await self.cache.open()
        while True:
            await self.cache.heartbeat({"state": self.state, "unlisted": self.unlisted, **self.counters()})
            if self.router is not None:
                await self.cache.forming(self.router.forming())
                await self.cache.markets(self._markets(self.router))
            await asyncio.sleep(BEAT_S)

    def _markets(self, router: StreamRouter) -> dict[str, dict[str, object]]:
        """What the collectors say, and how much of what is wanted is not covered."""
        rows = router.markets()
        rows.update((symbol, {"unlisted": True}) for symbol in self.unlisted)
        venue_now_us = self._venue_now_us()
        if venue_now_us is None:
            return rows
        for instrument in self.instruments.values():
            missing_us = max(self._missing_us(router, instrument, kind, venue_now_us) for kind in KINDS)
            rows[instrument.symbol]["missing_s"] = round(missing_us / 1_000_000)
        return rows

    def _missing_us(self, router: StreamRouter, instrument: Instrument, kind: Kind, venue_now_us: int) -> int:
        covered = self.book.covered(instrument, kind)
        edge_us = router.live_from_us(instrument, kind)
        wanted = plan.wanted(self.book.wanted_from(instrument, kind), edge_us, covered, venue_now_us)
        return coverage.duration(coverage.missing(wanted, covered))

    def counters(self) -> dict[str, int]:
        """What the heartbeat says; only `backlog` can fall."""
        stream, written = self.handler.counters, self.writer.counters
        repair = self.repair.counters if self.repair is not None else RepairCounters()
        return {
            "frames": stream.frames,
            "reconnects": stream.reconnects,
            "rejected": stream.rejected,
            "trades": written.trades,
            "candles": written.candles,
            "commits": written.commits,
            "duplicates": written.duplicates,
            "corrections": written.corrections,
            "differences": self.router.differences if self.router is not None else 0,
            "requests": repair.requests,
            "repaired": repair.holes_filled,
            "unfillable": repair.unfillable,
            "backlog": self.writer.backlog,
        }
