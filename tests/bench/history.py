"""History by REST: rows stored per processor second of the child; as the reference ccxt alone, which stores nothing."""

import asyncio
import resource
import subprocess
import sys
import time

from tests.bench.results import Result
from tests.bench.rig import COLLECTOR_CORE, Generator, Rig, count, cpu_s, pinned
from tests.process.harness import environment, wait_for

SYMBOLS = "20"
REQUESTS_PER_S = 24.0  # that ohlcvd allows itself at Binance
PAGE = 1000


def candles(rig: Rig) -> Result:
    """A week of the minutes of twenty symbols that do not trade now."""
    with rig.generator("binance", SYMBOLS, "candles") as source:
        symbols = list(source.get("sent")["symbols"])
        rows, spent, took = _history(rig, source, symbols, "ohlcv", "7d", "candles_1m")
        words = [sys.executable, "-P", "-m", "tests.bench.history", source.url, *symbols[:10]]
        with pinned(COLLECTOR_CORE):
            alone = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True).stdout
    return Result(
        "history, candles", rows / spent, "candles/CPU-s", 150_000, reference=float(alone),
        note=f"{_pace(rows, took)}; reference: ccxt fetch_ohlcv alone, nothing stored",
    )  # fmt: skip


def trades(rig: Rig) -> Result:
    """The trades of an hour of the same."""
    with rig.generator("binance", SYMBOLS, "15000") as source:
        symbols = list(source.get("sent")["symbols"])
        rows, spent, took = _history(rig, source, symbols, "trade", "2h", "trades")
    return Result("history, trades", rows / spent, "trades/CPU-s", 60_000, note=_pace(rows, took))


def _pace(rows: int, took_s: float) -> str:
    return f"{rows:,} in {took_s:.0f} s, {rows / PAGE / took_s / REQUESTS_PER_S * 100:.0f} % of the requests allowed"


def _history(
    rig: Rig, source: Generator, symbols: list[str], service: str, since: str, table: str
) -> tuple[int, float, float]:
    """Rows stored until nothing is missing, the child's processor seconds for them, seconds on the clock."""
    with rig.database() as dsn, rig.daemon(source, "binance", symbols, dsn, service=service, since=since) as daemon:
        wait_for("rows", lambda: count(dsn, table))
        pid = daemon.children()["binance"]["pid"]
        before, spent, began = count(dsn, table), cpu_s(pid), time.monotonic()
        wait_for("no gap", lambda: daemon.query("SELECT count(*) FROM ohlcvd.gaps") == [(0,)], 600)
        return count(dsn, table) - before, cpu_s(pid) - spent, time.monotonic() - began


async def _ccxt_alone(url: str, symbols: list[str]) -> float:
    """Candles per processor second of ccxt's own loop."""
    from ohlcvd.exchange import loading
    from ohlcvd.exchange.urls import moved

    exchange = loading.ccxt_name("ccxt.async_support.binance", "binance")({"enableRateLimit": False})
    exchange.has["fetchCurrencies"] = False
    exchange.urls["api"] = moved(exchange.urls["api"], f"{url}/binance", None)
    try:
        await exchange.load_markets()
        begun, rows = _cpu_s(), 0
        for symbol in symbols:
            since_ms = int((time.time() - 7 * 86_400) * 1000)
            while page := await exchange.fetch_ohlcv(symbol, "1m", since_ms, 1000):
                rows += len(page)
                since_ms = page[-1][0] + 60_000
                if len(page) < 1000:
                    break
        return rows / (_cpu_s() - begun)
    finally:
        await exchange.close()


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(asyncio.run(_ccxt_alone(sys.argv[1], sys.argv[2:])))
