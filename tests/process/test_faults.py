"""Each fault made once on the real daemon, one after the other: noticed, mended, and nothing of it lost.

The tests share one daemon and one exchange, and the last one compares all that was sent with all that is stored. What
was seen of each fault is in the table that the run ends with.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ohlcvd.embedded import EmbeddedServer
from ohlcvd.embedded.process import end
from ohlcvd.supervisor.control import ask
from ohlcvd.supervisor.states import Limits
from tests.clock import WallClock
from tests.faults import FaultSeen
from tests.process.harness import Daemon, Exchange, local_exchange, processes_below, started, title_of, wait_for
from tests.process.relay import Relay
from tests.process.truth import assert_all_stored
from tests.servers import is_gone, temporary_postgres, temporary_valkey

EXCHANGES = ("kraken", "binance")
BLOCKABLE = Path(__file__).parent / "blockable"
HANG_AFTER_S = 3.0  # the least that can be configured
AWAY_S = 6.0  # longer than that


@dataclass
class Here:
    """What there is to break."""

    exchange: Exchange
    relay: Relay
    postgres: EmbeddedServer
    valkey: EmbeddedServer
    daemon: Daemon
    clock: WallClock

    def children(self) -> dict[str, dict[str, Any]]:
        children: Any = ask(self.daemon.folder / "run", {"command": "status"})["children"]
        return {child["name"]: child for child in children if child["collects"]}

    def pids(self) -> dict[str, int]:
        return {name: child["pid"] for name, child in self.children().items()}

    def supervisor(self) -> int:
        return int(str(ask(self.daemon.folder / "run", {"command": "status"})["pid"]))

    def wait_until_streaming(self) -> None:
        wait_for("every child streams", lambda: {child["state"] for child in self.children().values()} == {"streaming"})

    def rows(self, name: str = "kraken") -> int:
        with psycopg.connect(self.daemon.dsn, autocommit=True) as connection:
            query = "SELECT count(*) FROM ohlcvd.named_trades WHERE exchange = %s"
            row = connection.execute(query, (name,)).fetchone()
        assert row is not None
        return int(row[0])

    def wait_for_rows(self, rows: int, name: str = "kraken") -> None:
        wait_for("more rows are stored", lambda: self.rows(name) > rows)

    def noticed_s(self, words: str, since: float) -> float:
        """When the supervisor logged a line with these words, in seconds after `since` (wall clock)."""
        return wait_for(f"a log line with {words!r}", lambda: self._logged(words, since)) - since

    def _logged(self, words: str, since: float) -> float | None:
        for line in (self.daemon.folder / "log" / "ohlcvd.log").read_text().splitlines():
            document = json.loads(line)
            at = datetime.fromisoformat(document["time"]).timestamp()
            if words in document["message"] and at >= since - 0.001:
                return at
        return None

    def mend(self, words: str, since: float) -> tuple[float, float]:
        """Kraken's child was broken at `since`: when that was noticed, and when rows were stored again."""
        noticed_s = self.noticed_s(words, since)
        rows = self.rows()  # after the last of the old process, so that more can only come from another one
        self.wait_for_rows(rows)
        return noticed_s, time.time() - since


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("faults")
    with contextlib.ExitStack() as stack:
        postgres, valkey = stack.enter_context(temporary_postgres()), stack.enter_context(temporary_valkey())
        exchange = stack.enter_context(local_exchange(folder, "--symbols", "3", "--rate", "25"))
        relay = stack.enter_context(Relay(exchange.url))
        symbols = {name: exchange.symbols(name) for name in EXCHANGES}
        daemon = Daemon(
            folder, exchange, symbols, dsn=postgres.address, url=valkey.address, rest_url=relay.rest_url,
            ws_url=relay.ws_url,
        )  # fmt: skip
        text = daemon.file.read_text()
        daemon.file.write_text(text.replace("[ohlcvd]\n", f"[ohlcvd]\nhang_after = {HANG_AFTER_S:.0f}s\n"))
        daemon.environ["PYTHONPATH"] = f"{BLOCKABLE}:{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parents[2]}"
        clock = WallClock(folder)
        for name, text in clock.environ.items():
            daemon.environ[name] = f"{text}:{daemon.environ[name]}" if name in daemon.environ else text
        site = Here(exchange, relay, postgres, valkey, daemon, clock)
        stack.enter_context(started(daemon))
        site.wait_until_streaming()
        yield site


@pytest.fixture(autouse=True)
def settled(here: Here) -> dict[str, int]:
    """Everything streams before the next fault; the pids then."""
    here.wait_until_streaming()
    return here.pids()


def test_killed_child(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    since = time.time()
    os.kill(settled["kraken"], signal.SIGKILL)
    noticed_s, storing_s = here.mend("kraken ended: signal 9", since)
    assert noticed_s < 2.0
    assert here.pids()["binance"] == settled["binance"]
    fault_seen("child killed (kill -9)", noticed_s, storing_s, "its sibling untouched")


def test_stopped_child(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    assert Limits().beat_timeout_s == 15.0
    since = time.time()
    os.kill(settled["kraken"], signal.SIGSTOP)
    noticed_s, storing_s = here.mend("kraken is silent, will be killed", since)
    assert noticed_s < HANG_AFTER_S + 2.0
    assert here.pids()["binance"] == settled["binance"]
    fault_seen("child stopped (SIGSTOP)", noticed_s, storing_s, "hang_after = 3s (15s by default); killed")


def test_blocked_loop(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    since = time.time()
    os.kill(settled["kraken"], signal.SIGRTMIN)
    noticed_s, storing_s = here.mend("kraken is silent, will be killed", since)
    assert noticed_s < HANG_AFTER_S + 2.0
    lines = [json.loads(line) for line in (here.daemon.folder / "log" / "kraken.log").read_text().splitlines()]
    stacks = [line["stacks"] for line in lines if "stacks" in line]
    assert len(stacks) == 1
    assert "in _block" in stacks[0]
    assert "in run_forever" in stacks[0]
    fault_seen("event loop blocked", noticed_s, storing_s, "hang_after = 3s; stacks in kraken.log, then killed")


@pytest.mark.parametrize(("fault", "words"), [("cut", {}), ("silence", {"value": 8})])
def test_connections(
    here: Here, settled: dict[str, int], fault_seen: FaultSeen, fault: str, words: dict[str, object]
) -> None:
    """The child mends these itself."""
    reconnects = here.children()["kraken"]["counters"]["reconnects"]
    since = time.time()
    here.exchange.post("fault", {"fault": fault, "exchange": "kraken", **words})
    wait_for("kraken reconnects", lambda: here.children()["kraken"]["counters"]["reconnects"] > reconnects)
    noticed_s = time.time() - since
    rows = here.rows()
    here.wait_for_rows(rows)
    assert here.pids() == settled
    name = {"cut": "connections cut", "silence": "sockets silent for 8 s"}[fault]
    fault_seen(name, noticed_s, time.time() - since, "the child reconnects by itself; nobody restarted")


def test_exchange_away(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    since = time.time()
    here.relay.cut()
    wait_for("children see it", lambda: "streaming" not in {child["state"] for child in here.children().values()})
    noticed_s = time.time() - since
    time.sleep(AWAY_S)
    here.relay.mend()
    mended = time.time()
    here.wait_until_streaming()
    here.wait_for_rows(here.rows())
    assert here.pids() == settled
    fault_seen("exchanges away for 6 s", noticed_s, time.time() - mended, "time after their return; nobody restarted")


def test_database_away(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    with _away(here.postgres):
        backlog = here.children()["kraken"]["counters"]["backlog"]
        since = time.time()
        wait_for("rows wait", lambda: here.children()["kraken"]["counters"]["backlog"] > backlog)
        noticed_s = time.time() - since
        time.sleep(AWAY_S)
        assert {child["state"] for child in here.children().values()} == {"streaming"}
    back = time.time()
    here.wait_for_rows(here.rows())
    assert here.pids() == settled
    fault_seen("database away for 6 s", noticed_s, time.time() - back, "time after its return; nobody restarted")


def test_redis_away(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    with _away(here.valkey):
        time.sleep(AWAY_S)
        since = time.time()
        here.wait_for_rows(here.rows())
        storing_s = time.time() - since
    assert here.pids() == settled
    with contextlib.closing(here.daemon.redis()) as client:
        wait_for("its beat is in redis again", lambda: client.get("ohlcvd:heartbeat:kraken"))
    fault_seen("redis away for 6 s", None, storing_s, "rows went on being stored; nobody restarted")


@pytest.mark.parametrize("hours", [1, -1])
def test_clock_set(here: Here, settled: dict[str, int], fault_seen: FaultSeen, hours: int) -> None:
    """Forward, rows go on being stored; back, trades seem to come from the future, and are fetched when it is right."""
    here.clock.set(hours * 3600)
    try:
        time.sleep(AWAY_S)
        started_at: Any = ask(here.daemon.folder / "run", {"command": "status"})["children"]
        shift_s = datetime.fromisoformat(started_at[0]["since"]).timestamp() - time.time()
        assert abs(shift_s - hours * 3600) < 1000, "the clock was not set"
        if hours > 0:
            here.wait_for_rows(here.rows())
    finally:
        here.clock.set(0)
    since = time.time()
    here.wait_for_rows(here.rows())
    assert here.pids() == settled
    fault_seen(f"clock set by {hours:+} h for 6 s", None, time.time() - since, "after it is right; nobody restarted")


def test_paused_supervisor(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    pid = here.supervisor()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(AWAY_S)
    since = time.time()
    os.kill(pid, signal.SIGCONT)
    noticed_s = here.noticed_s("the supervisor was paused", since)
    here.wait_for_rows(here.rows())
    time.sleep(1.5)
    assert here.pids() == settled
    fault_seen("supervisor paused for 6 s", noticed_s, None, "nobody killed")


def test_killed_supervisor(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    since = time.time()
    os.kill(here.supervisor(), signal.SIGKILL)
    wait_for("its children are gone", lambda: all(is_gone(pid) for pid in settled.values()), 2.0)
    gone_s = time.time() - since
    again = here.daemon.command("start")
    assert again.returncode == 0, again.stderr
    rows = here.rows()
    here.wait_for_rows(rows)
    fault_seen("supervisor killed (kill -9)", gone_s, time.time() - since, "its children gone; started again at once")


def test_reload_adds_a_symbol(here: Here, settled: dict[str, int], fault_seen: FaultSeen) -> None:
    """The new one stores, and no connection of the others was opened again."""
    text, names = here.daemon.file.read_text(), here.exchange.symbols("kraken")
    here.daemon.file.write_text(text.replace(", ".join(names), ", ".join(names[1:]), 1))
    assert here.daemon.command("reload").returncode == 0
    before = here.children()
    here.daemon.file.write_text(text)
    since = time.time()
    done = here.daemon.command("reload")
    assert (done.returncode, done.stdout) == (0, "ohlcvd: updated: kraken\n")
    query = "SELECT count(*) FROM ohlcvd.named_trades WHERE exchange = 'kraken' AND symbol = %s AND ts > now()"
    query = query.replace("now()", f"to_timestamp({since})")
    wait_for("the new symbol stores", lambda: here.daemon.query(query, names[0])[0][0])
    storing_s = time.time() - since
    after = here.children()
    for name in EXCHANGES:
        assert after[name]["pid"] == before[name]["pid"]
        assert after[name]["counters"]["reconnects"] == before[name]["counters"]["reconnects"]
    fault_seen("reload adds a symbol", None, storing_s, "same processes, no reconnect")


def test_reload_splits_an_exchange(here: Here, settled: dict[str, int]) -> None:
    text = here.daemon.file.read_text()
    here.daemon.file.write_text(text.replace("[exchange:binance]\n", "[exchange:binance]\nshards = 2\n"))
    done = here.daemon.command("reload")
    assert (done.returncode, done.stdout) == (
        0,
        "ohlcvd: started: binance/1, binance/2\nohlcvd: stopped: binance\n",
    )
    wait_for("there are shards", lambda: set(here.pids()) == {"kraken", "binance/1", "binance/2"})
    wait_for("they are ready", lambda: {c["state"] for c in here.children().values()} <= {"ready", "streaming"})
    pids = here.pids()
    assert pids["kraken"] == settled["kraken"]
    assert title_of(pids["binance/2"]) == "ohlcvd: binance/2"
    with contextlib.closing(here.daemon.redis()) as client:
        wait_for("both beat in redis", lambda: all(client.get(f"ohlcvd:heartbeat:binance/{n}") for n in (1, 2)))
    assert (here.daemon.folder / "log" / "binance-2.log").exists()
    here.wait_for_rows(here.rows("binance"), "binance")
    here.daemon.file.write_text(text)
    assert here.daemon.command("reload").returncode == 0
    wait_for("one child again", lambda: set(here.pids()) == {"kraken", "binance"})


def test_a_wrong_configuration_is_told_and_changes_nothing(here: Here, settled: dict[str, int]) -> None:
    text = here.daemon.file.read_text()
    here.daemon.file.write_text(text + "[nonsense]\n")
    done = here.daemon.command("reload")
    assert done.returncode == 78
    assert "unknown section [nonsense]" in done.stderr
    assert done.stderr.count("\n") == 1
    here.daemon.file.write_text(text.replace("[ohlcvd]\n", "[ohlcvd]\ngrace = 25s\n"))
    done = here.daemon.command("reload")
    assert (done.returncode, done.stdout) == (0, "ohlcvd: nothing has changed for any child\n")
    assert "grace is changed" in done.stderr
    here.daemon.file.write_text(text)
    assert here.daemon.command("log-level", "debug", "kraken").stdout == "ohlcvd: logging at DEBUG: kraken\n"
    assert here.pids() == settled


def test_in_the_end_nothing_is_lost_and_nothing_is_left(here: Here, settled: dict[str, int]) -> None:
    here.exchange.post("freeze")
    wait_for("everything sent is stored", lambda: _is_complete(here), 90)
    assert here.daemon.command("stop").returncode == 0
    left = [line for line in processes_below(here.daemon.folder) if "simulate" not in line]
    assert left == []
    for file in (here.daemon.folder / "log").glob("*.log"):
        for line in file.read_text().splitlines():
            assert {"time", "level", "component", "message"} <= set(json.loads(line)), line


def _is_complete(here: Here) -> bool:
    try:
        for name in EXCHANGES:
            for symbol in here.exchange.symbols(name):
                assert_all_stored(here.daemon, here.exchange, name, symbol)
    except AssertionError:
        return False
    return True


@contextlib.contextmanager
def _away(server: EmbeddedServer) -> Iterator[None]:
    """The server ends at once, and is there again after the block."""
    assert end(server.pid, ((signal.SIGQUIT, 20.0), (signal.SIGKILL, 5.0)))
    try:
        yield
    finally:
        server.spawn()
        ready: Callable[[], bool] = server.is_ready
        wait_for(f"{server.name} is back", ready)
