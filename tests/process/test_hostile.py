"""A venue that sends poison between its true frames and answers: nothing crashes, nothing false is stored."""

from pathlib import Path

from ohlcvd.simulator.market import MarketSettings
from tests.process.harness import wait_for
from tests.process.injector import ANSWERS, FRAMES, Injector
from tests.process.sites import EXCHANGES, collecting, now_us, site

MARKET = MarketSettings(rate=30, symbols=4, history_s=3600)


def test_a_hostile_venue_neither_crashes_the_daemon_nor_reaches_the_database_or_the_terminal(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    with site(tmp_path, database_url, redis_url, settings=MARKET) as here, Injector(here.exchange.url) as injector:
        text = here.daemon.file.read_text()
        text = text.replace(here.exchange.url, injector.rest_url)
        here.daemon.file.write_text(text.replace(here.exchange.url.replace("http", "ws"), injector.ws_url))
        with collecting(here, 1.0) as from_us:
            pids = here.pids()
            injector.is_hostile = True
            wait_for(
                "every poison was sent to both",
                lambda: injector.frames > 2 * len(FRAMES) and injector.answers > len(ANSWERS),
                120,
            )
            shown = here.daemon.command("status").stdout + here.daemon.command("gaps").stdout
            injector.is_hostile = False
            quiet_us = now_us()
            assert here.pids() == pids, here.daemon.warnings()
            wait_for("the venue's faults are over", lambda: now_us() > quiet_us + 5_000_000, 30)
            figures = here.check(from_us)
            assert here.pids() == pids
            rejected = {name: beat["rejected"] for name, beat in here.beats().items()}
        symbols = here.daemon.query("SELECT DISTINCT exchange, symbol FROM ohlcvd.instruments")
        assert {tuple(row) for row in symbols} == {(n, s) for n in EXCHANGES for s in here.truth.symbols(n)}
        assert all(count > 5 for count in rejected.values()), rejected
        assert_safe(shown)
        for file in (here.daemon.folder / "log").glob("*.log"):
            assert_safe(file.read_text())
            assert file.stat().st_size < 5 << 20, "poison must not fill the disk"
    print(f"{injector.frames} frames and {injector.answers} answers of poison: {figures}; rejected {rejected}")


def assert_safe(text: str) -> None:
    """Nothing that a terminal would obey."""
    odd = {char for char in text if not char.isprintable() and char != "\n"}
    assert not odd, odd
