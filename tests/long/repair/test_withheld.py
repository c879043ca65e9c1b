"""Ids that a venue never gives are asked for a few times, then recorded with evidence, and left alone."""

import time
from pathlib import Path

from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.support import EXCHANGES, Servers, Site, collecting, now_us, site, wait_until_streaming_again
from tests.process.harness import wait_for

MARKET = MarketSettings(rate=30, symbols=5, history_s=7200)
QUIET_S = 40.0


def test_withheld_ids_are_shown_with_evidence_and_left_alone(tmp_path: Path, servers: Servers) -> None:
    with site(tmp_path, servers, MARKET) as here:
        first = {name: here.truth.symbols(name)[1] for name in EXCHANGES}
        with collecting(here):
            for name, symbol in first.items():
                here.fault("withhold", exchange=name, symbol=symbol, value=3)
            began_s = time.monotonic()
            expected = {(name, symbol, "trades", ids_of(here, name, symbol)) for name, symbol in first.items()}
            wait_for("exactly the withheld ids are recorded", lambda: evidence(here) == expected, 90)
            took_s = time.monotonic() - began_s
            answer = here.daemon.command("gaps")
            assert answer.returncode == 1
            assert all(ids in answer.stdout for *_, ids in expected), answer.stdout
            gaps = here.gaps()
            assert all(gap["reason"] == "unfillable" and gap["length_s"] < 30 for gap in gaps), gaps
            for gap in gaps:
                assert gap["evidence"]["asked"], gap
                assert gap["evidence"]["answered"], gap
                assert 3 <= gap["evidence"]["attempts"] <= 4, gap
            before = requests_for_trades(here)
            time.sleep(QUIET_S)
            after = requests_for_trades(here)
            assert after == before, f"asked {after - before} times more"
            assert here.daemon.command("restart").returncode == 0
            wait_until_streaming_again(here.daemon)
            to_us = now_us()
            wait_for(
                "the restart's own gap is filled", lambda: now_us() > to_us + 15e6 and evidence(here) == expected, 90
            )
            attempts = [gap["evidence"]["attempts"] for gap in here.gaps()]
            assert attempts == [gap["evidence"]["attempts"] for gap in gaps]
    print(
        f"withheld: {sorted(ids for *_, ids in expected)} recorded after {took_s:.0f} s and {attempts} attempts, "
        f"{after - before} requests for them in the {QUIET_S:.0f} s after, attempts unchanged by a restart"
    )


def ids_of(here: Site, name: str, symbol: str) -> str:
    ((start, end),) = here.exchange.get("status")["exchanges"][name]["withheld"][symbol]
    return f"{start}-{end - 1}"


def evidence(here: Site) -> set[tuple[str, str, str, str]]:
    """(exchange, symbol, kind, ids) of everything missing; what was not asked in vain yet has ids "not asked"."""
    return {
        (gap["exchange"], gap["symbol"], gap["kind"], (gap["evidence"] or {"ids": "not asked"})["ids"] or "")
        for gap in here.gaps()
    }


def requests_for_trades(here: Site) -> int:
    return sum(one.kind == "trades" for one in here.relay.requests)
