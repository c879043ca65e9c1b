"""Cuts, kills and days off: a minute after running again everything is there, once, and nothing claimed too early."""

import time
from pathlib import Path

import pytest

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.market import Figures
from tests.long.repair.support import (
    EXCHANGES,
    SETTLED_US,
    Servers,
    Site,
    collecting,
    now_us,
    site,
    wait_until_streaming_again,
)

# From 25 trades a second to one in 150 s.
MARKET = MarketSettings(rate=110, symbols=10, history_s=7200)
REPAIRED_S = 60.0
KILL_AFTER_S = 3.0
STOPPED_S = 300.0


def begin(here: Site) -> int:
    """Waits for the beginning of a minute, a few seconds of which are collected; from when on all must be there."""
    from_us = now_us()
    time.sleep((MINUTE_US - from_us % MINUTE_US) / 1e6 + 5)
    return from_us


def check_whole_minutes(here: Site, from_us: int, to_us: int) -> Figures:
    """All up to the end of the minute that the outage ended in."""
    end_us = to_us - to_us % MINUTE_US + MINUTE_US
    here.wait_until_complete(from_us, end_us, 2 * REPAIRED_S)
    return here.assert_all_there(from_us, end_us)


@pytest.mark.parametrize("outage_s", [10.0, 90.0])
def test_cut_network(tmp_path: Path, servers: Servers, outage_s: float) -> None:
    """Nothing goes through for so long, and in the middle of the repair the children are killed."""
    with site(tmp_path, servers, MARKET) as here, collecting(here) as watch:
        from_us = begin(here)
        here.relay.cut()
        time.sleep(outage_s)
        here.relay.mend()
        mended_us, mended_s = now_us(), time.monotonic()
        wait_until_streaming_again(here.daemon)
        here.kill_children()
        killed_s = time.monotonic() - mended_s
        took_s = killed_s + here.wait_until_complete(from_us, mended_us, REPAIRED_S - killed_s)
        figures = check_whole_minutes(here, from_us, mended_us)
    print(
        f"cut {outage_s:.0f} s: {figures}; complete after {took_s:.0f} s, children killed after "
        f"{killed_s:.0f} s of it; {watch.samples} samples of {watch.claims} claims, {len(watch.false)} false"
    )


@pytest.mark.parametrize("fault", ["cut", "close", "deaf"])
def test_ended_connections(tmp_path: Path, servers: Servers, fault: str) -> None:
    """The venue ends every connection, rudely or politely, or only seems to be there."""
    with site(tmp_path, servers, MARKET) as here, collecting(here) as watch:
        from_us = begin(here)
        here.fault(fault)
        ended_us = now_us()
        took_s = here.wait_until_complete(from_us, ended_us, REPAIRED_S + SETTLED_US / 1e6)
        figures = check_whole_minutes(here, from_us, ended_us)
    print(f"{fault}: {figures}; complete after {took_s:.0f} s; {watch.samples} samples, {len(watch.false)} false")


@pytest.mark.parametrize("is_killed", [False, True])
def test_stopped_for_five_minutes(tmp_path: Path, servers: Servers, is_killed: bool) -> None:
    """The daemon is stopped and started; or also, while it repairs, its children are killed, and it runs again."""
    with site(tmp_path, servers, MARKET) as here, collecting(here) as watch:
        from_us = begin(here)
        stopped_us = now_us()
        assert here.daemon.command("stop").returncode == 0
        time.sleep(STOPPED_S)
        before = len(here.relay.requests)
        running_us, running_s = now_us(), time.monotonic()
        assert here.daemon.command("start").returncode == 0
        wait_until_streaming_again(here.daemon)
        if is_killed:
            time.sleep(KILL_AFTER_S)
            assert sorted(here.kill_children()) == sorted(EXCHANGES)
            running_us, running_s = now_us(), time.monotonic()
        here.wait_until_complete(from_us, running_us, REPAIRED_S * 3)
        took_s = time.monotonic() - running_s
        asked, least_s = here.kraken_requests(before), here.least_kraken_s(stopped_us, running_us)
        figures = check_whole_minutes(here, from_us, running_us)
        print(
            f"stopped for {STOPPED_S:.0f} s{', then killed' if is_killed else ''}: {figures}; complete after "
            f"{took_s:.0f} s of running again (Kraken's limit makes it {least_s:.0f} s or more, asked {asked}); "
            f"{watch.samples} samples of {watch.claims} claims, {len(watch.false)} false"
        )
        assert took_s <= REPAIRED_S
