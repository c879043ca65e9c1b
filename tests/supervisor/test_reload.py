"""Reading the configuration again, in a real supervisor: only what has changed is touched."""

import json
import signal
from collections.abc import Mapping

from ohlcvd.supervisor.control import ask
from tests.supervisor.running import Running, alive, supervisor, wait_for


def reload(running: Running, **plan: object) -> dict[str, object]:
    (running.folder / "plan.json").write_text(json.dumps(plan))
    return ask(running.folder, {"command": "reload"}, 30.0)


def pids(running: Running) -> dict[str, int]:
    return {child["name"]: child["pid"] for child in running.status()["children"]}


def told(running: Running, name: str) -> list[object]:
    file = running.folder / f"{name}.told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def wait_streaming(running: Running, *names: str) -> Mapping[str, int]:
    for name in names:
        running.wait_state(name, "streaming")
    return pids(running)


def test_children_are_started_stopped_restarted_and_told() -> None:
    children = {"same": "beats", "gone": "beats", "other": "beats", "told": "listens"}
    with supervisor(children=children) as running:
        before = wait_streaming(running, *children)
        children = {"new": "beats", "same": "beats", "other": "beats", "told": "listens"}
        done = reload(
            running,
            children=children,
            restart=["other"],
            updates={"told": ["ETH/USD"]},
            later=["x waits for a restart"],
        )
        assert done == {
            "started": ["new"], "stopped": ["gone"], "restarted": ["other"], "updated": ["told"],
            "later": ["x waits for a restart"],
        }  # fmt: skip
        wait_for(
            lambda: (
                list(pids(running)) == ["new", "same", "other", "told"]
                and running.pid("other") not in (0, before["other"])
            )
        )
        after = wait_streaming(running, *children)
        assert (after["same"], after["told"]) == (before["same"], before["told"])
        assert not alive(before["gone"])
        wait_for(lambda: told(running, "told") == [[["ETH/USD"], None]])
        assert running.child("other")["failures"] == 0
        assert any(text == "not changed: x waits for a restart" for text in running.messages())
        assert running.end() == 0


def test_a_wrong_configuration_is_refused_and_the_old_one_goes_on() -> None:
    with supervisor(children={"a": "beats"}) as running:
        before = wait_streaming(running, "a")
        answer = reload(running, error="ohlcvd.conf:3: service is wrong")
        assert answer == {"error": "ohlcvd.conf:3: service is wrong", "exit_code": 78}
        (running.folder / "plan.json").write_text("{")  # a bug in reading it is no reason to end either
        running.send(signal.SIGHUP)
        wait_for(lambda: any("could not be read again: JSONDecodeError" in text for text in running.messages()))
        assert any("the old one goes on: ohlcvd.conf:3" in text for text in running.messages())
        assert pids(running) == before
        assert running.child("a")["state"] == "streaming"


def test_parked_children_are_tried_again() -> None:
    with supervisor(children={"a": "refuses", "b": "beats"}) as running:
        running.wait_state("a", "parked")
        before = wait_streaming(running, "b")
        (running.folder / "plan.json").write_text(json.dumps({"children": {"a": "beats", "b": "beats"}}))
        running.send(signal.SIGHUP)
        after = wait_streaming(running, "a", "b")
        assert after["b"] == before["b"]


def test_a_child_that_does_not_take_it_is_restarted_with_it() -> None:
    with supervisor(children={"a": "does_not_listen"}) as running:
        before = wait_streaming(running, "a")
        assert reload(running, children={"a": "listens"}, updates={"a": ["X/Y"]})["restarted"] == ["a"]
        wait_for(lambda: running.pid("a") not in (0, before["a"]))
        wait_streaming(running, "a")


def test_a_child_that_is_taken_out_and_put_back_while_it_drains_returns() -> None:
    with supervisor(children={"a": "drains_slowly", "b": "beats"}) as running:
        before = wait_streaming(running, "a", "b")
        assert reload(running, children={"b": "beats"})["stopped"] == ["a"]
        assert running.child("a")["state"] == "draining"
        assert reload(running, children={"a": "beats", "b": "beats"})["started"] == ["a"]
        wait_for(lambda: running.pid("a") not in (0, before["a"]))
        assert wait_streaming(running, "a", "b")["b"] == before["b"]


def test_log_level_of_one_and_of_all() -> None:
    with supervisor(children={"a": "listens", "b": "listens"}) as running:
        wait_streaming(running, "a", "b")
        answer = ask(running.folder, {"command": "log-level", "level": "ERROR", "child": "a"})
        assert answer == {"level": "ERROR", "changed": ["a"]}
        wait_for(lambda: told(running, "a") == [[None, "ERROR"]])
        answer = ask(running.folder, {"command": "log-level", "level": "WARNING"})
        assert answer["changed"] == ["supervisor", "a", "b"]
        wait_for(lambda: told(running, "b") == [[None, "WARNING"]])
        quiet = len(running.log())
        ask(running.folder, {"command": "restart", "child": "b"})  # the new process is told again
        wait_for(lambda: told(running, "b") == [[None, "WARNING"]] * 2)
        assert len(running.log()) == quiet
        for wrong in ({"level": "LOUD"}, {"level": "INFO", "child": "c"}, {}):
            assert ask(running.folder, {"command": "log-level", **wrong})["exit_code"] == 64
