"""Three days of history into an empty database, killed five times on the way: complete, and hardly anything twice."""

import random
import time
from pathlib import Path

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.market import behind
from tests.long.repair.support import EXCHANGES, Servers, Site, now_us, site, wait_until_streaming_again
from tests.process.harness import started

# Few enough trades that the venues' own limits allow all of it in minutes; enough of them that what a kill costs, about
# half a page for each market (the last page before what is covered reaches into it), is little beside them.
MARKET = MarketSettings(rate=0.9, symbols=5, history_s=3 * 86_400 + 3600)
KILLS = 5
AT_MOST_S = 600.0
ALLOWED = 1.1  # rows fetched for each that has to be


def test_three_days_of_history_killed_five_times(tmp_path: Path, servers: Servers) -> None:
    seed = time.time_ns() % 1_000_000
    rng = random.Random(seed)
    with site(tmp_path, servers, MARKET, since="3d") as here, started(here.daemon):
        here.daemon.wait_until_streaming()
        began_s = time.monotonic()
        wanted_us = {name: wanted_from(here, name) for name in EXCHANGES}
        from_us, to_us = max(wanted_us.values()), now_us()
        kills = 0
        for share in sorted(rng.uniform(0.02, 0.75) for _ in range(KILLS)):
            wait_until_share(here, share, from_us, to_us)
            if behind(here.daemon, from_us, to_us):
                here.kill_children()
                kills += 1
                wait_until_streaming_again(here.daemon)
        here.wait_until_complete(from_us, to_us, AT_MOST_S)
        took_s = time.monotonic() - began_s
        figures = here.assert_all_there(from_us, to_us)
        least, fetched = least_rows(here, wanted_us, to_us), fetched_rows(here)
        ratio = sum(fetched.values()) / sum(least.values())
        rows = ", ".join(f"{' '.join(key)} {fetched[key]} of {least[key]}" for key in least)
        print(
            f"history: {figures}; seed {seed}, {kills} kills, complete after {took_s:.0f} s; rows fetched: {ratio:.3f} "
            f"of those needed ({rows})"
        )
        assert kills == KILLS
        assert ratio <= ALLOWED, rows


def wanted_from(here: Site, name: str) -> int:
    rows = here.daemon.query(
        """
        SELECT DISTINCT (extract(epoch FROM c.wanted_from) * 1000000)::bigint FROM ohlcvd.coverage c
        JOIN ohlcvd.instruments i ON i.id = c.instrument_id WHERE i.exchange = %s
        """,
        name,
    )
    assert len(rows) == 1, rows
    return int(rows[0][0])


def wait_until_share(here: Site, share: float, from_us: int, to_us: int) -> None:
    """Until so much of the history is claimed, by time and over all markets."""
    deadline_s = time.monotonic() + AT_MOST_S
    wanted_s = (to_us - from_us) / 1e6
    while True:
        ((markets, covered_s),) = here.daemon.query(
            """
            SELECT count(*), sum((SELECT sum(extract(epoch FROM upper(part) - lower(part))) FROM unnest(covered) part))
            FROM ohlcvd.coverage
            """
        )
        if float(covered_s or 0) >= share * markets * wanted_s:
            return
        assert time.monotonic() < deadline_s, f"{share:.0%} of the history not there after {AT_MOST_S:.0f} s"
        time.sleep(0.2)


def fetched_rows(here: Site) -> dict[tuple[str, str], int]:
    return {(name, kind): here.relay.rows(kind, name) for name in EXCHANGES for kind in ("trades", "candles")}


def least_rows(here: Site, wanted_us: dict[str, int], to_us: int) -> dict[tuple[str, str], int]:
    """Every trade once; every minute once, where the venue still has it."""
    rows = {}
    for name, from_us in wanted_us.items():
        symbols = here.truth.symbols(name)
        spans = [here.truth.ids(name, symbol, from_us, to_us) for symbol in symbols]
        rows[name, "trades"] = sum(end - start for start, end in spans)
        minutes = (to_us - from_us) // MINUTE_US
        rows[name, "candles"] = len(symbols) * (min(minutes, 720) if name == "kraken" else minutes)
    return rows
