"""A venue whose REST answers nothing for minutes: what is missing says so, and goes by itself when it answers again."""

import time
from pathlib import Path

from ohlcvd.repair.outage import OUTAGE_S
from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.support import Servers, collecting, now_us, site, wait_until_streaming_again
from tests.process.harness import wait_for

MARKET = MarketSettings(rate=20, symbols=4, history_s=7200)
SILENT_S = 12.0
OUT_S = 150.0
REPAIRED_S = 60.0


def test_a_venue_out_of_order_is_named_as_the_reason(tmp_path: Path, servers: Servers) -> None:
    # Kraken's streams come back without REST
    with site(tmp_path, servers, MARKET, names=["kraken"]) as here, collecting(here) as watch:
        from_us = now_us()
        time.sleep(5)
        here.fault("rest-503", value=OUT_S)
        out_s = time.monotonic()
        here.fault("silence", value=SILENT_S)
        time.sleep(SILENT_S)
        wait_until_streaming_again(here.daemon)
        wait_for(
            "every gap is told to be the venue's fault",
            lambda: {gap["reason"] for gap in here.gaps()} == {"venue outage"},
            OUTAGE_S + 40,
        )
        told_s = time.monotonic() - out_s
        gaps = here.gaps()
        for gap in gaps:
            assert "503" in gap["evidence"]["answered"], gap
            assert gap["evidence"]["attempts"] >= 4, gap
            assert gap["evidence"]["asked"], gap
        before = len(here.relay.requests)
        time.sleep(max(0.0, out_s + OUT_S - time.monotonic()))
        asked = len(here.relay.requests) - before
        mended_us = now_us()
        took_s = here.wait_until_complete(from_us, mended_us, REPAIRED_S)
        figures = here.assert_all_there(from_us, mended_us, ["kraken"])
    print(
        f"venue out of order: {len(gaps)} gaps told after {told_s:.0f} s, {asked} requests until it came back, "
        f"complete {took_s:.0f} s after; {figures}; {watch.samples} samples, {len(watch.false)} false"
    )
