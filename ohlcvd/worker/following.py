"""Which symbols a child collects while it runs: follows its configuration, the database's additions and removals, and
what the exchange lists, and tells its target to `add` and `remove` what differs.

Nothing here is urgent and everything may fail: the database is read every few seconds; the exchange is asked for its
markets as often as a change could matter, and never so often that reading thousands of them holds up the event loop
for more than about a hundredth of the time. A symbol that is not traded any more is parked; it comes back by itself.
"""

import asyncio
import random
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ohlcvd.config import Config
from ohlcvd.database import Database
from ohlcvd.database.wanted import Want, asked_for
from ohlcvd.errors import ConfigError, ExchangeError, ServiceUnavailable
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.known import KnownFile
from ohlcvd.log import get_component_logger
from ohlcvd.rhythm import until_beat
from ohlcvd.symbols import Decision, Roster

# How soon it is noticed that a symbol was added or removed, or history asked for.
POLL_S = 5.0
# How often the exchange is asked for its markets: where a new one may be wanted, or one seems to be gone; where one is
# parked; and where only names are wanted and all are there.
SOON_S = 25.0
PARKED_S = 300.0
CALM_S = 3_600.0
# Reading a market takes about 0.1 ms of the event loop.
_MARKETS_PER_S = 100
_SAVED_EVERY_S = 600.0


class Target(Protocol):
    """What collects."""

    @property
    def collected(self) -> Collection[str]:
        """The symbols, now."""

    @property
    def instrument_ids(self) -> list[int]:
        """What the database calls them."""

    def want(self, wants: Sequence[Want]) -> None:
        """History of them is asked for."""

    def is_trading(self, symbol: str) -> bool:
        """Whether there were trades of it lately."""

    def is_refused(self) -> bool:
        """Whether the exchange refuses a subscription at present."""

    async def add(self, symbols: Sequence[str]) -> None:
        """Collect these, too. ServiceUnavailable when the database is away; nothing has been changed then."""

    def remove(self, symbols: Sequence[str]) -> None:
        """Collect these no longer."""


def reading_pause_s(markets: int, *, soon: bool, parked: bool) -> float:
    """How long until the exchange is asked for its markets again; it lists so many."""
    pause_s = SOON_S if soon else PARKED_S if parked else CALM_S
    return max(pause_s, markets / _MARKETS_PER_S)


class Following:
    """One child's. `connect`, then `first`, then `run`."""

    def __init__(
        self, config: Config, child: str, handler: ExchangeHandler, database: Database, target: Target
    ) -> None:
        exchange, _, shard = child.partition("/")
        settings = config.exchange(exchange)
        self.decision = Decision([], [], [], 0)
        self.knew_markets = False  # from before, so that nothing needs to be asked to begin
        self._name = exchange
        self._alone = len(config.exchanges) == 1
        self._handler = handler
        self._database = database
        self._target = target
        self._roster = Roster(settings.symbols, int(shard or 1), settings.shards)
        self._file = _file(config.state_dir, child, f"{exchange} {settings.rest_url or ''} {settings.sandbox}")
        self._log = get_component_logger(f"ohlcvd.worker.{child}")
        self._changed = asyncio.Event()
        self._applied: object = None  # what was wanted when all of it was done; None: something is left to do
        self._one_at_a_time = asyncio.Lock()
        self._told: set[str] = set()  # symbols that were reported as not listed
        self._read_s = 0.0
        self._saved: tuple[float, object] = (0.0, None)

    def configured(self, symbols: Sequence[str]) -> None:
        """The configuration has changed."""
        self._roster.configured = tuple(symbols)
        self._changed.set()

    async def connect(self) -> None:
        """Reach the exchange; its markets are asked for only if they are not known from before."""
        now_s = time.time()
        known = self._file.load(now_s)
        if known is not None:
            await self._handler.connect(known.markets, known.listed)
            self._read_s = known.read_s
            self.knew_markets = True
            self._log.info(
                "markets are known from before", age_s=round(now_s - known.read_s), markets=len(known.listed)
            )
        else:
            await self._handler.connect(chosen_later=True)
            self._read_s = now_s

    async def first(self) -> None:
        """Begin with what is wanted now. ConfigError when that is nothing, and no removal is to blame."""
        self._roster.read(self._handler.symbols())
        pause_s = 1.0
        while True:
            try:
                await self._read_database()
                await self._apply()
                return
            except (ServiceUnavailable, ExchangeError) as error:
                self._log.warning("cannot begin to collect yet", error=str(error), retry_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(60.0, pause_s * 2)

    async def run(self) -> None:
        """Until cancelled; ConfigError when the configuration leaves nothing to collect."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll_forever(), name="symbols")
            group.create_task(self._obey_forever(), name="configured symbols")
            group.create_task(self._discover_forever(), name="markets")

    async def _poll_forever(self) -> None:
        while True:
            await until_beat(POLL_S)
            await self._follow()

    async def _obey_forever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._follow()

    async def _follow(self) -> None:
        try:
            async with self._one_at_a_time:
                await self._read_database()
                if self._roster.has_absent or self._applied != self._roster.wanted:
                    await self._apply()
        except (ServiceUnavailable, ExchangeError) as error:
            self._log.debug("symbols could not be followed, trying again", error=str(error))

    async def _read_database(self) -> None:
        found, wants = await asked_for(self._database, self._name, self._target.instrument_ids)
        self._roster.added, self._roster.removed = found.added, found.removed
        self._target.want(wants)

    # the exchange's markets

    async def _discover_forever(self) -> None:
        while True:
            soon = self._roster.follows_listing or self._roster.has_doubts
            parked = bool(self.decision.parked) or self._target.is_refused()
            pause_s = reading_pause_s(len(self._handler.symbols()), soon=soon, parked=parked)
            due_s = self._read_s + pause_s * random.uniform(0.9, 1.1) - time.time()
            # In steps: what is wanted may change meanwhile, and so may the system's clock.
            if due_s > POLL_S:
                await until_beat(POLL_S)
                continue
            if due_s > 0:
                await asyncio.sleep(due_s)
                continue
            self._read_s = time.time()
            try:
                async with self._one_at_a_time:
                    await self._discover()
            except (ServiceUnavailable, ExchangeError) as error:
                self._log.warning("markets could not be read again", error=str(error), retry_in_s=round(pause_s))

    async def _discover(self) -> None:
        before = self._handler.symbols()
        listed = await self._handler.read_markets()
        self._roster.read(listed)
        self._applied = None
        if listed != before:
            new, gone = sorted(listed.keys() - before.keys()), sorted(before.keys() - listed.keys())
            self._log.info(
                "the exchange lists other markets than before",
                new=new[:10], gone=gone[:10], news=len(new), goners=len(gone), markets=len(listed),
            )  # fmt: skip
        await self._apply()

    async def _apply(self) -> None:
        """From what is collected to what is wanted."""
        decision = self._roster.decide(self._target.collected, self._target.is_trading)
        if not decision.of and not decision.parked and not self._roster.removed:
            raise ConfigError(f"{self._name} lists none of the symbols wanted: {', '.join(self._roster.configured)}")
        parked = set(decision.parked) - set(self.decision.parked)
        self.decision = decision
        collected = set(self._target.collected)
        gone = sorted(collected.difference(decision.symbols))
        if gone:
            self._target.remove(gone)
            self._log.info("symbols removed", symbols=len(decision.symbols), removed=gone[:10], count=len(gone))
        for symbol in sorted(parked):
            self._log.warning("symbol is not traded any more, parked until it is", symbol=symbol)
        self._tell_unlisted(decision.unlisted)
        new = [symbol for symbol in decision.symbols if symbol not in collected]
        if new and not self._handler.has_markets(new):
            self._roster.read(await self._handler.read_markets())
            self._read_s = time.time()
        markets = self._handler.keep_markets(decision.symbols)
        self._save(markets)
        if new:
            await self._target.add(new)
            self._log.info("symbols added", symbols=len(decision.symbols), added=new[:10], count=len(new))
        self._applied = self._roster.wanted

    def _tell_unlisted(self, unlisted: Sequence[str]) -> None:
        for symbol in set(unlisted) - self._told:
            say = self._log.error if self._alone else self._log.warning
            say("symbol is not listed by this exchange, the others go on", symbol=symbol)
        self._told = set(unlisted)

    def _save(self, markets: Sequence[Mapping[str, Any]]) -> None:
        listed = self._handler.symbols()
        saved_s, saved = self._saved
        current = (listed, tuple(self.decision.symbols))
        if current != saved or self._read_s > saved_s + _SAVED_EVERY_S:
            self._file.save(self._read_s, listed, markets)
            self._saved = (self._read_s, current)


def _file(state_dir: Path, child: str, source: str) -> KnownFile:
    return KnownFile(state_dir / "markets" / f"{child.replace('/', '-')}.json", source)
