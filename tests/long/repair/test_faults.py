"""Silence, a cut frame, trades sent again, and REST that answers everything but what it was asked: the same zeros."""

import time
from pathlib import Path

from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.support import (
    EXCHANGES,
    SETTLED_US,
    Servers,
    collecting,
    now_us,
    site,
    wait_until_streaming_again,
)
from tests.process.harness import wait_for

MARKET = MarketSettings(rate=110, symbols=10, history_s=7200)
REST_FAULTS = ("rest-429", "rest-500", "rest-html", "rest-cut-body")
REST_FAULT_S = 8.0
REPAIRED_S = 60.0


def test_silence_cut_frames_repeated_trades_and_broken_rest(tmp_path: Path, servers: Servers) -> None:
    with site(tmp_path, servers, MARKET) as here, collecting(here) as watch:
        time.sleep(3)
        from_us = now_us()
        here.fault("silence", value=25)
        time.sleep(25)
        for fault, value in (("cut-json", None), ("resend", 200)):
            for name in EXCHANGES:
                wait_for(f"{name} sends {fault}", lambda: here.fault(fault, exchange=name, value=value))  # noqa: B023
            time.sleep(3)
        wait_until_streaming_again(here.daemon)
        first_s = here.wait_until_complete(from_us, now_us(), REPAIRED_S + SETTLED_US / 1e6)
        # a hole to repair, and no right answer while REST is broken in four ways
        here.fault("silence", value=20)
        time.sleep(21)
        seen = len(here.relay.requests)
        broken = 0
        for fault in REST_FAULTS:
            here.fault(fault, value=REST_FAULT_S)
            before = len(here.relay.requests)
            time.sleep(REST_FAULT_S)
            broken += len(here.relay.requests) > before
        here.fault("rest-ok")
        asked = len(here.relay.requests) - seen
        assert asked, "nothing was asked while REST was broken"
        mended_us = now_us()
        second_s = here.wait_until_complete(from_us, mended_us, REPAIRED_S)
        figures = here.assert_all_there(from_us, mended_us)
    print(
        f"faults: {figures}; complete {first_s:.0f} s after silence, cut frame and 200 trades again, {second_s:.0f} s "
        f"after the last of {len(REST_FAULTS)} broken kinds of REST ({asked} requests, {broken} kinds seen); "
        f"{watch.samples} samples of {watch.claims} claims, {len(watch.false)} false"
    )
