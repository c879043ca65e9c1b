"""One service alone: candles without trades, and trades from which the candles are built."""

import time
from pathlib import Path

import pytest

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.support import Servers, collecting, now_us, site, wait_until_streaming_again

MARKET = MarketSettings(rate=60, symbols=6, history_s=7200)
CUTS_S = (1.0, 30.0)
REPAIRED_S = 60.0
MINUTE_S = 60.0  # a minute that a cut lies in is whole when it is over


@pytest.mark.parametrize("service", ["ohlcv", "trade"])
def test_cuts_and_a_kill_with_one_service(tmp_path: Path, servers: Servers, service: str) -> None:
    with site(tmp_path, servers, MARKET, service=service) as here, collecting(here) as watch:
        time.sleep(5)
        from_us, took_s = now_us(), 0.0
        for cut_s in CUTS_S:
            here.relay.cut()
            time.sleep(cut_s)
            here.relay.mend()
            mended_us, mended_s = now_us(), time.monotonic()
            wait_until_streaming_again(here.daemon)
            here.kill_children()
            here.wait_until_complete(from_us, mended_us, REPAIRED_S + MINUTE_S)
            took_s = max(took_s, time.monotonic() - mended_s)
        end_us = mended_us - mended_us % MINUTE_US + MINUTE_US
        here.wait_until_complete(from_us, end_us, 2 * MINUTE_S)
        figures = here.assert_all_there(from_us, end_us)
        assert figures.minutes
    print(
        f"{service} alone: {figures}; complete after {took_s:.0f} s; {watch.samples} samples, {len(watch.false)} false"
    )
