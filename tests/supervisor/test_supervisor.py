"""The supervisor as a real process: its children are really killed, stopped, blocked, and counted."""

import json
import os
import re
import signal
import socket
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from ohlcvd.supervisor import health, restart
from ohlcvd.supervisor.control import SOCKET_NAME, ask
from ohlcvd.supervisor.restart import FIRST_RESTART_S, STARTS
from ohlcvd.supervisor.states import Limits
from tests.clock import WallClock
from tests.faults import FaultSeen
from tests.supervisor.running import Running, alive, supervisor, wait_for

ORDINARY_USER = 65534


def test_killed_child_is_back_and_its_sibling_untouched() -> None:
    with supervisor(children={"kraken": "beats", "binance/1": "beats"}) as running:
        running.wait_state("kraken", "streaming")
        running.wait_state("binance/1", "streaming")
        victim, sibling = running.pid("kraken"), running.pid("binance/1")
        killed_at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(running.starts("kraken")) == 2)
        back_s = running.starts("kraken")[1] - killed_at
        assert back_s < 3.0
        assert FIRST_RESTART_S == 0.3
        again = running.wait_state("kraken", "streaming")
        assert again["pid"] not in (victim, sibling)
        assert again["restarts"] == 1
        assert again["last_exit"] == "signal 9 (SIGKILL)"
        assert running.pid("binance/1") == sibling
        assert running.child("binance/1")["restarts"] == 0
        assert running.end() == 0


def test_status_tells_what_runs() -> None:
    with supervisor(children={"kraken": "beats"}, servers={"valkey": "sleeps"}) as running:
        wait_for(lambda: running.child("kraken")["counters"].get("commits", 0) > 3)
        status = running.status()
        assert status["pid"] == running.process.pid
        assert status["service"] == "both"
        assert status["state"] == "running"
        (child,) = status["children"]
        assert child["beat_age_s"] < 1.5
        assert child["uptime_s"] > 0
        assert child["since"].endswith("Z")
        assert Path(f"/proc/{child['pid']}/cmdline").read_bytes().startswith(b"ohlcvd: kraken")
        (server,) = status["servers"]
        assert (server["name"], server["state"]) == ("valkey", "ready")


def test_term_drains_the_children_then_stops_the_servers() -> None:
    with supervisor(children={"slow": "drains_slowly", "quick": "beats"}, servers={"s": "sleeps"}) as running:
        running.wait_state("slow", "streaming")
        running.wait_state("s", "ready")
        family = running.pids()
        assert running.end() == 0
        assert not any(alive(pid) for pid in family)
        drained = running.folder / "slow.drained"
        assert drained.exists()
        assert float((running.folder / "s.ended").read_text()) > drained.stat().st_mtime - 0.1
        assert not (running.folder / SOCKET_NAME).exists()


def test_child_that_ignores_term_is_killed_after_the_grace_period() -> None:
    with supervisor(children={"deaf": "ignores_term"}, grace_s=1.0) as running:
        running.wait_state("deaf", "streaming")
        asked_at = time.monotonic()
        assert running.end() == 0
        assert 0.9 < time.monotonic() - asked_at < 4.0


def test_second_term_ends_everything_at_once() -> None:
    with supervisor(children={"deaf": "ignores_term", "slow": "drains_slowly"}, grace_s=60.0) as running:
        running.wait_state("deaf", "streaming")
        running.send(signal.SIGTERM)
        running.wait_state("deaf", "draining")
        assert running.end(signal.SIGINT, timeout_s=3.0) == 0


def test_killed_supervisor_leaves_nothing() -> None:
    with supervisor(children={"deaf": "ignores_term", "b": "beats"}, servers={"s": "sleeps"}) as running:
        running.wait_state("deaf", "streaming")
        family = running.pids()
        assert len(family) == 3
        running.process.kill()
        running.process.wait()
        wait_for(lambda: not any(alive(pid) for pid in family), timeout_s=10.0)


def test_twelve_crashing_children_never_start_faster_than_the_limit() -> None:
    names = [f"c{number}" for number in range(12)]
    with supervisor(children={**dict.fromkeys(names, "crashes"), "good": "beats"}, hasty=True) as running:
        good = running.pid("good")
        wait_for(lambda: len(running.starts()) > 12 + 1 + 12)
        first: set[float] = {running.starts(name)[0] for name in names}  # the first starts are no restarts
        again = [at for at in running.starts() if at not in first and at not in running.starts("good")]
        for at in again:
            assert len([other for other in again if at <= other <= at + 1.0]) <= STARTS
        assert running.pid("good") == good


def test_child_that_heals_recovers_alone() -> None:
    with supervisor(children={"sick": "crashes_three_times", "b": "beats"}, hasty=True) as running:
        sibling = running.pid("b")
        row = running.wait_state("sick", "streaming", timeout_s=30.0)
        assert row["restarts"] == 3
        assert row["failures"] == 3
        assert row["last_exit"] == "signal 11 (SIGSEGV)"
        assert running.pid("b") == sibling
        dumps = [line for line in running.log() if "stacks" in line]
        assert "crashes_three_times" in dumps[0]["stacks"]


def test_refused_configuration_parks_the_child_only() -> None:
    with supervisor(children={"bad": "refuses", "b": "beats"}) as running:
        row = running.wait_state("bad", "parked")
        assert row["pid"] is None
        assert row["last_exit"] == "exit code 78 (config)"
        running.wait_state("b", "streaming")
        assert len(running.starts("bad")) == 1
        assert running.end() == 0


def test_nothing_left_to_collect_is_the_supervisors_own_78() -> None:
    with supervisor(children={"a": "refuses", "b": "refuses"}, servers={"s": "sleeps"}) as running:
        assert running.process.wait(10) == 78


def test_exception_in_a_child_is_logged_and_is_exit_70() -> None:
    with supervisor(children={"broken": "raises"}) as running:
        wait_for(lambda: running.child("broken")["last_exit"] == "exit code 70 (bug)")
        (line, *_) = [line for line in running.log() if "exception" in line]
        assert "broken on purpose" in line["exception"]
        assert line["component"] == "ohlcvd.broken"


def test_five_deaths_are_an_alarm_with_reasons() -> None:
    with supervisor(children={"c": "crashes"}, hasty=True) as running:
        wait_for(lambda: any(line["level"] == "ERROR" and "reasons" in line for line in running.log()), 40.0)
        (line, *_) = [line for line in running.log() if "reasons" in line]
        assert line["reasons"] == ["exit code 3 (not running)"] * 5


def test_stopped_child_is_noticed_and_killed() -> None:
    assert Limits().beat_timeout_s == 15.0
    with supervisor(children={"a": "beats", "b": "beats"}, beat_timeout_s=1.0) as running:
        running.wait_state("a", "streaming")
        sibling, victim = running.pid("b"), running.pid("a")
        stopped_at = time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        wait_for(lambda: running.child("a")["pid"] not in (victim, None))
        assert 1.0 < time.monotonic() - stopped_at < 5.0
        assert not alive(victim)
        assert running.pid("b") == sibling
        assert any("a is silent, will be killed: no beat for 1." in text for text in running.messages())


def test_blocked_child_leaves_its_stacks() -> None:
    with supervisor(children={"a": "blocks"}, beat_timeout_s=1.0) as running:
        wait_for(lambda: len(running.starts("a")) == 2)
        running.wait_state("a", "streaming")
        (line,) = [json.loads(line) for line in (running.folder / "a.log").read_text().splitlines()]
        assert "in blocks" in line["stacks"]
        assert line["level"] == "ERROR"
        assert any("a left its stacks" in text and "a.log" in text for text in running.messages())


def test_child_that_never_becomes_ready_is_restarted(fault_seen: FaultSeen) -> None:
    assert Limits().ready_timeout_s == 60.0
    with supervisor(children={"a": "starts_for_ever"}, ready_timeout_s=1.0) as running:
        wait_for(lambda: len(running.starts("a")) == 2)
        noticed_s = running.said_s("a did not become ready")
        fault_seen("never ready", noticed_s, None, "ready_timeout_s = 1 (60 by default); restarted")


def test_paused_supervisor_kills_nobody(fault_seen: FaultSeen) -> None:
    with supervisor(children={"a": "beats", "b": "beats"}, beat_timeout_s=1.0) as running:
        running.wait_state("a", "streaming")
        pids = sorted(running.pids())
        for pid in [running.process.pid, *pids]:  # the whole machine, as it were: the children beat for nobody
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3.3)
        running.send(signal.SIGCONT)
        wait_for(lambda: any("was paused" in text for text in running.messages()))
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        time.sleep(1.2)
        assert sorted(running.pids()) == pids
        assert running.child("a")["state"] == "streaming"
        fault_seen("supervisor and children paused", None, None, "3.3 s with beat_timeout_s = 1; nobody killed")


def test_child_that_reconnects_in_vain_is_restarted_and_one_that_waits_is_not(
    fault_seen: FaultSeen,
) -> None:
    assert (health.IN_VAIN_S, health.IN_VAIN_RECONNECTS) == (120.0, 3)
    shrunk = {"health.IN_VAIN_S": 0.5}
    with supervisor(children={"a": "reconnects_in_vain", "b": "waits_for_the_exchange"}, constants=shrunk) as running:
        running.wait_state("a", "streaming")
        assert len(running.starts("a")) == 2
        assert any("a is unhealthy" in text and "reconnects in vain" in text for text in running.messages())
        assert running.child("a")["failures"] == 1
        assert running.child("b")["restarts"] == 0
        seen = "IN_VAIN_S = 0.5 (120 by default); restarted; one whose exchange is away is not"
        fault_seen("reconnecting in vain", running.said_s("a is unhealthy"), None, seen)


def test_child_whose_data_stalls_is_restarted_and_one_whose_database_is_away_is_not(fault_seen: FaultSeen) -> None:
    assert health.STALLED_S == 60.0
    shrunk = {"health.STALLED_S": 0.5}
    with supervisor(children={"a": "stalls", "b": "waits_for_the_database"}, constants=shrunk) as running:
        wait_for(lambda: len(running.starts("a")) == 2)
        running.wait_state("a", "streaming")
        assert any("a is unhealthy" in text and "7 rows wait" in text for text in running.messages())
        time.sleep(0.6)
        assert running.child("a")["restarts"] == 1
        assert running.child("b")["restarts"] == 0
        seen = "STALLED_S = 0.5 (60 by default); restarted; one whose database is away is not"
        fault_seen("data stalled while beats go on", running.said_s("a is unhealthy"), None, seen)


def test_child_whose_beat_in_redis_is_stale_is_restarted_and_not_all_at_once(fault_seen: FaultSeen) -> None:
    assert (health.STALE_S, health.SETTLED_S) == (15.0, 30.0)
    shrunk = {"health.STALE_S": 0.5, "health.SETTLED_S": 0.1}
    with supervisor(children={"a": "beats", "b": "beats", "monitor": "watches"}, constants=shrunk) as running:
        for name, state in (("a", "streaming"), ("b", "streaming"), ("monitor", "ready")):
            running.wait_state(name, state)
        (running.folder / "stale").write_text("a b")
        time.sleep(1.0)
        assert {child["restarts"] for child in running.status()["children"]} == {0}
        (running.folder / "stale").write_text("a")
        wait_for(lambda: len(running.starts("a")) == 2)
        (running.folder / "stale").write_text("")
        assert any("a is unhealthy" in text and "says the monitor" in text for text in running.messages())
        seen = "STALE_S = 0.5 (15 by default), said by the monitor; restarted; all at once or no monitor: nobody"
        fault_seen("beat in redis stale", None, None, seen)
        os.kill(running.pid("monitor"), signal.SIGKILL)
        wait_for(lambda: len(running.starts("monitor")) == 2)
        assert running.child("b")["restarts"] == 0


def test_the_monitor_alone_is_not_worth_running() -> None:
    with supervisor(children={"a": "refuses", "monitor": "watches"}) as running:
        assert running.process.wait(20) == 78


def test_clock_that_is_set_kills_nobody_and_excuses_nobody(tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    with supervisor(clock.environ, children={"a": "beats", "b": "beats"}, beat_timeout_s=1.0) as running:
        running.wait_state("a", "streaming")
        pids = sorted(running.pids())
        for hours in (1, -1):
            clock.set(hours * 3600)
            time.sleep(1.5)
            assert sorted(running.pids()) == pids
            running.send(signal.SIGUSR1)
            shifted = ask(running.folder, {"command": "log-level", "level": "DEBUG"})
            assert shifted["level"] == "DEBUG"
        os.kill(running.pid("a"), signal.SIGSTOP)
        clock.set(3600)
        wait_for(lambda: any("a is silent, will be killed: no beat for 1." in text for text in running.messages()))
        hour = datetime.fromisoformat(running.log()[-1]["time"]).timestamp() - time.time()
        assert 3500 < hour < 3700  # it was really set
        assert not any("was paused" in text for text in running.messages())


def test_children_start_crashing_and_heal_after_fifty_times() -> None:
    with supervisor(children={"sick": "crashes_fifty_times", "b": "beats"}, hasty=True) as running:
        running.wait_state("b", "streaming")
        sibling = running.pid("b")
        row = running.wait_state("sick", "streaming", timeout_s=150.0)
        assert (row["restarts"], row["failures"]) == (50, 50)
        assert running.pid("b") == sibling
        assert sum("reasons" in line for line in running.log()) == 10  # an alarm for every fifth


def test_failures_are_forgotten_when_it_is_stable_again() -> None:
    assert restart.STABLE_S == 120.0
    with supervisor(children={"a": "crashes_three_times"}, hasty=True, constants={"states.STABLE_S": 0.5}) as running:
        running.wait_state("a", "streaming")
        wait_for(lambda: running.child("a")["failures"] == 0)
        assert any("a is stable again; 3 failures are forgotten" in text for text in running.messages())


def test_fork_that_fails_is_tried_again() -> None:
    """The limit on processes of a user is the kernel's own way to fail a fork; it does not bind root."""
    children = {"a": "beats", "b": "beats"}
    with supervisor(children=children, user=ORDINARY_USER, hasty=True) as running:
        running.wait_state("a", "streaming")
        running.wait_state("b", "streaming")
        _limit_processes(running, children, 1)
        sibling, victim = running.pid("b"), running.pid("a")
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: running.child("a")["failures"] >= 3)
        assert any("a could not be started: BlockingIOError" in text for text in running.messages())
        assert running.pid("b") == sibling
        _limit_processes(running, children, None)
        assert running.wait_state("a", "streaming")["pid"] != victim
        assert running.pid("b") == sibling


def _limit_processes(running: Running, children: dict[str, str], most: int | None) -> None:
    (running.folder / "plan.json").write_text(json.dumps({"children": children, "processes": most}))
    assert ask(running.folder, {"command": "reload"}) == {"later": []}


def test_nonsense_on_the_heartbeat_pipe_hurts_nobody() -> None:
    with supervisor(children={"a": "talks_nonsense", "b": "beats"}) as running:
        running.wait_state("a", "streaming")
        assert any("bad beat" in text for text in running.messages())
        assert running.child("a")["restarts"] == 0


def test_dead_server_comes_back_and_one_that_cannot_start_is_retried() -> None:
    with supervisor(children={"a": "beats"}, servers={"s": "sleeps", "t": "missing"}) as running:
        running.wait_state("s", "ready")
        child, server = running.pid("a"), running.pid("s")
        os.kill(server, signal.SIGKILL)
        wait_for(lambda: running.pid("s") not in (server, 0))
        running.wait_state("s", "ready")
        assert running.pid("a") == child
        assert running.wait_state("t", "backing_off")["failures"] >= 1
        assert running.end() == 0


def test_forked_child_starts_clean() -> None:
    with supervisor(children={"a": "beats", "b": "looks", "c": "looks"}, servers={"s": "sleeps"}) as running:
        wait_for(lambda: running.child("c")["state"] == running.child("b")["state"] == "streaming")
        os.kill(running.pid("b"), signal.SIGKILL)  # the new one is forked when everything is open
        with _slow_client(running):
            wait_for(lambda: len(running.starts("b")) == 2)
            running.wait_state("b", "streaming")
            found = json.loads((running.folder / "b.json").read_text())
            sibling = json.loads((running.folder / "c.json").read_text())
        targets = [re.sub(r"\[\d+\]", "", target) for fd, target in found["fds"].items() if int(fd) > 2]
        # its stacks, its log, its pipe, its commands: nothing of the parent or of a sibling
        log = str(running.folder / "ohlcvd.log")
        assert sorted(targets) == sorted(["/memfd:stacks b (deleted)", log, "pipe:", "socket:"])
        assert found["fds"]["0"] == "/dev/null"
        assert found["handlers"] == {"SIGTERM": "0", "SIGINT": "1", "SIGHUP": "1", "SIGCHLD": "0"}
        assert found["blocked"] == []
        assert found["wakeup"] == -1
        assert found["title"] == "ohlcvd: b"
        assert found["parent"] == running.process.pid
        assert found["random"] != sibling["random"]


def test_slow_and_hostile_clients_do_not_hold_the_loop_up() -> None:
    with supervisor(children={"a": "beats"}) as running, ExitStack() as stack:
        running.wait_state("a", "streaming")
        for number in range(40):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(running.folder / SOCKET_NAME))
            if number % 2:
                client.sendall(b'{"command": ')
        asked_at = time.monotonic()
        assert running.status()["children"][0]["state"] == "streaming"
        assert time.monotonic() - asked_at < 2.0
        for request in (b"\n", b"[]\n", b"\xff\n", b"x" * 5000, b'{"command":"no"}\n', b"[" * 4000 + b"\n"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5.0)
                client.connect(str(running.folder / SOCKET_NAME))
                client.sendall(request)
                assert "error" in json.loads(client.makefile().readline())
        assert (running.folder / SOCKET_NAME).stat().st_mode & 0o777 == 0o660
        assert running.child("a")["restarts"] == 0


def test_unknown_command_is_an_error() -> None:
    with supervisor(children={"a": "beats"}) as running:
        assert "unknown command" in str(ask(running.folder, {"command": "dance"})["error"])


def test_usr1_reopens_the_log_and_reaches_the_children() -> None:
    with supervisor(children={"a": "beats"}) as running:
        running.wait_state("a", "streaming")
        before = running.pid("a")
        (running.folder / "ohlcvd.log").rename(running.folder / "ohlcvd.log.1")
        running.send(signal.SIGUSR1)
        wait_for((running.folder / "ohlcvd.log").exists)
        assert running.pid("a") == before  # not ended by a signal it did not expect
        assert running.end() == 0
        assert any("received SIGTERM" in text for text in running.messages())


def test_hundred_restarts_leak_nothing() -> None:
    """Deaths by request, so that no wait comes between them; descriptors exactly and memory nearly flat."""
    with supervisor(children={"a": "beats", "b": "beats"}) as running:
        running.wait_state("a", "streaming")
        pid = running.process.pid
        for number in range(100):
            running.wait_state("a", "streaming")
            if number == 10:
                fds, memory_kb = len(_open_fds(pid)), _memory_kb(pid)
            ask(running.folder, {"command": "restart", "child": "a"})
            _wait_for_starts(running, "a", number + 2)
        running.wait_state("a", "streaming")
        # at most: when they were counted first, the connection of a question may not have been closed yet
        wait_for(lambda: len(_open_fds(pid)) <= fds)
        assert _memory_kb(pid) - memory_kb < 1500
        assert running.child("a")["restarts"] == 100
        assert running.child("b")["restarts"] == 0


def _wait_for_starts(running: Running, name: str, starts: int) -> None:
    wait_for(lambda: len(running.starts(name)) == starts)


class _slow_client:
    """A client that has connected and says nothing."""

    def __init__(self, running: Running) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(running.folder / SOCKET_NAME))

    def __enter__(self) -> None:
        self._socket.sendall(b"{")

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _open_fds(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    return [fd for fd in os.listdir(folder) if os.path.lexists(f"{folder}/{fd}")]


def _memory_kb(pid: int) -> int:
    """Memory that is this process's own."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith(("Private_Dirty:", "Private_Clean:")))
