"""The packages (built twice, and an older one) and the Debians that the tests are made on, each made once for all."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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

REASON = machines.why_not()


def pytest_configure() -> None:
    if REASON is None:
        machines.enter_namespace()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where there can be no machines, only what needs none is run; `pytest_terminal_summary` says so."""
    if REASON is not None:
        needing = [item for item in items if {"bare", "prepared"} & set(getattr(item, "fixturenames", ()))]
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
def work() -> Iterator[Path]:
    """On the disk, not in memory: a Debian takes a gigabyte."""
    with tempfile.TemporaryDirectory(prefix="ohlcvd-package-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


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
def lane() -> Iterator[ThreadPoolExecutor]:
    """For what can be made while something else is tested: there are two cores."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="session")
def first(work: Path) -> Path:
    """The package as it is."""
    return build(copied(work / "first"))


@pytest.fixture(scope="session")
def second(work: Path, first: Path, lane: ThreadPoolExecutor) -> Future[Path]:
    """The same once more: from another folder, by another umask, in another time zone and language."""
    folder = copied(work / "elsewhere" / "second")
    environment = {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "DEB_BUILD_OPTIONS": "nocheck"}
    return lane.submit(build, folder, environment=environment, umask="077")


@pytest.fixture(scope="session")
def older(work: Path, second: Future[Path], lane: ThreadPoolExecutor) -> Future[Path]:
    """A build with a lower version and another configuration file."""
    folder = copied(work / "older")
    conf = folder / "etc/ohlcvd/ohlcvd.conf"
    changed = conf.read_text().replace("since     = 7d ", "since     = 3d ")
    assert changed != conf.read_text()
    conf.write_text(changed)
    return lane.submit(build, folder, "--version", OLDER, environment=QUICK)


@pytest.fixture(scope="session")
def bare(work: Path) -> Layer:
    """A small Debian 12 with systemd."""
    tar, folder = work / "bare.tar", work / "bare"
    packages = "systemd-sysv,dbus,ca-certificates"
    machines.run(["mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", tar], work)
    folder.mkdir()
    machines.run(["tar", "-xf", tar, "-C", folder], work)
    return Layer(folder)


@pytest.fixture(scope="session")
def installed(work: Path, bare: Layer, first: Path, second: object, older: object) -> Layer:
    """The same with the package installed by apt, which fetches what it depends on; no service was started.

    The other builds are under way meanwhile.
    """
    folder = work / "installed"
    with bare.opened(folder) as root:
        machines.without_services(root)
        with machines.plain(root, network=True) as machine:
            machine.run("apt-get", "update", "--quiet")
            (work / "apt.log").write_text(machine.install(first))
    return bare.above(folder)


@pytest.fixture(scope="session")
def prepared(work: Path, installed: Layer) -> Layer:
    """All that the package depends on without the package itself, and what the tests call."""
    folder = work / "prepared"
    with installed.opened(folder) as root:
        with machines.plain(root, network=True) as machine:
            machine.run("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *EXTRA)
            machine.run("dpkg", "--purge", "ohlcvd")
            machine.run("deluser", "--system", "ohlcvd")
        machines.with_services(root)
    return installed.above(folder)


@pytest.fixture
def machine(
    prepared: Layer, installed: Layer, first: Path, tmp_path_factory: pytest.TempPathFactory, work: Path
) -> Iterator[Machine]:
    """A machine without a service manager, with the package."""
    with prepared.opened(Path(tempfile.mkdtemp(dir=work))) as root, machines.plain(root) as plain:
        machines.without_services(root)
        plain.install(first)
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
