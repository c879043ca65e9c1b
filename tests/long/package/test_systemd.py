"""One life under systemd, in order: installed, used, hurt, upgraded, removed, installed again, purged."""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.long.package.conftest import OLDER, start_simulator, use_simulator
from tests.long.package.machines import Layer, Machine, booted, wait_for

CONF = "etc/ohlcvd/ohlcvd.conf"

pytestmark = pytest.mark.usefixtures("prepared")  # first what takes longest to make


@pytest.fixture(scope="module")
def machine(prepared: Layer, work: Path) -> Iterator[Machine]:
    with prepared.opened(Path(tempfile.mkdtemp(dir=work))) as root, booted(root, work / "console") as machine:
        yield machine


@pytest.fixture(scope="module")
def simulator(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    with start_simulator(machine) as process:
        yield process
        process.kill()


def show(machine: Machine, name: str) -> str:
    return machine.run("systemctl", "show", f"--property={name}", "--value", "ohlcvd")


def is_collecting(machine: Machine, more_than: int) -> bool:
    code, _ = machine.try_run("ohlcvd", "status")
    return code == 0 and machine.rows() > more_than


def states(machine: Machine) -> dict[str, str]:
    """What `status` says of each child; empty while it does not run."""
    code, answer = machine.try_run("ohlcvd", "status", "--json")
    return {child["name"]: child["state"] for child in json.loads(answer)["children"]} if code == 0 else {}


def test_installing_starts_it_and_without_a_network_it_waits_and_says_so(machine: Machine, older: Path) -> None:
    machine.install(older)
    assert machine.run("systemctl", "is-active", "ohlcvd") == "active"
    status = machine.run("ohlcvd", "status")
    assert f"ohlcvd {OLDER.split('-')[0]}" in status or "running" in status
    assert "run by systemd (ohlcvd.service)" in status
    wait_for("kraken says that it cannot be reached", lambda: "ExchangeNotAvailable" in machine.run("ohlcvd", "status"))
    journal = machine.run("journalctl", "--unit=ohlcvd", "--output=cat")
    assert "is up: kraken, binance; logs are in /var/log/ohlcvd" in journal


def test_it_is_confined(machine: Machine) -> None:
    last = machine.run("systemd-analyze", "security", "--no-pager", "ohlcvd").splitlines()[-1]
    assert float(last.split(":")[1].split()[0]) <= 1.5


def test_rows_arrive(machine: Machine, simulator: object) -> None:
    use_simulator(machine)
    assert "systemd runs it: systemctl restart ohlcvd.service" in machine.run("ohlcvd", "restart")
    wait_for("rows are stored", lambda: is_collecting(machine, 0))
    wait_for("both stream", lambda: states(machine) == {"kraken": "streaming", "binance": "streaming"})


def test_a_killed_supervisor_is_started_again(machine: Machine, simulator: object) -> None:
    pid, before = show(machine, "MainPID"), machine.rows()
    machine.run("kill", "-KILL", pid)
    wait_for("it runs again", lambda: show(machine, "ActiveState") == "active" and show(machine, "MainPID") != pid)
    wait_for("more rows are stored", lambda: is_collecting(machine, before))


def test_start_of_a_running_one_is_refused(machine: Machine) -> None:
    code, said = machine.try_run("ohlcvd", "start")
    assert (code, "already running" in said) == (75, True)


def test_reload_succeeds_and_fails_aloud(machine: Machine) -> None:
    machine.run("systemctl", "reload", "ohlcvd")
    conf = machine.root / CONF
    good = conf.read_text()
    conf.write_text(good.replace("service   = both", "service   = bth"))
    assert machine.try_run("systemctl", "reload", "ohlcvd")[0] != 0
    assert show(machine, "ActiveState") == "active"
    assert 'service is "bth"' in machine.run("journalctl", "--unit=ohlcvd", "--output=cat")
    conf.write_text(good)


def test_stop_leaves_nothing(machine: Machine) -> None:
    said = machine.run("ohlcvd", "stop")
    assert "systemd runs it: systemctl stop ohlcvd.service" in said
    assert "stopped by systemd" in said
    assert machine.pids_of() == []
    code, said = machine.try_run("ohlcvd", "status")
    assert (code, "systemd says of ohlcvd.service: inactive" in said) == (3, True)


def test_a_wrong_configuration_is_not_tried_again(machine: Machine) -> None:
    conf = machine.root / CONF
    good = conf.read_text()
    conf.write_text(good.replace("service   = both", "service   = bth"))
    assert machine.try_run("systemctl", "start", "ohlcvd")[0] != 0
    time.sleep(5)  # RestartSec is 2
    assert (show(machine, "ActiveState"), show(machine, "NRestarts")) == ("failed", "0")
    assert "exit code 78" in machine.try_run("ohlcvd", "status")[1]
    conf.write_text(good)


def test_systemd_leaves_it_to_supervisord_where_that_has_it(machine: Machine) -> None:
    link = machine.root / "etc/supervisor/conf.d/ohlcvd.conf"
    link.symlink_to("/usr/share/ohlcvd/supervisor/ohlcvd.conf")
    machine.run("systemctl", "start", "ohlcvd")
    assert (show(machine, "ActiveState"), show(machine, "ConditionResult")) == ("failed", "no")
    link.unlink()


def test_an_upgrade_keeps_data_and_the_edited_configuration(machine: Machine, first: Path, simulator: object) -> None:
    machine.run("ohlcvd", "start")
    wait_for("rows are stored", lambda: is_collecting(machine, 0))
    before, conf, pid = machine.rows(), (machine.root / CONF).read_bytes(), show(machine, "MainPID")
    machine.install(first)
    assert (machine.root / CONF).read_bytes() == conf
    assert machine.run("stat", "-c", "%U:%G %a", f"/{CONF}") == "root:ohlcvd 640"
    assert (machine.root / f"{CONF}.dpkg-dist").exists()  # the new one lies beside it
    assert show(machine, "ActiveState") == "active"
    assert show(machine, "MainPID") != pid
    wait_for("more rows are stored", lambda: is_collecting(machine, before))
    wait_for("the time without it is repaired", lambda: machine.try_run("ohlcvd", "gaps")[0] == 0)


def test_removing_keeps_data_and_configuration(machine: Machine) -> None:
    conf, before = (machine.root / CONF).read_bytes(), machine.rows()
    machine.run("apt-get", "remove", "--yes", "ohlcvd")
    assert machine.pids_of() == []
    assert not (machine.root / "usr/bin/ohlcvd").exists()
    assert not (machine.root / "usr/lib/ohlcvd").exists()
    assert (machine.root / CONF).read_bytes() == conf
    assert (machine.root / "var/lib/ohlcvd/postgres/PG_VERSION").exists()
    (machine.root / "root/rows").write_text(str(before))


def test_it_can_be_installed_again_and_goes_on(machine: Machine, first: Path, simulator: object) -> None:
    machine.install(first)
    before = int((machine.root / "root/rows").read_text())
    wait_for("more rows are stored", lambda: is_collecting(machine, before))
    assert machine.sql("SELECT min(ts) < now() - interval '1 minute' FROM ohlcvd.named_trades") == "t"
    assert show(machine, "ActiveState") == "active"


def test_debians_own_servers_were_left_alone(machine: Machine) -> None:
    assert machine.run("pg_lsclusters", "--no-header").split()[:3] == ["15", "main", "5432"]
    databases = machine.run("psql", "-Atc", "SELECT datname FROM pg_database ORDER BY 1", user="postgres")
    assert databases.split() == ["postgres", "template0", "template1"]
    assert machine.run("redis-cli", "dbsize") == "0"


def test_purging_leaves_the_user_only(machine: Machine) -> None:
    machine.run("apt-get", "purge", "--yes", "ohlcvd")
    left = [name for name in ("etc", "var/lib", "var/log", "run") if (machine.root / name / "ohlcvd").exists()]
    assert left == []
    assert machine.pids_of() == []
    assert machine.run("id", "--user", "--name", "ohlcvd") == "ohlcvd"
    assert "ohlcvd" not in machine.run("systemctl", "list-unit-files", "--no-legend")
    assert machine.run("sh", "-c", "ls -d /etc/*/ohlcvd* /etc/*/*/ohlcvd* 2>/dev/null || true") == ""
