"""What a child tells others: heartbeats over the pipe and in Redis, its markets, and what was committed.

A slow or absent Redis holds up only the two tasks here that speak to it.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable

from ohlcvd import coverage
from ohlcvd.cache.live import LiveCache
from ohlcvd.database import Batch, Writer
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.capabilities import capability_of
from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Instrument, Kind
from ohlcvd.repair import plan
from ohlcvd.repair.scheduler import KINDS, RepairCounters
from ohlcvd.rhythm import until_beat
from ohlcvd.router import StreamRouter
from ohlcvd.supervisor.heartbeat import Beat, BeatState, HeartbeatSender
from ohlcvd.worker.collecting import Collecting
from ohlcvd.worker.others import ForOthers
from ohlcvd.worker.standing import Pace, Retelling, Standing, summary, trouble_of

BEAT_S = 1.0
# Of more markets than this, the states are told less often than at every beat: thousands would fill the loop's time.
MARKETS_PER_BEAT = 500
# Counting them means to look at each; a leak of them shows soon enough.
COUNT_TASKS_BEATS = 10
# While nothing is new, counters are counted, and Redis is told, only at every so many beats; its key lasts for 10 s.
QUIET_BEATS = 3
# While nothing of this moves, what is told of the markets is what was told before, and is told again only so often.
MOVED = ("streams", "streams_live", "reconnects", "rejected", "trades", "candles", "differences", "backlog")
QUIET_S = 7.0
# How soon what is told beside that follows: a new connection to Redis, or a new market.
SETTLED_S = 5.0
# Minutes between two lines in the child's own log; the monitor's has one a minute for all children together.
SUMMARY_MINUTES = 10
# Commits waiting to be published in Redis; more than that, and the oldest are dropped (Redis holds nothing unique).
WAITING_PUBLICATIONS = 1_000


class Telling:
    """See the module."""

    def __init__(
        self, child: str, redis: str, sender: HeartbeatSender, handler: ExchangeHandler, writer: Writer,
        collecting: Collecting, state: Callable[[], BeatState],
    ) -> None:  # fmt: skip
        self.cache = LiveCache(redis, child, fullon_keys=collecting.config.fullon_keys)
        self._others = ForOthers(child, self.cache, collecting)
        self._sender = sender
        self._handler = handler
        self._writer = writer
        self._collecting = collecting
        self._state = state
        self._pace = Pace("frames", "trades", "candles")
        self._standing = Standing()
        self._log = get_component_logger(f"ohlcvd.worker.{child}")
        self._missing_s = 0
        self._formed: dict[str, Candle] = {}
        self._beats = 0
        self._retelling = Retelling(QUIET_BEATS)
        self._tasks = 0
        self._beaten = asyncio.Event()
        self._counted: dict[str, int] = {}
        self._moved: tuple[int, ...] = ()
        self._markets_due_s = 0.0
        self._publications: deque[Batch] = deque(maxlen=WAITING_PUBLICATIONS)
        self._committed = asyncio.Event()

    async def close(self) -> None:
        """Let go of Redis."""
        await self._others.stop()
        await self.cache.close()

    def committed(self, batch: Batch) -> None:
        """The writer's news."""
        if batch.trades or batch.candles:
            self._publications.append(batch)
            self._committed.set()
        else:
            self.cache.reached(batch)

    async def publish(self) -> None:
        """Publish all that waits."""
        while self._publications:
            await self.cache.publish(self._publications.popleft())

    async def publish_forever(self) -> None:
        """Publish what is committed, until cancelled."""
        while True:
            await self._committed.wait()
            self._committed.clear()
            await self.publish()

    async def beat_forever(self) -> None:
        """The heartbeat over the pipe, until cancelled. While nothing is new it repeats what it said."""
        beat = None
        while True:
            if self._beats % COUNT_TASKS_BEATS == 0:
                self._tasks = len(asyncio.all_tasks())
            state = self._state()
            if self._retelling.is_due(self._news(state)) or beat is None:
                self._counted = self.counters()
                beat = Beat(state, self._counted)
                self._beaten.set()
            self._sender.send(beat)
            self._beats += 1
            await until_beat(BEAT_S)

    def _news(self, state: BeatState) -> tuple[object, ...]:
        """Something else as soon as there is anything to tell but that time goes on and the connections live."""
        router, stream, written = self._collecting.router, self._handler.counters, self._writer.counters
        has_database = self._writer.database_up and self._collecting.database.awaited_s is None
        is_well = self.cache.is_up and has_database and not self._writer.backlog
        return (
            state, is_well or self._beats, 0 if router is None else router.heard, written.trades, written.candles,
            stream.reconnects, stream.rejected, *stream.troubles.values(),
        )  # fmt: skip

    async def announce_forever(self) -> None:
        """The same in Redis, the forming candles, the markets: a slow Redis holds up only this task."""
        await self.cache.open()
        while True:
            await self._beaten.wait()
            self._beaten.clear()
            beat = {
                "state": self._state(),
                "pid": os.getpid(),
                "beats": self._beats,
                "unlisted": self._collecting.unlisted,
                "guarantees": capability_of(self._handler.name).reduced,
                "trouble": trouble_of(self._handler.counters.troubles),
                **self._counted,
            }
            router = self._collecting.router
            if router is None:
                await self.cache.heartbeat(beat)
            else:
                await self.cache.heartbeat(beat, self._newly_formed(router), self._due(router, time.monotonic()))

    async def tell_others_forever(self) -> None:
        """What needs the database too, which may be away or slow: that holds up only this. Until cancelled."""
        while True:
            settled = await self._others.step()
            await until_beat(SETTLED_S if settled else BEAT_S)

    def _newly_formed(self, router: StreamRouter) -> dict[str, Candle]:
        """The forming candles that are not what they were when they were told."""
        before, self._formed = self._formed, router.forming()
        return {symbol: candle for symbol, candle in self._formed.items() if before.get(symbol) != candle}

    async def summarise_forever(self) -> None:
        """A line after the first minute, then one every SUMMARY_MINUTES, until cancelled."""
        before, minutes = self.counters(), 1
        while True:
            await asyncio.sleep(60 * minutes)
            now = self.counters()
            message, fields = summary(now, before, self._missing_s, minutes)
            self._log.info(message, exchange=self._handler.name, **fields)
            before, minutes = now, SUMMARY_MINUTES

    def _due(self, router: StreamRouter, now_s: float) -> dict[str, dict[str, object]] | None:
        """The markets when they are to be told: there is news of them, or it is long ago."""
        moved = tuple(self._counted[name] for name in MOVED)
        if now_s < self._markets_due_s or (moved == self._moved and now_s < self._markets_due_s + QUIET_S):
            return None
        seldom = len(self._collecting.instruments) / MARKETS_PER_BEAT
        self._moved, self._markets_due_s = moved, now_s + BEAT_S * (min(seldom, 10.0) - 0.5)
        return self._markets(router)

    def _markets(self, router: StreamRouter) -> dict[str, dict[str, object]]:
        """What the collectors say, and how much of what is wanted is not covered."""
        rows = router.markets()
        rows.update((symbol, {"unlisted": True}) for symbol in self._collecting.unlisted)
        rows.update((symbol, {"parked": "not traded any more"}) for symbol in self._collecting.parked)
        venue_now_us = self._collecting.venue_now_us()
        missing_s, now_us = 0, time.time_ns() // 1000
        for instrument in self._collecting.instruments.values():
            symbol = instrument.symbol
            row = rows.setdefault(symbol, {})
            row.update(self._standing.facts(symbol, router.why_not(symbol), now_us, venue_now_us))
            covered = self._collecting.book.covered(instrument, "candles" if router.trades is None else "trades")
            row["covered_until_us"] = covered[-1][1] if covered else None
            if venue_now_us is not None:
                missing_us = max(self._missing_us(router, instrument, kind, venue_now_us) for kind in KINDS)
                row["missing_s"] = round(missing_us / 1_000_000)
                missing_s += round(missing_us / 1_000_000)
        self._missing_s = missing_s
        return rows

    def _missing_us(self, router: StreamRouter, instrument: Instrument, kind: Kind, venue_now_us: int) -> int:
        book = self._collecting.book
        covered = book.covered(instrument, kind)
        edge_us = router.live_from_us(instrument, kind)
        wanted = plan.wanted(book.wanted_from(instrument, kind), edge_us, covered, venue_now_us)
        return coverage.duration(coverage.missing(wanted, covered))

    def counters(self) -> dict[str, int]:
        """What the heartbeat says. Levels are `tasks`, `backlog`, `spool_bytes`, `streams`, `streams_live`, `*_up`,
        `*_away_s`, `lag_us`, `lag_max_us`, and `recent_*` (within `recent_ms`); all others only grow."""
        counters = self._counters()
        counters |= self._pace.note(counters, time.monotonic())
        return counters

    def _counters(self) -> dict[str, int]:
        stream, written = self._handler.counters, self._writer.counters
        live, streams = self._collecting.router.streams if self._collecting.router is not None else (0, 0)
        lag_us, lag_max_us = self._writer.lag.recent_us(time.monotonic())
        awaited_s = self._collecting.database.awaited_s
        repair = self._collecting.repair.counters if self._collecting.repair is not None else RepairCounters()
        return {
            "frames": stream.frames,
            "reconnects": stream.reconnects,
            "rejected": stream.rejected,
            "trades": written.trades,
            "candles": written.candles,
            "commits": written.commits,
            "duplicates": written.duplicates,
            "corrections": written.corrections,
            "differences": self._collecting.router.differences if self._collecting.router is not None else 0,
            "requests": repair.requests,
            "repaired": repair.holes_filled,
            "unfillable": repair.unfillable,
            "quarantined": written.quarantined,
            "spooled": written.spooled,
            "left_out": self._collecting.left_out,
            "tasks": self._tasks,
            "backlog": self._writer.backlog,
            "spool_bytes": self._writer.spool_bytes,
            "streams": streams,
            "streams_live": live,
            "redis_up": int(self.cache.is_up),
            "redis_away_s": round(self.cache.away_s),
            "database_up": int(self._writer.database_up and awaited_s is None),
            "database_away_s": round(self._writer.away_s if awaited_s is None else awaited_s),
            "lag_us": lag_us,
            "lag_max_us": lag_max_us,
            "lag_rows": self._writer.lag.rows,
            "lag_total_us": self._writer.lag.total_us,
        }
