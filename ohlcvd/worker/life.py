"""A child's life: one event loop that starts, beats, collects, and drains; and with which exit code it ends.

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
from typing import Any

from ohlcvd.config import Config
from ohlcvd.config.changes import child_names
from ohlcvd.database import Batch, Database, Quarantine, Spool, Writer
from ohlcvd.errors import ConfigError, Exit, PermissionRefused
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.log import get_component_logger, reopen_logs, set_level, setup_logging
from ohlcvd.supervisor.commands import CommandReceiver
from ohlcvd.supervisor.heartbeat import BeatState, HeartbeatSender
from ohlcvd.worker.collecting import Collecting
from ohlcvd.worker.inheriting import Inheriting
from ohlcvd.worker.memory import collect_seldom, give_back_forever
from ohlcvd.worker.telling import Telling


def worker_main(
    config: Config,
    child: str,
    postgres: str,
    redis: str,
    sender: HeartbeatSender,
    commands: CommandReceiver | None = None,
) -> int:
    """Collect for `child` ("kraken", "binance/2") until TERM. Returns the exit code."""
    log_file = config.log_dir / f"{_file_name(child)}.log"
    setup_logging(file=log_file, level=config.log_level, terminal=sys.stderr.isatty())
    collect_seldom()
    return asyncio.run(Worker(config, child, postgres, redis, sender, commands).run())


class Worker:
    """One exchange (or one shard of it) being collected."""

    def __init__(
        self, config: Config, child: str, postgres: str, redis: str, sender: HeartbeatSender,
        commands: CommandReceiver | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.commands = commands
        self.log = get_component_logger(f"ohlcvd.worker.{child}")
        self.handler = ExchangeHandler(config.exchange(child.partition("/")[0]))
        self.database = Database(postgres, application_name=f"ohlcvd {child}")
        file_name, spools = _file_name(child), config.state_dir / "spool"
        quarantine = Quarantine(config.state_dir / "quarantine" / f"{file_name}.jsonl")
        self.writer = Writer(
            self.database,
            on_commit=self._on_commit,
            spool=Spool(spools / file_name, config.spool_max_bytes),
            quarantine=quarantine,
        )
        self.inheriting = Inheriting(
            child, spools, [_file_name(name) for name in child_names(config)], self.database, quarantine,
            self._on_commit, config.spool_max_bytes,
        )  # fmt: skip
        self.collecting = Collecting(config, child, self.handler, self.database, self.writer)
        self.telling = Telling(child, redis, sender, self.handler, self.writer, self.collecting, self._state)
        self._running = False
        self._draining = False
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Collect until TERM or INT, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, reopen_logs)
        if self.commands is not None:
            loop.add_reader(self.commands, self._on_commands, self.commands)
        self._running = True
        beating = asyncio.create_task(self.telling.beat_forever())
        inheriting = asyncio.create_task(self.inheriting.run(), name="inheriting")
        giving_back = asyncio.create_task(give_back_forever(), name="memory")
        try:
            return await self._live()
        finally:
            beside = (beating, inheriting, giving_back)
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self.handler.close()
            await self.telling.close()
            await self.database.close()

    def _state(self) -> BeatState:
        if self._draining:
            return "draining"
        if not self._running:
            return "starting"
        return "streaming" if self.collecting.is_live else "ready"

    def _on_commands(self, commands: CommandReceiver) -> None:
        for update in commands.read():
            if update.symbols is not None:
                self.log.info("symbols changed in the configuration", symbols=len(update.symbols))
                self.collecting.following.configured(update.symbols)
            if update.log_level is not None:
                set_level(update.log_level)
        if commands.closed:
            asyncio.get_running_loop().remove_reader(commands)

    def _on_commit(self, batch: Batch) -> None:
        self.collecting.committed(batch)
        self.telling.committed(batch)

    async def _live(self) -> int:
        announcing = asyncio.create_task(self.telling.announce_forever(), name="redis heartbeat")
        storing = asyncio.create_task(self.writer.run(), name="writer")
        publishing = asyncio.create_task(self.telling.publish_forever(), name="redis streams")
        collecting = asyncio.create_task(self.collecting.run(), name="collecting")
        stopping = asyncio.create_task(self._stop.wait(), name="stopping")
        summing = asyncio.create_task(self.telling.summarise_forever(), name="summary")
        others = asyncio.create_task(self.telling.tell_others_forever(), name="redis records")
        tasks: tuple[asyncio.Task[Any], ...] = (announcing, storing, publishing, collecting, stopping, summing, others)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._draining = True
            code = await self._end_collecting(collecting)
            for task in (announcing, storing, publishing, summing, others):
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
        if isinstance(outcome, (ConfigError, PermissionRefused)):
            self.log.error("cannot collect until this is changed", reason=str(outcome))
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
        await self.telling.publish()
        if complete:
            self.log.info("drained, everything read is committed", rows=rows)
        elif not self.writer.memory_rows:
            self.log.warning("drained into the spool, the next start stores it", rows=self.writer.backlog)
        else:
            self.log.error(
                "drain timed out, rows are neither stored nor spooled; the next start fetches them",
                rows=self.writer.memory_rows,
            )


def _file_name(child: str) -> str:
    return child.replace("/", "-")
