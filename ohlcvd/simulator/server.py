"""The simulator: both venues, or a recording's, on one port. See add_arguments() for the command line.

A venue lives at http://HOST:PORT/NAME and ws://HOST:PORT/NAME; the paths that a client adds are the real ones.
Ending it is always abrupt: clients see their connections cut, as they do when a venue goes down.
"""

import argparse
import asyncio
import logging
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from ohlcvd.errors import Exit, UsageError
from ohlcvd.market import Trade
from ohlcvd.simulator.binance import BinanceVenue
from ohlcvd.simulator.clock import SystemClock
from ohlcvd.simulator.control import control_routes
from ohlcvd.simulator.fault_list import FAULTS, REPEAT_S, Target, find_fault
from ohlcvd.simulator.feed import Feed
from ohlcvd.simulator.kraken import KrakenVenue
from ohlcvd.simulator.listings import MAX_SYMBOLS
from ohlcvd.simulator.market import MarketSettings, SimulatedMarket
from ohlcvd.simulator.replay import Replay, load_replay
from ohlcvd.simulator.venue import Venue

log = logging.getLogger("ohlcvd.simulator")

VENUES: dict[str, type[Venue]] = {"kraken": KrakenVenue, "binance": BinanceVenue}
_FLUSH_S = 60.0
_SPAN = re.compile(r"([0-9]+)([smhdw])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Everything `ohlcvd simulate` can be told. `replay` is a folder of recorded frames."""

    market: MarketSettings = field(default_factory=MarketSettings)
    faults: tuple[str, ...] = ()
    replay: Path | None = None
    speed: float = 1.0


class Simulator:
    """The local exchange. Use as `async with Simulator() as simulator:` or start() and stop()."""

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        self.port = 0
        self.host = "127.0.0.1"
        self.replay: Replay | None = None
        self.venues: dict[str, Venue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Listens; port 0 picks a free one. Raises UsageError for bad settings, OSError when the port is taken."""
        runs: list[Callable[[], asyncio.Task[None]]] = []
        if self.settings.replay is not None:
            self.replay = load_replay(self.settings.replay, self.settings.speed)
            self.venues = {self.replay.venue.name: self.replay.venue}
            replay = self.replay
            runs.append(lambda: asyncio.create_task(replay.run()))
        else:
            now_us = time.time_ns() // 1000
            for name, kind in VENUES.items():
                market = SimulatedMarket(name, self.settings.market, now_us)
                venue = kind(market.listings.values(), market.tape, SystemClock(), start_us=market.start_us)
                venue.found = market.found
                self.venues[name] = venue
                feed = Feed(venue)
                runs.append(lambda feed=feed: asyncio.create_task(feed.run()))  # type: ignore[misc]
        for text in self.settings.faults:
            self._initial_fault(text)
        app = web.Application()
        app.add_routes(control_routes(self))
        for name, venue in self.venues.items():
            app.add_routes([web.get(f"/{name}{path}", handler) for path, handler in venue.routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.host, self.port = host, self._runner.addresses[0][1]
        for run in runs:
            self._keep(run())

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for venue in self.venues.values():
            venue.abort_all()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> "Simulator":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    def rest_url(self, exchange: str) -> str:
        return f"http://{self.host}:{self.port}/{exchange}"

    def ws_url(self, exchange: str) -> str:
        return f"ws://{self.host}:{self.port}/{exchange}"

    def venue(self, exchange: str) -> Venue:
        try:
            return self.venues[exchange]
        except KeyError:
            raise UsageError(f"no exchange {exchange!r} here; there is {', '.join(self.venues)}") from None

    def sent(self, exchange: str, symbol: str) -> list[Trade]:
        """The trades that went over WebSockets as new, in the venue's order."""
        return self.venue(exchange).sent_trades(symbol)

    async def freeze(self) -> tuple[int, bool]:
        """Ends the market: trades before the moment given (us) are all sent, none after; clocks go on.

        The second value says whether every client took what was due.
        """
        if self.replay is not None:
            raise UsageError("a replay ends by itself and cannot be frozen")
        frozen_ns = (max(venue.clock.now_ns() for venue in self.venues.values()) // 1000 + 1) * 1000
        for venue in self.venues.values():
            frozen_ns = venue.frozen_ns or frozen_ns  # a second call changes nothing
        for venue in self.venues.values():
            if venue.frozen_ns is None:
                venue.frozen_ns = frozen_ns
        flushed = [await venue.flushed(_FLUSH_S) for venue in self.venues.values()]
        return frozen_ns // 1000, all(flushed)

    def fault(
        self, name: str, *, exchange: str | None = None, symbol: str | None = None, value: str | None = None
    ) -> int:
        """Switches a fault on, at one exchange or at all; how many connections, frames or symbols it touched."""
        found = find_fault(name)
        venues = self.venues.values() if exchange is None else [self.venue(exchange)]
        return sum(found.apply(Target(venue, symbol, value, self._later)) for venue in venues)

    def _initial_fault(self, text: str) -> None:
        """[EXCHANGE.]NAME[=VALUE]; those that happen once happen every VALUE seconds."""
        name, _, value = text.partition("=")
        exchange, _, name = name.rpartition(".")
        found = find_fault(name)
        if exchange:
            self.venue(exchange)
        if found.once:
            self._repeat(found.name, exchange or None, _positive(value or str(REPEAT_S), f"--fault {name}"))
        else:
            self.fault(name, exchange=exchange or None, value=value or None)

    def _repeat(self, name: str, exchange: str | None, every_s: float) -> None:
        def again() -> None:
            self.fault(name, exchange=exchange)
            self._later(every_s, again)

        self._later(every_s, again)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        async def wait_and_act() -> None:
            await asyncio.sleep(delay_s)
            action()

        self._keep(asyncio.create_task(wait_and_act()))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the simulator failed", exc_info=task.exception())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `ohlcvd simulate`."""
    faults = "; ".join(f"{known.name}: {known.help}" for known in FAULTS.values())
    parser.add_argument("--port", default="0", help="port to listen on; 0, the default, picks a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--replay", metavar="FOLDER", help="serve the recorded frames of this folder")
    parser.add_argument("--speed", default="1", metavar="X", help="how fast a replay runs; 1 is as recorded")
    parser.add_argument(
        "--rate", default="100", metavar="N", help="trades a second, all symbols of one exchange together"
    )
    parser.add_argument("--symbols", default="20", metavar="N", help="how many symbols each exchange lists")
    parser.add_argument("--seed", default="1", metavar="N", help="another seed is another market")
    parser.add_argument("--history", default="3d", metavar="SPAN", help="how far back trades go: 90m, 12h, 3d, 2w")
    parser.add_argument("--burst", default="0", metavar="N", help="now and then this many trades at one time")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="[EXCHANGE.]NAME[=VALUE]", help=faults.replace("%", "%%")
    )


def settings_of(args: argparse.Namespace) -> SimulatorSettings:
    """Checked settings of parsed arguments; UsageError with one sentence for a bad value."""
    span = _SPAN.fullmatch(args.history)
    if span is None:
        raise UsageError(f"--history {args.history!r} is not a span such as 90m, 12h or 3d")
    symbols = _whole(args.symbols, "--symbols", 1, MAX_SYMBOLS)
    market = MarketSettings(
        seed=_whole(args.seed, "--seed", 0, 2**63),
        rate=_positive(args.rate, "--rate"),
        symbols=symbols,
        history_s=int(span[1]) * _UNITS_S[span[2]],
        burst=_whole(args.burst, "--burst", 0, 100_000),
    )
    replay = None if args.replay is None else Path(args.replay)
    return SimulatorSettings(market, tuple(args.fault), replay, _positive(args.speed, "--speed"))


def main(args: argparse.Namespace) -> int:
    """`ohlcvd simulate`: runs until SIGTERM or SIGINT, which end it at once with 0."""
    settings = settings_of(args)
    return asyncio.run(_serve(settings, args.host, _whole(args.port, "--port", 0, 65_535)))


async def _serve(settings: SimulatorSettings, host: str, port: int) -> int:
    simulator = Simulator(settings)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        try:
            await simulator.start(port, host)
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        urls = ", ".join(f"{name} {simulator.rest_url(name)} {simulator.ws_url(name)}" for name in simulator.venues)
        with suppress(BrokenPipeError):
            print(f"simulator listening on http://{simulator.host}:{simulator.port} ({urls})", flush=True)
        await stopped.wait()
    finally:
        await simulator.stop()
    return Exit.OK


def _whole(text: str, name: str, lowest: int, highest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text, re.ASCII) or not lowest <= int(text) <= highest:
        raise UsageError(f"{name} {text!r} is not a whole number from {lowest} to {highest}")
    return int(text)


def _positive(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1e6:
        raise UsageError(f"{name} {text!r} is not a number above 0 and up to 1000000")
    return value
