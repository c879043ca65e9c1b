"""The database and Redis go away under the real daemon, and nothing is lost, blocked, open to others, or told."""

import os
import signal
import stat
import time
from pathlib import Path

from psycopg.conninfo import make_conninfo

from ohlcvd.errors import Exit
from ohlcvd.simulator.market import MarketSettings
from tests.database.support import query
from tests.process.harness import Daemon, local_exchange, started, wait_for
from tests.process.sites import collecting, postgres, site, valkey, wait_streaming

MARKET = MarketSettings(rate=40, symbols=4, history_s=3600)
SECRET = "pl4nted-Secret"


def test_killed_servers_a_killed_child_and_a_stop_meanwhile_lose_nothing(tmp_path: Path) -> None:
    with (
        postgres() as database,
        valkey() as cache,
        site(tmp_path, database.address, cache.address, settings=MARKET) as here,
        collecting(here, 1.0) as from_us,
    ):
        pids = here.pids()
        database.end(signal.SIGKILL)
        cache.end(signal.SIGKILL)
        wait_for("both spool", lambda: here.said("rows go to the spool") >= 2, 60)
        for folder in ("spool", "spool/kraken", "spool/binance"):
            path = here.daemon.folder / "state" / folder
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        os.kill(pids["binance"], signal.SIGKILL)
        began_s = time.monotonic()
        assert here.daemon.command("stop").returncode == 0
        assert time.monotonic() - began_s < 30
        assert here.said("drained into the spool") >= 1
        assert here.daemon.command("start").returncode == 0
        database.start()
        cache.start()
        wait_streaming(here)
        wait_for("what the spools held is stored", lambda: here.said("spool is stored and empty") >= 2, 60)
        figures = here.check(from_us)
        left = [*(here.daemon.folder / "state" / "spool").rglob("*.spool")]
        assert left == []
    print(figures)


def test_a_role_without_rights_parks_the_child_and_the_grant_is_named(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    query(database_url, "CREATE ROLE lacking LOGIN")
    try:
        with local_exchange(tmp_path, "--symbols", "2", "--rate", "5") as exchange:
            dsn = make_conninfo(database_url, user="lacking")
            daemon = Daemon(tmp_path, exchange, {"kraken": exchange.symbols("kraken")}, dsn=dsn, url=redis_url)
            answer = daemon.command("run")
            assert answer.returncode == Exit.CONFIG, answer.stdout + answer.stderr
            said = (tmp_path / "log" / "kraken.log").read_text()
            assert "GRANT CREATE ON DATABASE" in said
            assert "Traceback" not in said + answer.stdout + answer.stderr
    finally:
        query(database_url, "DROP OWNED BY lacking; DROP ROLE lacking")


def test_a_password_is_never_told(tmp_path: Path) -> None:
    """It is planted, errors are forced, and everything that was produced is looked through."""
    with (
        postgres() as database,
        local_exchange(tmp_path, "--symbols", "2", "--rate", "20") as exchange,
    ):
        dsn = f"{database.address} password={SECRET}-database"
        url = f"unix://:{SECRET}-redis@{tmp_path}/none.sock"
        daemon = Daemon(tmp_path, exchange, {"kraken": exchange.symbols("kraken")}, dsn=dsn, url=url)
        daemon.file.chmod(0o644)
        told: list[str] = []
        with started(daemon):
            daemon.wait_until_streaming()
            database.end(signal.SIGKILL)
            for words in (("status",), ("status", "--json"), ("gaps",), ("check-config",), ("verify", "kraken", "X/Y")):
                answer = daemon.command(*words)
                told += [answer.stdout, answer.stderr]
            log = tmp_path / "log" / "kraken.log"
            wait_for("the outage is told", lambda: "does not take rows" in log.read_text(), 60)
            told += titles()
            for path in (tmp_path / "run" / "control.sock", tmp_path / "state" / "spool", tmp_path / "run"):
                assert not stat.S_IMODE(path.stat().st_mode) & 0o007, path
            database.start()
        wrong = dsn.replace("password", "hostaddr=127.0.0.1 port=1 password")
        broken = Daemon(tmp_path, exchange, {"kraken": ["BTC/USD"]}, dsn=wrong, url=url)
        answer = broken.command("gaps")
        told += [answer.stdout, answer.stderr]
        broken.file.write_text(broken.file.read_text().replace("password=", "passwort="))
        told += [broken.command("gaps").stdout, broken.command("check-config").stderr]
        told += [path.read_text(errors="replace") for path in (tmp_path / "log").iterdir()]
        told += [path.read_text(errors="replace") for path in (tmp_path / "run").iterdir() if path.is_file()]
        leaks = [text[max(0, text.index(SECRET) - 200) :][:300] for text in told if SECRET in text]
        assert leaks == []
        assert any("every user of this machine can read it" in text for text in told)


def titles() -> list[str]:
    """Of every process of this machine that we may read."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return found
