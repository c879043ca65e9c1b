"""`ohlcvd demo`: the whole daemon against a local exchange, and the proof at the end.

Everything lives in a private folder that is removed afterwards: configuration, embedded PostgreSQL and Valkey, logs.
The exchange and the daemon are processes of their own, exactly what `ohlcvd simulate` and `ohlcvd run` start. At the
end the market is frozen, what the exchange says it sent is read back from it, and compared with the database.
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ohlcvd.daemon import status
from ohlcvd.database import Database, candles_of, trades_of
from ohlcvd.demo.compare import Comparison
from ohlcvd.demo.exchange import LocalExchange
from ohlcvd.demo.processes import DaemonProcess, write_configuration
from ohlcvd.errors import Exit
from ohlcvd.market import MINUTE_US, SECOND_US
from ohlcvd.watch import Stop, frame, stop_signals

EXCHANGES = ("kraken", "binance")
SYMBOLS = 10
TRADES_PER_S = 60
# A closed minute is stored at most this long after its end.
CANDLE_DEADLINE_US = 20 * SECOND_US
# After the freeze everything sent must arrive: rows are counted until all are there, or no more come for this long.
SETTLE_S = 4.0
SHOWN_FAULTS = 20


def main(*, seconds: float | None) -> int:
    """Run the demo; 0 only if everything that the exchange sent is stored exactly once."""
    folder = Path(tempfile.mkdtemp(prefix="ohlcvd-demo-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stop = stack.enter_context(stop_signals())
        print(f"starting a local exchange, PostgreSQL, Valkey and ohlcvd in {folder}", flush=True)
        exchange = stack.enter_context(LocalExchange(folder, symbols=SYMBOLS, trades_per_s=TRADES_PER_S))
        markets = {name: exchange.symbols(name) for name in EXCHANGES}
        daemon = stack.enter_context(DaemonProcess(folder, write_configuration(folder, exchange.url, markets)))
        daemon.wait_until_streaming(len(EXCHANGES))
        live_us = time.time_ns() // 1000
        address = status(daemon.config).addresses["postgres"]
        print(f'database: psql "{address}"', flush=True)
        _watch(daemon, stop, seconds)
        print("the market is frozen, comparing what was sent with what is stored", flush=True)
        comparison = asyncio.run(_compare(address, exchange, markets, live_us))
        clean = daemon.stop()
    return _conclude(comparison, clean)


def _watch(daemon: DaemonProcess, stop: Stop, seconds: float | None) -> None:
    """Show the status until the time is over: a table in place on a terminal, a line every five seconds elsewhere."""
    terminal = sys.stdout.isatty()
    end = time.monotonic() + (seconds if seconds is not None else float("inf"))
    while not stop.is_set() and time.monotonic() < end:
        report = status(daemon.config)
        if terminal:
            print(frame(report, "Ctrl-C ends the demo and compares"), end="", flush=True)
        else:
            children = (f"{child.name} {child.state} {child.counters.get('trades', 0)}" for child in report.children)
            print(f"trades stored: {', '.join(children)}", flush=True)
        stop.wait(min(1.0 if terminal else 5.0, max(0.0, end - time.monotonic())))
    if terminal:
        print()


async def _compare(address: str, exchange: LocalExchange, markets: dict[str, list[str]], live_us: int) -> Comparison:
    frozen_us = exchange.freeze()
    # minutes that were streamed as a whole and should be final by now
    minutes = range(-(-live_us // MINUTE_US) * MINUTE_US, frozen_us - CANDLE_DEADLINE_US - MINUTE_US + 1, MINUTE_US)
    async with Database(address) as database:
        fewest, deadline = -1, 0.0
        while True:
            comparison = Comparison()
            for name, symbols in markets.items():
                for symbol in symbols:
                    await _compare_market(database, exchange, comparison, (name, symbol), frozen_us, minutes)
            if fewest < 0 or comparison.lost < fewest:
                fewest, deadline = comparison.lost, time.monotonic() + SETTLE_S
            if not comparison.lost or time.monotonic() > deadline:
                return comparison
            await asyncio.sleep(0.5)


async def _compare_market(
    database: Database,
    exchange: LocalExchange,
    comparison: Comparison,
    market: tuple[str, str],
    frozen_us: int,
    minutes: range,
) -> None:
    sent = exchange.sent(*market)
    stored = [trade async for trade in trades_of(database, *market)]
    first_us = min((trade.ts_us for trade in (*sent, *stored)), default=frozen_us)
    comparison.add_trades(" ".join(market), sent, stored, exchange.truth(*market, first_us, frozen_us + 1))
    candles = [candle async for candle in candles_of(database, *market)]
    first_us = min((candle.ts_us for candle in candles), default=frozen_us)
    truth = exchange.candles(*market, min(first_us, minutes.start), frozen_us)
    comparison.add_candles(" ".join(market), minutes, truth, candles)


def _conclude(comparison: Comparison, clean: bool) -> int:
    for fault in comparison.faults[:SHOWN_FAULTS]:
        print(fault)
    if len(comparison.faults) > SHOWN_FAULTS:
        print(f"... and {len(comparison.faults) - SHOWN_FAULTS} more")
    if not clean:
        print("ohlcvd did not end by itself with code 0")
    print(f"candles compared {comparison.candles}, equal {comparison.candles_equal}")
    print(comparison.summary())
    return Exit.OK if comparison.holds and clean else Exit.NO
