"""The disk of the spool is full: the daemon lives and says so, and repair closes the gap that was recorded."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ohlcvd.simulator.market import MarketSettings
from tests.process.harness import wait_for
from tests.process.sites import Server, Site, collecting, run, site

# Enough to fill memory too within a minute.
MARKET = MarketSettings(rate=500, symbols=10, history_s=3600)
RESUMED = "live trades are taken again"
SUSPENDED = "live trades are left out until there is room"


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Where the spool goes: a file system of one MiB, where that is allowed to us."""
    folder.mkdir(parents=True, mode=0o700)
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", folder], check=False, capture_output=True
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            run("umount", str(folder))


def test_the_disk_of_the_spool_is_full(tmp_path: Path, database: Server, cache: Server) -> None:
    folder = tmp_path / "state" / "spool"
    with (
        small_disk(folder) as mounted,
        site(
            tmp_path, database.address, cache.address, settings=MARKET, spool_max="1GiB" if mounted else "1MiB"
        ) as here,
        collecting(here) as from_us,
    ):
        pids = here.pids()
        database.end(signal.SIGKILL)
        began_s = time.monotonic()
        wait_for("live trades are left out", lambda: here.said(SUSPENDED) >= 2, 240)
        full_s = time.monotonic() - began_s
        time.sleep(10)
        assert here.pids() == pids
        assert all(beat["state"] == "streaming" for beat in here.beats().values())
        if mounted:
            run("mount", "-o", "remount,size=64m", str(folder))
            wait_for("the spool takes rows again", lambda: here.said("spool takes rows again") >= 2, 60)
            wait_for("trades are taken again", lambda: here.said(RESUMED) >= 2, 60)
            time.sleep(5)
        database.start()
        left_out = count_left_out(here)
        figures = here.check(from_us)
        assert here.pids() == pids
    shutil.rmtree(folder, ignore_errors=True)
    print(
        f"spool on a full {'disk' if mounted else 'allowance'}: {figures}; {left_out} trades left out after "
        f"{full_s:.0f} s and fetched later"
    )
    assert left_out > 0


def count_left_out(here: Site) -> int:
    """What the daemon says at the end of it."""
    wait_for("trades are taken again", lambda: here.said(RESUMED) >= 2, 60)
    lines = [line for file in (here.daemon.folder / "log").glob("*.log") for line in file.read_text().splitlines()]
    return sum(json.loads(line)["left_out"] for line in lines if RESUMED in line)
