"""A venue that corrects a candle twice, the second time long after, and then sends a stale one: the row is right."""

import time
from decimal import Decimal
from pathlib import Path

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.market import stored_candles
from tests.long.repair.support import EXCHANGES, Servers, Site, now_us, site
from tests.process.harness import started, wait_for
from tests.process.truth import true_candles

MARKET = MarketSettings(rate=20, symbols=3, history_s=7200)
SOON_S = 5.0
LATE_S = 600.0
STALE_WAIT_S = 20.0


def test_two_revisions_and_a_stale_partial(tmp_path: Path, servers: Servers) -> None:
    with site(tmp_path, servers, MARKET) as here, started(here.daemon):
        here.daemon.wait_until_streaming()
        # The minute must be whole for the daemon; then no trade comes any more, so that it stays the venue's last.
        until(now_us() // MINUTE_US * MINUTE_US + 2 * MINUTE_US - 500_000)
        frozen_us = here.exchange.post("freeze")["frozen_us"]
        opened_us = frozen_us // MINUTE_US * MINUTE_US
        closed_us = opened_us + MINUTE_US
        until(closed_us + int(SOON_S * 1e6))
        markets = {name: here.truth.symbols(name)[0] for name in EXCHANGES}
        first = {name: row_of(here, name, symbol, opened_us) for name, symbol in markets.items()}
        assert all(first.values()), first
        for name, symbol in markets.items():
            here.fault("revise", exchange=name, symbol=symbol, value=0)
        wait_for("the first revision is stored", lambda: corrections(here, markets, opened_us) == [1, 1], 30)
        second = {name: row_of(here, name, symbol, opened_us) for name, symbol in markets.items()}
        until(closed_us + int((LATE_S - 5) * 1e6))
        assert corrections(here, markets, opened_us) == [1, 1]
        for name, symbol in markets.items():
            here.fault("revise", exchange=name, symbol=symbol, value=5)
        wait_for("the second revision is stored", lambda: corrections(here, markets, opened_us) == [2, 2], 30)
        for name, symbol in markets.items():
            assert here.exchange.post("fault", {"fault": "stale-candle", "exchange": name, "symbol": symbol})["touched"]
        time.sleep(STALE_WAIT_S)
        assert corrections(here, markets, opened_us) == [2, 2]
        for name, symbol in markets.items():
            truth = true_candles(here.exchange, name, symbol, opened_us, closed_us)[opened_us]
            last = row_of(here, name, symbol, opened_us)
            assert last == truth, (name, last, truth)
            assert len({tuple(row or ()) for row in (first[name], second[name], last)}) == 3
    print(
        f"revisions: 2 venues, at +{SOON_S:.0f} s and +{LATE_S:.0f} s, then a stale partial: rows equal the venue's, "
        "corrections 2 and 2"
    )


def row_of(here: Site, name: str, symbol: str, ts_us: int) -> list[Decimal] | None:
    found = stored_candles(here.daemon, name, symbol).get(ts_us)
    return None if found is None else found[0]


def corrections(here: Site, markets: dict[str, str], ts_us: int) -> list[int]:
    rows = here.daemon.query(
        """
        SELECT i.exchange, i.symbol, c.corrections FROM ohlcvd.candles_1m c
        JOIN ohlcvd.instruments i ON i.id = c.instrument_id WHERE c.ts = to_timestamp(%s / 1e6)
        """,
        ts_us,
    )
    counted = {(name, symbol): count for name, symbol, count in rows}
    return [counted.get(market, -1) for market in markets.items()]


def until(ts_us: int) -> None:
    time.sleep(max(0.0, (ts_us - now_us()) / 1e6))
