"""The monitor's main: one event loop that looks every second, beats, and answers HTTP.

Its own beat comes from a task that waits for nobody. A Redis or a name server that is slow or gone holds up only the
task that asks Redis; the supervisor is asked in a thread of its own, which the socket's timeout ends. What both said is
put together every second, and whoever asks over HTTP gets what there is. TERM ends it at once: it has nothing to store
but its totals, which are on disk before they are shown.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from ohlcvd.cache.live import LiveCache
from ohlcvd.cache.reader import CacheReader
from ohlcvd.config import Config
from ohlcvd.errors import Exit, ServiceUnavailable
from ohlcvd.log import flush_repeats, get_component_logger, reopen_logs, set_level, setup_logging
from ohlcvd.memory import memory_bytes
from ohlcvd.monitor.knowledge import Knowledge
from ohlcvd.monitor.staleness import Staleness
from ohlcvd.monitor.summary import SUMMARY_S, Minutes
from ohlcvd.monitor.totals import Totals
from ohlcvd.monitor.web import Web
from ohlcvd.supervisor.commands import CommandReceiver
from ohlcvd.supervisor.control import ask
from ohlcvd.supervisor.heartbeat import Beat, HeartbeatSender
from ohlcvd.supervisor.report import MONITOR, StatusReport

LOOK_S = 1.0
FIRST_S = 3.0
WEIGH_S = 10.0
ANSWER_S = 1.0  # the supervisor's
REDIS_S = 0.5
TOTALS_NAME = "totals.json"

log = get_component_logger("ohlcvd.monitor")


def monitor_main(config: Config, redis: str, sender: HeartbeatSender, commands: CommandReceiver | None = None) -> int:
    """Watch until TERM. Returns the exit code."""
    setup_logging(file=config.log_dir / "monitor.log", level=config.log_level, terminal=sys.stderr.isatty())
    # Not asyncio.run: it waits for every thread, and one may be waiting for a name server that never answers.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(Monitor(config, redis, sender, commands).run())
    finally:
        loop.close()


class Monitor:
    """See the module."""

    def __init__(self, config: Config, redis: str, sender: HeartbeatSender, commands: CommandReceiver | None) -> None:
        self._run_dir = config.run_dir
        self._sender = sender
        self._commands = commands
        self._totals_file = TotalsFile(config.state_dir / TOTALS_NAME)
        self._known = Knowledge(self._totals_file.read())
        self._staleness = Staleness()
        self._stale: tuple[str, ...] = ()
        self._cache = LiveCache(redis, MONITOR)
        self._reader = CacheReader(redis, timeout_s=REDIS_S)
        self._web = Web(config.http_listen, self) if config.http_listen else None
        self._stop = asyncio.Event()
        self._whole = asyncio.Event()
        self._looks = 0
        self._weigh_at_s = 0.0
        self._weighed: list[int] = []
        self._unlisted: list[str] = []

    async def run(self) -> int:
        """Until TERM or INT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, reopen_logs)
        if self._commands is not None:
            loop.add_reader(self._commands, self._obey, self._commands)
        work = [self._beat_forever(), self._look_forever(), self._watch_supervisor(), self._watch_redis()]
        work += [self._summarise_forever()]
        work += [self._serve_forever(self._web)] if self._web is not None else []
        tasks = [asyncio.create_task(one) for one in work]
        stopping = asyncio.create_task(self._stop.wait())
        log.info("watching", http=self._web is not None)
        try:
            ended, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            await self._cache.close()
            await self._reader.close()
        crashed = [task for task in ended if task is not stopping]
        for task in crashed:
            log.error("task ended unexpectedly, the process ends", exc_info=task.exception())
        return Exit.BUG if crashed else Exit.OK

    def _obey(self, commands: CommandReceiver) -> None:
        for update in commands.read():
            if update.log_level is not None:
                set_level(update.log_level)
        if commands.closed:
            asyncio.get_running_loop().remove_reader(commands)

    @property
    def is_listening(self) -> bool:
        """Whether HTTP is served."""
        return self._web is not None and self._web.port is not None

    # --- what the web asks

    @property
    def report(self) -> StatusReport:
        """The last report."""
        return self._known.report

    @property
    def supervisor_fault(self) -> str | None:
        """Why the supervisor is not believed to be there, or None."""
        return self._known.supervisor_fault

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """For Prometheus. Totals go to disk before they are shown: whoever comes after this process begins there."""
        self._totals_file.write(self._known.totals)
        return self._known.metrics(accept)

    # --- tasks

    async def _beat_forever(self) -> None:
        while True:
            counters = {"looks": self._looks, "requests": self._web.requests if self._web is not None else 0}
            counters["redis_up"] = int(self._known.redis_fault is None)
            self._sender.send(Beat("ready", counters, self._stale))
            await asyncio.sleep(LOOK_S)

    async def _serve_forever(self, web: Web) -> None:
        """Not before there is all to tell, or too long nobody to ask: a scrape in between would find series gone."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._whole.wait(), FIRST_S)
        self._look(time.monotonic())
        await web.serve_forever()

    def _note_whole(self) -> None:
        if self._known.is_whole:
            self._whole.set()

    def _look(self, now_s: float) -> None:
        pids = self._known.pids()
        if now_s >= self._weigh_at_s or pids != self._weighed:
            self._known.weighed({pid: memory_bytes(pid) for pid in (*pids, os.getpid())}, os.getpid())
            self._weigh_at_s, self._weighed = now_s + WEIGH_S, pids
        self._known.look(time.time_ns() // 1000, now_s)

    async def _look_forever(self) -> None:
        while True:
            now_s = time.monotonic()
            self._look(now_s)
            stale = self._staleness.judge(self._known.expected(), self._known.beats, now_s)
            if stale != self._stale:
                self._tell_stale(stale)
            self._tell_unlisted(self._known.listed_nowhere())
            self._looks += 1
            flush_repeats()
            await asyncio.sleep(LOOK_S)

    async def _summarise_forever(self) -> None:
        minutes = Minutes(self._known.totals)
        while True:
            await asyncio.sleep(SUMMARY_S)
            tell_minute(minutes, self._known)

    def _tell_unlisted(self, symbols: list[str] | None) -> None:
        """Only who sees all exchanges can know; one exchange lists what another does not."""
        if symbols is None:
            return
        for symbol in symbols:
            if symbol not in self._unlisted:
                log.error("no exchange lists this symbol; the others go on", symbol=symbol)
        self._unlisted = symbols

    def _tell_stale(self, stale: tuple[str, ...]) -> None:
        for name in stale:
            if name not in self._stale:
                log.warning("%s beats over its pipe but not in redis, which works; the supervisor is told", name)
        for name in self._stale:
            if name not in stale:
                log.recovered("%s beats in redis again, or is gone", name)
        self._stale = stale

    async def _watch_supervisor(self) -> None:
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "control")  # its own: others may be waiting for a name server
        try:
            while True:
                try:
                    document = await loop.run_in_executor(thread, ask, self._run_dir, {"command": "status"}, ANSWER_S)
                except (OSError, ValueError) as error:
                    self._known.supervisor_silent(str(error) or type(error).__name__)
                else:
                    self._known.supervisor_said(document, time.monotonic())
                    self._note_whole()
                await asyncio.sleep(LOOK_S)
        finally:
            thread.shutdown(wait=False)

    async def _watch_redis(self) -> None:
        await self._cache.open()
        for beats in count(1):
            await self._cache.heartbeat({"state": "ready", "pid": os.getpid(), "beats": beats})
            try:
                self._known.redis_said(await self._reader.heartbeats(), await self._reader.markets())
                self._note_whole()
            except ServiceUnavailable as error:
                self._known.redis_silent(str(error))
            await asyncio.sleep(LOOK_S)


def tell_minute(minutes: Minutes, known: Knowledge) -> None:
    """One line, unless nobody knows how the minute was."""
    said = minutes.summary(known.report, known.totals)
    if said is not None and known.supervisor_fault is None:
        log.info("%s", said[0], exchanges=said[1])


class TotalsFile:
    """The totals in `state_dir`. A file that cannot be read is no reason not to start: counting begins at zero."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""

    def read(self) -> Totals:
        try:
            return Totals(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Totals()
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read, counting begins at zero: %s", self._path, error)
            return Totals()

    def write(self, totals: Totals) -> None:
        """Whole or not at all; nothing to do when nothing changed."""
        text = json.dumps(totals.saved())
        if text == self._written:
            return
        new = self._path.with_suffix(".new")
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written, a restart of the monitor may count less: %s", self._path, error)
            return
        self._written = text
