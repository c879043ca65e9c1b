"""Thirteen hours missing on Kraken: as fast as its request limit allows, older candles from trades.

The exchange's clock is thirteen hours behind at first; put right, the hole is there.
"""

import time
from pathlib import Path

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.market import stored_candles
from tests.long.repair.support import Servers, collecting, now_us, site
from tests.process.truth import true_candles

HOLE_S = 13 * 3600
MARKET = MarketSettings(rate=0.9, symbols=3, history_s=HOLE_S + 3600)
ALLOWED = 1.2
AT_MOST_S = 400.0
DEPTH_MINUTES = 720


def test_thirteen_hours_on_kraken(tmp_path: Path, servers: Servers) -> None:
    faults = f"--fault=clock=-{HOLE_S}", "--fault=market-requests=1"
    with site(tmp_path, servers, MARKET, *faults, names=["kraken"]) as here:
        with collecting(here):
            from_us = now_us() - HOLE_S * 1_000_000
            time.sleep(25)
        here.fault("clock", value=0)
        before = len(here.relay.requests)
        to_us, began_s = now_us(), time.monotonic()
        with collecting(here) as watch:
            here.wait_until_complete(from_us, to_us, AT_MOST_S)
            took_s = time.monotonic() - began_s
            least_s = here.least_kraken_s(from_us, to_us)
            print(
                f"13 hours: complete after {took_s:.0f} s, the limit allows {least_s:.0f} s; "
                f"asked {here.kraken_requests(before)} of {sum(here.kraken_pages(from_us, to_us))} needed; "
                f"{watch.samples} samples of {watch.claims} claims, {len(watch.false)} false"
            )
            figures = here.assert_all_there(from_us, to_us, ["kraken"])
            old_us = to_us - (DEPTH_MINUTES + 1) * MINUTE_US
            built = 0
            for symbol in here.truth.symbols("kraken"):
                kept = stored_candles(here.daemon, "kraken", symbol)
                truth = true_candles(here.exchange, "kraken", symbol, from_us + 2 * MINUTE_US, old_us)
                assert {ts_us: kept[ts_us] for ts_us in truth} == {
                    ts_us: (row, "trades") for ts_us, row in truth.items()
                }
                built += len(truth)
            assert built, "no candle is older than the venue's depth"
            print(f"13 hours: {figures}; {built} candles older than {DEPTH_MINUTES} minutes from trades, all equal")
            assert took_s <= ALLOWED * least_s
