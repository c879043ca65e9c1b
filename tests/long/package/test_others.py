"""Debian's own judges, piuparts and autopkgtest; and the Dockerfile, step by step in a chroot."""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.long.package import machines
from tests.long.package.conftest import ROOT, copied, start_simulator, use_simulator
from tests.long.package.machines import Layer, wait_for


def test_autopkgtest(prepared: Layer, first: Path, work: Path) -> None:
    with prepared.opened(Path(tempfile.mkdtemp(dir=work))) as root:
        machines.without_services(root)
        machines.mount("-t", "proc", "proc", root / "proc")  # ends with the mount of root
        source = copied(work / "source")
        words: list[str | Path] = ["autopkgtest", "--no-built-binaries", first, f"{source}/", "--", "chroot", root]
        said = machines.run(words, work)
    assert re.search(r"^installed +PASS", said, re.MULTILINE), said
    assert re.search(r"^collects +PASS", said, re.MULTILINE), said


def test_piuparts(prepared: Layer, first: Path, work: Path) -> None:
    """Installed, removed and purged, it leaves nothing behind but its user."""
    folder = Path(tempfile.mkdtemp(dir=work))
    with prepared.opened(folder) as root:
        machines.without_services(root)
        words: list[str | Path] = ["piuparts", "--existing-chroot", root, "--tmpdir", folder, "--no-upgrade-test"]
        words += ["--skip-logrotatefiles-test", "--warn-on-leftovers-after-purge", "--distribution", "bookworm"]
        said = machines.run([*words, first], work)
    assert "PASS: All tests." in said


def test_the_dockerfile_step_by_step(prepared: Layer, first: Path, work: Path) -> None:
    """Its RUN, USER, CMD, HEALTHCHECK and STOPSIGNAL, carried out in a chroot."""
    text = (ROOT / "etc/docker/Dockerfile").read_text().replace("\\\n", " ")
    lines = (line.partition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    given = {word: rest.strip() for word, _, rest in lines}
    assert given["FROM"] == "debian:bookworm-slim"
    assert given["STOPSIGNAL"] == "SIGTERM"
    with prepared.opened(Path(tempfile.mkdtemp(dir=work))) as root:
        machines.without_services(root)
        with machines.plain(root, network=True) as machine:
            shutil.copy(first, root / "tmp")
            machine.run("sh", "-c", given["RUN"], timeout_s=600)
        with machines.plain(root) as machine:
            use_simulator(machine)
            with start_simulator(machine) as simulator:
                user = given["USER"]
                words = [*json.loads(given["ENTRYPOINT"]), *json.loads(given["CMD"])]
                check = json.loads(given["HEALTHCHECK"].partition("CMD ")[2])
                with subprocess.Popen(machine.command(*words, user=user), stdin=subprocess.DEVNULL) as container:
                    wait_for("it is healthy", lambda: machine.try_run(*check, user=user)[0] == 0)
                    wait_for("rows are stored", lambda: machine.rows() > 0)
                    machine.run("pkill", "-TERM", "tini")
                    assert container.wait(120) == 0
                assert machine.pids_of() == []
                simulator.kill()
