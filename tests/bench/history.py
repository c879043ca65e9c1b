"""History by REST: rows stored per processor second of the child, and how much of the venue's limit is used.

References: for candles ccxt alone, which stores nothing; for trades the COPY of rows that are encoded already.
"""

import asyncio
import resource
import subprocess
import sys
import time

import psycopg

from ohlcvd.database.encode import COPY_HEAD, COPY_TAIL, TradeRow, copy_rows
from ohlcvd.market import Trade
from tests.bench.floor import TABLE
from tests.bench.results import Result
from tests.bench.rig import COLLECTOR_CORE, Generator, Rig, count, cpu_s, pinned
from tests.process.harness import environment, wait_for

SYMBOLS = "20"
REQUESTS_PER_S = 24.0  # that ohlcvd allows itself at Binance
PAGE = 1000
TRADES = 15_000  # of each symbol
SHARE_S = 15.0


def candles(rig: Rig) -> Result:
    """A week of the minutes of twenty symbols that do not trade now."""
    with rig.generator("binance", SYMBOLS, "candles") as source:
        symbols = list(source.get("sent")["symbols"])
        rows, spent, took = _history(rig, source, symbols, "ohlcv", "7d", "candles_1m")
        alone = _reference("ccxt", source.url, *symbols[:10])
    return Result(
        "history, candles", rows / spent, "candles/CPU-s", 150_000, reference=alone,
        note=f"{_pace(rows, took)}; reference: ccxt fetch_ohlcv alone, nothing stored",
    )  # fmt: skip


def trades(rig: Rig) -> Result:
    """The trades of an hour of the same."""
    with rig.generator("binance", SYMBOLS, str(TRADES)) as source:
        symbols = list(source.get("sent")["symbols"])
        rows, spent, took = _history(rig, source, symbols, "trade", "2h", "trades", TRADES * len(symbols))
    with rig.database() as dsn:
        copied = _reference("copy", dsn)
    return Result(
        "history, trades", rows / spent, "trades/CPU-s", 60_000, reference=copied,
        note=f"{_pace(rows, took)}; reference: COPY of encoded rows, {PAGE} a transaction",
    )  # fmt: skip


def share(rig: Rig) -> Result:
    """Whether anything but the limit is waited for, while there is more to ask than time for it."""
    with rig.generator("binance", SYMBOLS, "candles") as source, rig.database() as dsn:
        symbols = list(source.get("sent")["symbols"])
        with rig.daemon(source, "binance", symbols, dsn, service="ohlcv", since="90d"):
            wait_for("rows", lambda: count(dsn, "candles_1m") > PAGE * len(symbols))
            asked, began = source.get("sent")["asked"], time.monotonic()
            time.sleep(SHARE_S)
            asked, took = source.get("sent")["asked"] - asked, time.monotonic() - began
    used = asked / took / REQUESTS_PER_S * 100
    note = f"{asked} in {took:.1f} s, {REQUESTS_PER_S:g} a second are allowed"
    return Result("history, requests used", used, "% of the limit", 95.0, note=note)


def _reference(name: str, *words: str) -> float:
    """Rows per processor second of a process of its own."""
    command = [sys.executable, "-P", "-m", "tests.bench.history", name, *words]
    with pinned(COLLECTOR_CORE):
        return float(subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout)


def _pace(rows: int, took_s: float) -> str:
    return f"{rows:,} in {took_s:.0f} s, {rows / PAGE / took_s / REQUESTS_PER_S * 100:.0f} % of the requests allowed"


def _history(
    rig: Rig, source: Generator, symbols: list[str], service: str, since: str, table: str, expected: int | None = None
) -> tuple[int, float, float]:
    """Rows stored until nothing is missing, or all that there are; the child's processor seconds for them, and those on
    the clock."""
    with rig.database() as dsn, rig.daemon(source, "binance", symbols, dsn, service=service, since=since) as daemon:
        wait_for("rows", lambda: count(dsn, table))
        pid = daemon.children()["binance"]["pid"]
        before, spent, began = count(dsn, table), cpu_s(pid), time.monotonic()
        if expected is None:
            wait_for("no gap", lambda: daemon.query("SELECT count(*) FROM ohlcvd.gaps") == [(0,)], 600)
        else:
            wait_for("all rows", lambda: count(dsn, table) >= expected, 600)
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


def _copied(dsn: str) -> float:
    """Rows per processor second of COPY alone; the rows are encoded before."""
    rows: list[TradeRow] = [
        (
            1,
            n,
            None,
            Trade(n * 1_000_000, str(n), f"{50 + n % 977 / 100:.2f}", f"{0.001 + n % 9973 / 100000:.5f}", "buy"),
        )
        for n in range(300_000)
    ]
    pages = [COPY_HEAD + copy_rows(rows[n : n + PAGE]) + COPY_TAIL for n in range(0, len(rows), PAGE)]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        begun = _cpu_s()
        for page in pages:
            with connection.cursor() as cursor, cursor.copy("COPY floor_trades FROM STDIN (FORMAT binary)") as copy:
                copy.write(page)
        return len(rows) / (_cpu_s() - begun)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(_copied(sys.argv[2]) if sys.argv[1] == "copy" else asyncio.run(_ccxt_alone(sys.argv[2], sys.argv[3:])))
