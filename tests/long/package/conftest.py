"""The packages (built twice, and an older one) and the Debians that the tests are made on, each made once for all.

The tests may be shared among several processes (`pytest -n 3 --dist loadfile`): whoever needs a thing first makes it
in a folder that all of them see, and the others wait.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.long.package import machines
from tests.long.package.machines import Layer, Machine

ROOT = Path(__file__).resolve().parents[3]
OLDER = "0.0.9"
# For a build of which the bytes do not matter.
QUICK = {"DEB_BUILD_OPTIONS": "nocheck", "DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
# What a small container lacks and the tests call.
EXTRA = ("logrotate", "man-db", "procps", "supervisor", "iproute2", "tini", "groff")
ORDER = ("test_systemd", "test_build", "test_others", "test_supervisord", "test_plain")
WORK = "OHLCVD_TEST_PACKAGE_WORK"

REASON = machines.why_not()


def is_worker(config: pytest.Config) -> bool:
    """One of several processes, which inherit what the first has prepared."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if is_worker(config):
        return
    # On the disk, not in memory: a Debian takes a gigabyte.
    folder = Path(tempfile.mkdtemp(prefix="ohlcvd-package-", dir="/var/tmp"))
    folder.chmod(0o755)
    os.environ[WORK] = str(folder)
    if REASON is None:
        machines.enter_namespace()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not is_worker(config):
        shutil.rmtree(os.environ.pop(WORK), ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first. Where there can be no machines, only what needs none is run: see `pytest_terminal_summary`."""
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER))
    if REASON is not None:
        needing = [item for item in items if "bare" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_sep("=", "what was not run here")
    if REASON is not None:
        terminalreporter.write_line(f"installation, systemd, supervisord, piuparts, autopkgtest: {REASON}")
    terminalreporter.write_line(
        "Docker itself: an image is not built and no container started; the steps of the Dockerfile were carried out "
        "in a chroot instead" + (" (not even that here)" if REASON else "")
    )


@pytest.fixture(scope="session")
def work() -> Path:
    return Path(os.environ[WORK])


def made(folder: Path, make: Callable[[Path], Path | None]) -> Path:
    """What `make` made in the folder, once for all processes; the folder itself if it says nothing else.

    What failed is not tried again: each test that needs it fails at once.
    """
    answer = folder.with_name(f"{folder.name}.made")
    with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answer.exists():
            assert not folder.exists(), f"{folder.name} could not be made; an earlier test says why"
            folder.mkdir()
            answer.write_text(str(make(folder) or folder))
    return Path(answer.read_text())


def copied(target: Path) -> Path:
    """The files of the project in a folder of their own."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def build(folder: Path, *words: str, environment: Mapping[str, str] | None = None, umask: str = "022") -> Path:
    """The package, by the path that bin/package prints last."""
    command: list[str | Path] = ["sh", "-c", f'umask {umask}; exec "$@"', "sh", folder / "bin" / "package", *words]
    return Path(machines.run(command, Path("/"), environment).splitlines()[-1])


@pytest.fixture(scope="session")
def first(work: Path) -> Path:
    """The package as it is."""
    return made(work / "first", lambda folder: build(copied(folder)))


@pytest.fixture(scope="session")
def second(work: Path) -> Path:
    """The same once more: from another folder, by another umask, in another time zone and language."""
    environment = {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "DEB_BUILD_OPTIONS": "nocheck"}

    def make(folder: Path) -> Path:
        return build(copied(folder / "and" / "elsewhere"), environment=environment, umask="077")

    return made(work / "second", make)


@pytest.fixture(scope="session")
def older(work: Path) -> Path:
    """A build with a lower version and another configuration file."""

    def make(folder: Path) -> Path:
        conf = copied(folder) / "etc/ohlcvd/ohlcvd.conf"
        changed = conf.read_text().replace("since     = 7d ", "since     = 3d ")
        assert changed != conf.read_text()
        conf.write_text(changed)
        return build(folder, "--version", OLDER, environment=QUICK)

    return made(work / "older", make)


@pytest.fixture(scope="session")
def bare(work: Path) -> Layer:
    """A small Debian 12 with systemd."""

    def make(folder: Path) -> None:
        words = ["--variant=minbase", "--include=systemd-sysv,dbus,ca-certificates", "--skip=cleanup/apt/lists"]
        words += ["--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Retries "5"', '--aptopt=Acquire::Languages "none"']
        machines.run(["mmdebstrap", *words, "bookworm", folder], work)

    return Layer(made(work / "bare", make))


@pytest.fixture(scope="session")
def installed(work: Path, bare: Layer, first: Path) -> Layer:
    """The same with the package installed by apt, which fetches what it depends on; no service was started."""

    def make(folder: Path) -> None:
        with bare.opened(folder) as root:
            machines.without_services(root)
            with machines.plain(root, network=True) as machine:
                (work / "apt.log").write_text(machine.install(first))

    return bare.above(made(work / "installed", make))


@pytest.fixture(scope="session")
def equipped(work: Path, installed: Layer) -> Layer:
    """The same with what the tests call."""

    def make(folder: Path) -> None:
        with installed.opened(folder) as root, machines.plain(root, network=True) as machine:
            machine.run("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *EXTRA)

    return installed.above(made(work / "equipped", make))


@pytest.fixture(scope="session")
def prepared(work: Path, equipped: Layer) -> Layer:
    """The same without the package, as if it had never been there; what is installed now is started."""

    def make(folder: Path) -> None:
        with equipped.opened(folder) as root:
            with machines.plain(root) as machine:
                machine.run("dpkg", "--purge", "ohlcvd")
                machine.run("deluser", "--system", "ohlcvd")
            machines.with_services(root)

    return equipped.above(made(work / "prepared", make))


@pytest.fixture
def machine(equipped: Layer, work: Path) -> Iterator[Machine]:
    """A machine without a service manager, with the package."""
    with equipped.opened(Path(tempfile.mkdtemp(dir=work))) as root, machines.plain(root) as plain:
        yield plain


SIMULATED = """
[exchange:kraken]
rest_url = http://127.0.0.1:8000/kraken
ws_url   = ws://127.0.0.1:8000/kraken
[exchange:binance]
rest_url = http://127.0.0.1:8000/binance
ws_url   = ws://127.0.0.1:8000/binance
"""


def use_simulator(machine: Machine) -> None:
    """Edit the configuration, as an administrator would, for an exchange on the machine itself."""
    conf = machine.root / "etc/ohlcvd/ohlcvd.conf"
    text = conf.read_text()
    for line in text.splitlines():
        if line.startswith("since "):
            text = text.replace(line, "since     = 10m")
    conf.write_text(text + SIMULATED)


def start_simulator(machine: Machine) -> subprocess.Popen[bytes]:
    """The local exchange, on the machine itself, for as long as the machine runs."""
    return subprocess.Popen(
        machine.command("ohlcvd", "simulate", "--port", "8000", "--symbols", "4", "--rate", "20", user="daemon"),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
