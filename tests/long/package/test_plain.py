"""The package on a machine without systemd: what is where, manual pages, `ohlcvd start` by itself, the logs."""

import json
import shlex
from pathlib import Path

from tests.long.package.conftest import ROOT, start_simulator, use_simulator
from tests.long.package.machines import Layer, Machine, wait_for

# Numbered lines from three children and the supervisor, a thousand a second and more each, to the files that rotate.
NUMBERED = """
import os, signal, sys, time
sys.path.insert(0, "/usr/lib/ohlcvd")
from pathlib import Path
from ohlcvd.log import get_component_logger, reopen_logs, setup_logging
from ohlcvd.supervisor.lock import ServiceLock

pids = []
for name in ("kraken", "binance", "monitor"):
    pid = os.fork()
    if pid == 0:
        pids.clear()
        break
    pids.append(pid)
else:
    name = "ohlcvd"
    lock = ServiceLock(Path("/run/ohlcvd"))
ended = False
def end(*_):
    global ended
    ended = True
def reopen(*_):
    reopen_logs()
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
setup_logging(file=Path(f"/var/log/ohlcvd/{name}.log"), level="INFO", terminal=False)
signal.signal(signal.SIGUSR1, reopen)
signal.signal(signal.SIGTERM, end)
log = get_component_logger("ohlcvd.test")
number = 0
while not ended:
    log.info("line", number=number)
    number += 1
    if number % 5 == 0:
        time.sleep(0.002)
for pid in pids:
    os.kill(pid, signal.SIGTERM)
for pid in pids:
    os.waitpid(pid, 0)
"""


def test_apt_brings_all_it_needs_and_starts_nothing_without_a_service_manager(installed: Layer, work: Path) -> None:
    root = installed.folders[0]
    assert "Setting up ohlcvd" in (work / "apt.log").read_text()
    assert (root / "usr/bin/redis-server").is_symlink() or (root / "usr/bin/redis-server").exists()
    assert list((root / "usr/lib/postgresql").glob("*/bin/postgres"))
    examples = (root / "usr/share/doc/ohlcvd/examples").iterdir()
    assert sorted(path.name for path in examples) == ["alerts.yml", "ohlcvd.json"]


def test_a_daemon_by_itself(machine: Machine) -> None:
    """Root calls; the daemon and its files are the user's; it collects; `stop` leaves nothing."""
    machine.run("/bin/sh", "-c", (ROOT / "debian/tests/installed").read_text())
    use_simulator(machine)
    with start_simulator(machine) as simulator:
        assert "started, pid" in machine.run("ohlcvd", "start")
        wait_for("rows are stored", lambda: machine.rows() > 0)
        code, answer = machine.try_run("ohlcvd", "status", "--json")
        assert code == 0, answer
        assert {child["name"] for child in json.loads(answer)["children"]} == {"kraken", "binance"}
        owners = machine.run("find", "/var/lib/ohlcvd", "/var/log/ohlcvd", "/run/ohlcvd", "!", "-user", "ohlcvd")
        assert owners == ""
        modes = machine.run("find", "/var/log/ohlcvd", "-name", "*.log", "-printf", "%g %m\n").splitlines()
        assert set(modes) == {"adm 640"}
        code, answer = machine.try_run("ohlcvd", "status", user="daemon")
        assert code == 77, answer
        assert "stopped, pid" in machine.run("ohlcvd", "stop")
        assert machine.pids_of() == []
        assert machine.try_run("ohlcvd", "status")[0] == 3
        simulator.kill()


def test_every_exchange_loads(machine: Machine) -> None:
    machine.run("python3", "-IS", "-c", (ROOT / "debian/importable").read_text(), "/usr/lib/ohlcvd", timeout_s=600)


def test_manual_pages_render_without_a_word(machine: Machine) -> None:
    for page in ("ohlcvd.8", "ohlcvd.conf.5"):
        command = f"zcat /usr/share/man/man{page[-1]}/{page}.gz | groff -man -Tutf8 -ww -z -rCHECKSTYLE=3"
        assert machine.run("sh", "-c", command) == ""
    assert "ohlcvd" in machine.run("sh", "-c", "man --warnings ohlcvd.conf 2>&1 >/dev/null; man -f ohlcvd")


def test_completion(machine: Machine) -> None:
    def completed(line: str) -> list[str]:
        words = shlex.split(line) + ([""] if line.endswith(" ") else [])
        script = (
            "source /usr/share/bash-completion/completions/ohlcvd; "
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; _ohlcvd; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return machine.run("bash", "-c", script).splitlines()

    assert {"start", "status", "stop"} <= set(completed("ohlcvd st"))
    assert completed("ohlcvd gaps krak") == ["kraken", "krakenfutures"]
    assert "--json" in completed("ohlcvd status --")
    assert completed("ohlcvd start --service b") == ["both"]


def test_a_hundred_rotations_under_load(machine: Machine) -> None:
    """Each numbered line of four processes is in the files exactly once."""
    (machine.root / "opt/numbered.py").write_text(NUMBERED)
    shipped = (machine.root / "etc/logrotate.d/ohlcvd").read_text()
    (machine.root / "root/rotate.conf").write_text(shipped.replace("rotate 14", "rotate 1000"))
    script = """
        set -e
        setpriv --reuid=ohlcvd --regid=ohlcvd --init-groups python3 -IS /opt/numbered.py & writer=$!
        for try in $(seq 300); do [ -e /var/log/ohlcvd/monitor.log ] && break; sleep 0.1; done
        for number in $(seq 100); do
            sleep 0.1
            logrotate --force --state /root/state /root/rotate.conf
        done
        sleep 1
        pkill -TERM -o -u ohlcvd
        wait $writer || true
        cd /var/log/ohlcvd
        for name in ohlcvd kraken binance monitor; do
            for file in $(ls $name.log* | sort -t . -k 3 -n -r); do
                case $file in *.gz) zcat $file ;; *) cat $file ;; esac
            done | sed 's/.*"number": \\([0-9]*\\).*/\\1/' >/root/$name.numbers
        done
        ls kraken.log* | wc -l
    """
    kept = machine.run("bash", "-c", script, timeout_s=600)
    assert int(kept.splitlines()[-1]) == 101
    for name in ("ohlcvd", "kraken", "binance", "monitor"):
        text = (machine.root / f"root/{name}.numbers").read_text()
        numbers = sorted(map(int, text.split()))
        assert len(numbers) > 10_000
        assert numbers == list(range(len(numbers))), name
