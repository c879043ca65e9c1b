"""Faults with every setting as it is by default, and those that take a minute to be noticed.

One daemon for all of it; one of its children is a shard that has no symbol. The last test compares everything.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from ohlcvd.simulator.market import MarketSettings
from ohlcvd.supervisor.control import ask
from ohlcvd.supervisor.health import SETTLED_S, STALE_S
from ohlcvd.supervisor.states import Limits
from tests.faults import FaultSeen
from tests.process.harness import wait_for
from tests.process.sites import Server, Site, collecting, postgres, site, valkey

MARKET = MarketSettings(rate=60, symbols=1, history_s=3600)
PAUSED_S = 60.0


@dataclass(frozen=True, slots=True)
class Here:
    site: Site
    postgres: Server
    valkey: Server
    from_us: int

    def status(self) -> dict[str, Any]:
        return ask(self.site.daemon.folder / "run", {"command": "status"}, 30.0)

    def children(self) -> dict[str, dict[str, Any]]:
        return {child["name"]: child for child in self.status()["children"] if child["collects"]}

    def pids(self) -> dict[str, int]:
        return {name: child["pid"] for name, child in self.children().items()}

    def rows(self) -> int:
        query = "SELECT count(*) FROM ohlcvd.named_trades WHERE exchange = 'kraken'"
        return int(self.site.daemon.query(query)[0][0])

    def said_at(self, words: str, since: float, file: str = "ohlcvd.log") -> float | None:
        """When the first line with these words was logged after `since`."""
        for line in (self.site.daemon.folder / "log" / file).read_text().splitlines():
            document = json.loads(line)
            at = datetime.fromisoformat(document["time"]).timestamp()
            if words in document["message"] and at >= since - 0.001:
                return at
        return None

    def mended(self, words: str, since: float) -> tuple[float, float]:
        """Kraken's child was broken at `since`: when that was noticed, and when another one stored rows."""
        noticed = wait_for(words, lambda: self.said_at(words, since))
        wait_for("its process has ended", lambda: self.said_at("kraken ended", since))
        rows = self.rows()
        wait_for("rows are stored again", lambda: self.rows() > rows)
        return noticed - since, time.time() - since


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with contextlib.ExitStack() as stack:
        database, cache = stack.enter_context(postgres()), stack.enter_context(valkey())
        folder = tmp_path_factory.mktemp("production")
        where = stack.enter_context(
            site(folder, database.address, cache.address, settings=MARKET, extra="shards = 2\n")
        )
        from_us = stack.enter_context(collecting(where))
        yield Here(where, database, cache, from_us)


@pytest.fixture(autouse=True)
def settled(here: Here) -> dict[str, int]:
    """Everything streams, and is well, before the next fault; the pids then."""
    here.site.daemon.wait_until_streaming()
    wait_for("all is well", lambda: here.site.daemon.status()["healthy"])
    return here.pids()


def test_a_shard_without_a_symbol_is_well(here: Here, settled: dict[str, int]) -> None:
    children = here.children()
    assert set(children) == {"kraken", "binance/1", "binance/2"}
    assert sorted(children[name]["counters"]["streams"] for name in ("binance/1", "binance/2")) == [0, 2]


def test_stopped_child(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    limit_s = Limits().beat_timeout_s
    assert limit_s == 15.0
    since = time.time()
    os.kill(settled["kraken"], signal.SIGSTOP)
    noticed_s, storing_s = here.mended("kraken is silent, will be killed", since)
    assert limit_s - 2.0 < noticed_s < limit_s + 2.0
    assert {**here.pids(), "kraken": 0} == {**settled, "kraken": 0}
    fault_seen("child stopped, hang_after by default", noticed_s, storing_s, "killed; the others untouched")


def test_paused_supervisor(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    pid = here.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(PAUSED_S)
        rows = here.rows()
        wait_for("rows go on being stored", lambda: here.rows() > rows)
    finally:
        since = time.time()
        os.kill(pid, signal.SIGCONT)
    noticed = wait_for("it says so", lambda: here.said_at("the supervisor was paused", since))
    time.sleep(Limits().beat_timeout_s + 2.0)
    assert here.pids() == settled
    fault_seen(f"supervisor paused for {PAUSED_S:.0f} s", noticed - since, None, "nobody killed")


def test_a_child_whose_beat_in_redis_is_stale(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    """Redis answers everybody and refuses one child's heartbeat only: the monitor sees it, the supervisor acts."""
    time.sleep(SETTLED_S)
    since = time.time()
    with contextlib.closing(redis.Redis.from_url(here.valkey.address)) as client:
        others = ("%R~*", "~ohlcvd:heartbeat:[^k]*", "~ohlcvd:[^h]*", "~process:*")
        client.execute_command("ACL", "SETUSER", "default", "resetkeys", *others)  # type: ignore[no-untyped-call]
        try:
            noticed_s, storing_s = here.mended("kraken is unhealthy", since)
        finally:
            client.execute_command("ACL", "SETUSER", "default", "allkeys")  # type: ignore[no-untyped-call]
    said = here.said_at("kraken beats over its pipe but not in redis", since, "monitor.log")
    assert said is not None
    assert STALE_S < noticed_s < STALE_S + 10.0
    pids = here.pids()
    assert pids["kraken"] != settled["kraken"]
    assert {**pids, "kraken": 0} == {**settled, "kraken": 0}
    fault_seen(
        "a child's beat in redis refused", noticed_s, storing_s, f"the monitor saw it after {said - since:.1f} s"
    )
    time.sleep(SETTLED_S + STALE_S)
    assert here.pids() == pids, "its beat is there again, and it is left alone"


def test_shards_change_while_the_database_is_away(here: Here, settled: dict[str, int]) -> None:
    """What the old ones leave on disk is stored by the new one, which says what it waits for."""
    daemon, spools = here.site.daemon, here.site.daemon.folder / "state" / "spool"
    here.postgres.end(signal.SIGINT)
    wait_for("rows wait on disk", lambda: any(spools.glob("binance-*/*.spool")))
    daemon.file.write_text(daemon.file.read_text().replace("shards = 2", "shards = 1"))
    assert daemon.command("reload").returncode == 0
    wait_for("the shards have ended", lambda: set(here.pids()) == {"kraken", "binance"})
    assert any(spools.glob("binance-*/*.spool"))
    waits = {
        "what": "not collecting yet",
        "reason": "postgresql is away",
        "action": "it begins when that is back and fetches what it missed",
    }
    wait_for("it says what it waits for", lambda: _problem(here, "binance") == waits)
    here.postgres.start()
    daemon.wait_until_streaming()
    wait_for("nothing waits on disk", lambda: not list(Path(spools).rglob("*.spool")))
    assert here.site.said("the rows that binance-1 left are stored") + here.site.said(
        "the rows that binance-2 left are stored"
    )


def test_in_the_end_nothing_is_lost(here: Here, settled: dict[str, int]) -> None:
    print(here.site.check(here.from_us))


def _problem(here: Here, subject: str) -> dict[str, Any] | None:
    for problem in here.site.daemon.status()["problems"]:
        if problem["subject"] == subject and problem["reason"] is not None:
            return {name: problem[name] for name in ("what", "reason", "action")}
    return None
