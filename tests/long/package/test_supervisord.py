"""The same under supervisord: Debian's, and the newest of the package index (which the test environment has)."""

import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.long.package.conftest import start_simulator, use_simulator
from tests.long.package.machines import Machine, wait_for

LINK = "etc/supervisor/conf.d/ohlcvd.conf"
SCRIPT = """#!/usr/bin/python3
import sys
sys.path.insert(0, "/opt/supervisor/lib")
from supervisor.{name} import main
main()
"""


def of_debian(machine: Machine) -> tuple[str, str]:
    """Where supervisord is, and its version."""
    return "/usr/bin/supervisord", "4.2.5"


def of_the_index(machine: Machine) -> tuple[str, str]:
    found = importlib.util.find_spec("supervisor")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent
    target = machine.root / "opt/supervisor"
    shutil.copytree(folder, target / "lib/supervisor", ignore=shutil.ignore_patterns("tests", "__pycache__"))
    (target / "bin").mkdir()
    for name in ("supervisord", "supervisorctl"):
        (target / "bin" / name).write_text(SCRIPT.format(name=name))
        (target / "bin" / name).chmod(0o755)
    return "/opt/supervisor/bin/supervisord", (folder / "version.txt").read_text().strip()


@pytest.fixture(params=[of_debian, of_the_index])
def supervised(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Machine]:
    """A machine on which supervisord runs ohlcvd and the local exchange answers."""
    choose: Callable[[Machine], tuple[str, str]] = request.param
    program, version = choose(machine)
    assert machine.run(program, "--version") == version
    use_simulator(machine)
    (machine.root / LINK).symlink_to("/usr/share/ohlcvd/supervisor/ohlcvd.conf")
    with start_simulator(machine) as simulator:
        machine.run(program, "-c", "/etc/supervisor/supervisord.conf")
        wait_for("it runs", lambda: state(machine) == "RUNNING")
        yield machine
        simulator.kill()


def state(machine: Machine) -> str:
    _, said = machine.try_run("supervisorctl", "status", "ohlcvd")
    return said.split()[1]


def pid_of(machine: Machine) -> str:
    return (machine.root / "run/ohlcvd/ohlcvd.lock").read_text().split()[0]


def is_storing(machine: Machine, more_than: int) -> bool:
    return machine.try_run("ohlcvd", "status")[0] == 0 and machine.rows() > more_than


def test_a_life_under_supervisord(supervised: Machine, older: Path) -> None:
    machine = supervised
    wait_for("rows are stored", lambda: is_storing(machine, 0))
    assert "run by supervisord (ohlcvd)" in machine.run("ohlcvd", "status")
    assert machine.try_run("ohlcvd", "start")[0] == 75

    said = machine.run("ohlcvd", "stop")
    assert "supervisord runs it: " in said
    assert "stopped by supervisord" in said
    assert (state(machine), machine.pids_of()) == ("STOPPED", [])
    assert "started by supervisord" in machine.run("ohlcvd", "start")
    wait_for("rows are stored again", lambda: is_storing(machine, 0))
    assert "started by supervisord" in machine.run("ohlcvd", "restart")

    # killed
    wait_for("supervisord takes it for started", lambda: state(machine) == "RUNNING")
    before, pid = machine.rows(), pid_of(machine)
    machine.run("kill", "-KILL", pid)
    wait_for("it runs again", lambda: state(machine) == "RUNNING" and pid_of(machine) != pid)
    wait_for("more rows are stored", lambda: is_storing(machine, before))

    # another version: stopped and started by supervisord, not beside it
    machine.install(older)
    wait_for("the other version runs", lambda: state(machine) == "RUNNING")
    wait_for("more rows are stored", lambda: is_storing(machine, before))
    assert "run by supervisord (ohlcvd)" in machine.run("ohlcvd", "status")

    # a wrong configuration
    conf = machine.root / "etc/ohlcvd/ohlcvd.conf"
    good = conf.read_text()
    machine.run("ohlcvd", "stop")
    conf.write_text(good.replace("service   = both", "service   = bth"))
    assert machine.try_run("supervisorctl", "start", "ohlcvd")[0] != 0
    wait_for("supervisord gives up", lambda: state(machine) in ("EXITED", "FATAL"))
    assert 'service is "bth"' in machine.run("supervisorctl", "tail", "ohlcvd", "stderr")
    conf.write_text(good)

    # supervisord dies and takes its pipes with it: ohlcvd goes on, and can be stopped
    machine.run("ohlcvd", "start")
    wait_for("rows are stored", lambda: is_storing(machine, 0))
    machine.run("pkill", "-KILL", "supervisord")
    time.sleep(2)
    wait_for("more rows are stored", lambda: is_storing(machine, before))
    assert "stopped, pid" in machine.run("ohlcvd", "stop")
    assert machine.pids_of() == []

    machine.run("dpkg", "--purge", "ohlcvd")
    assert not (machine.root / LINK).is_symlink()
