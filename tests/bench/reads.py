"""A year of one symbol's minutes: read as longer candles through `ohlcvd.ohlcv()`, and all of them; to the last row."""

import asyncio
import time
from collections.abc import Iterator

import psycopg

from ohlcvd.database import OHLCVDatabase
from ohlcvd.database.bulk import Selection, read_pieces
from ohlcvd.database.migrate import migrate
from ohlcvd.reading.formats import as_csv
from tests.bench.results import Result
from tests.bench.rig import COLLECTOR_CORE, Rig, pinned

MINUTES = 365 * 1440
_TIMES = 7  # the middle one counts
_TIMES_OF_ALL = 3

_YEAR = """
INSERT INTO ohlcvd.candles_1m (ts, instrument_id, source, open, high, low, close, volume, trades)
SELECT '2025-01-01 00:00+00'::timestamptz + n * interval '1 minute', %s, 'v',
       50 + n %% 97 * 0.01, 52.5, 49.25, 50 + n %% 89 * 0.01, 0.001 * (n %% 9973), 1 + n %% 30
  FROM generate_series(0, %s - 1) AS n"""
_OHLCV = "SELECT * FROM ohlcvd.ohlcv('binance', 'BTC/USDT', %s)"
_LATEST = "SELECT * FROM ohlcvd.ohlcv('binance', 'BTC/USDT', '1m', '2025-12-31 15:40+00')"


def reads(rig: Rig) -> Iterator[Result]:
    """As one reader sees it who has asked before, on the core that the server leaves."""
    with rig.database() as dsn, pinned(COLLECTOR_CORE):
        asyncio.run(migrate(dsn))
        with psycopg.connect(dsn, autocommit=True) as connection:
            market = connection.execute(
                "INSERT INTO ohlcvd.instruments (exchange, symbol) VALUES ('binance', 'BTC/USDT') RETURNING id"
            ).fetchone()
            assert market is not None
            connection.execute(_YEAR, (market[0], MINUTES))
            connection.execute("ANALYZE")
            for name, query, words, rows, goal_ms in (
                ("a year to 1h", _OHLCV, ("1h",), 8760, 50.0),
                ("a year to 1d", _OHLCV, ("1d",), 365, 20.0),
                ("latest 500 minutes", _LATEST, (), 500, 3.0),
            ):
                took_ms = _middle_ms(connection, query, words, rows)
                yield Result(f"read {name}", took_ms, "ms", goal_ms, "less", note=f"{rows:,} rows into Python")
        took_s = asyncio.run(_into_python(dsn))
        yield Result("read a year of minutes", took_s, "s", 1.0, "less", note=f"{MINUTES:,} candles, get_candles()")
        took_s = _into_csv(dsn)
        yield Result("read a year as CSV", took_s, "s", 1.0, "less", note="what `candles --format csv` writes")


async def _into_python(dsn: str) -> float:
    async with OHLCVDatabase("binance", "BTC/USDT", conninfo=dsn) as database:
        took: list[float] = []
        for _ in range(_TIMES_OF_ALL):
            began = time.perf_counter()
            found = len(await database.get_candles())
            took.append(time.perf_counter() - began)
            if found != MINUTES:
                raise RuntimeError(f"{found} candles instead of {MINUTES}")
    return sorted(took)[_TIMES_OF_ALL // 2]


def _into_csv(dsn: str) -> float:
    selection, took = Selection("binance", "BTC/USDT", "candles"), []
    for _ in range(_TIMES_OF_ALL):
        began = time.perf_counter()
        lines = sum(piece.count(b"\n") for piece in as_csv(selection.columns, read_pieces(dsn, selection)))
        took.append(time.perf_counter() - began)
        if lines != MINUTES + 1:
            raise RuntimeError(f"{lines} lines instead of {MINUTES} and a header")
    return sorted(took)[_TIMES_OF_ALL // 2]


def _middle_ms(
    connection: "psycopg.Connection[tuple[object, ...]]", query: str, words: tuple[str, ...], rows: int
) -> float:
    took: list[float] = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        found = connection.execute(query.encode(), words).fetchall()
        took.append((time.perf_counter() - began) * 1000)
        if len(found) != rows:
            raise RuntimeError(f"{len(found)} rows instead of {rows}: {query}")
    return sorted(took)[_TIMES // 2]
