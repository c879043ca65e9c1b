"""What the package says about the program is what the program is: pages, completion, versions, licences, services."""

import configparser
import contextlib
import importlib.util
import io
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from ohlcvd import __version__, cli
from ohlcvd.commands import COMMANDS
from ohlcvd.config.layers import SERVICE_STOP_S
from ohlcvd.config.settings import ENVIRONMENT_NAMES, EXCHANGE_KEYS, SECTIONS
from ohlcvd.errors import Exit

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "debian"


def script(name: str) -> ModuleType:
    """One of the scripts in debian/, as a module."""
    loader = SourceFileLoader(f"debian_{name}", str(DEBIAN / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What debian/documents writes."""
    folder = tmp_path_factory.mktemp("documents")
    subprocess.run([sys.executable, "-P", DEBIAN / "documents", ROOT, folder], check=True)
    return folder


def plain(page: str) -> str:
    """A manual page without its escapes."""
    return re.sub(r"\\f[BIR]", "", page).replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")


def options_of(name: str) -> set[str]:
    """The options that `ohlcvd NAME --help` shows."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert cli.main([name, "--help"]) == 0
    return long_options(shown.getvalue().partition("\nexample:")[0])


def long_options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def test_the_manual_page_has_every_command_and_every_option_of_it(documents: Path) -> None:
    page = plain((documents / "ohlcvd.8").read_text())
    sections = dict(re.findall(r"^\.SS (\S+)\n(.*?)(?=^\.S[SH] )", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(COMMANDS)
    for name, text in sections.items():
        assert COMMANDS[name][1] in text
        assert options_of(name) - {"--help", "--config"} <= long_options(text), name


def test_the_manual_page_has_every_exit_code(documents: Path) -> None:
    page = plain((documents / "ohlcvd.8").read_text())
    section = page.partition(".SH EXIT STATUS")[2].partition(".SH ENVIRONMENT")[0]
    named = {int(code) for code in re.findall(r"^\.B (\d+)$", section, re.MULTILINE)}
    named |= {int(code) for code in re.findall(r"\b(\d) ", section.partition("Of\n")[2])}
    assert named == {int(code) for code in Exit}


def test_the_manual_page_of_the_configuration_has_every_key_and_no_other() -> None:
    page = plain((DEBIAN / "ohlcvd.conf.5").read_text())
    found: dict[str, list[str]] = {}
    for heading, text in re.findall(r"^\.SH SECTIONS? \[(.*?)\]\n(.*?)(?=^\.SH )", page, re.MULTILINE | re.DOTALL):
        found[heading] = re.findall(r"^\.TP\n\.B (\w+)$", text, re.MULTILINE)
    assert found == {**{name: list(keys) for name, keys in SECTIONS.items()}, "exchange:NAME": list(EXCHANGE_KEYS)}
    section = page.partition(".SH ENVIRONMENT")[2].partition(".SH EXAMPLES")[0]
    assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", section)) == ENVIRONMENT_NAMES


def test_the_shipped_configuration_has_every_key() -> None:
    text = (ROOT / "etc/ohlcvd/ohlcvd.conf").read_text()
    keys = {key for section in (*SECTIONS.values(), EXCHANGE_KEYS) for key in section}
    assert {key for key in keys if not re.search(rf"^;?{key} *=", text, re.MULTILINE)} == set()


def test_completion_offers_commands_options_and_words(documents: Path) -> None:
    def completed(*words: str) -> list[str]:
        script = (
            f'source {documents}/completion; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ohlcvd; '
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert set(completed("ohlcvd", "")) == set(COMMANDS)
    assert "status" in completed("ohlcvd", "--config", "x", "sta")
    assert completed("ohlcvd", "gaps", "krak") == ["kraken", "krakenfutures"]
    assert completed("ohlcvd", "start", "--service", "b") == ["both"]
    for name in COMMANDS:
        assert options_of(name) <= {"--config", *completed("ohlcvd", name, "--")}


def test_the_changelog_has_this_version() -> None:
    assert (DEBIAN / "changelog").read_text().startswith(f"ohlcvd ({__version__}) ")


def test_every_vendored_package_has_its_licence_in_the_copyright_file() -> None:
    vendored = re.findall(r"^([A-Za-z0-9-]+)==", script("vendor").requirements(), re.MULTILINE)
    assert {"ccxt", "psycopg", "redis"} <= set(vendored)
    text = (DEBIAN / "copyright").read_text()
    patterns = [line.strip().removeprefix("usr/lib/ohlcvd/") for line in text.splitlines() if "usr/lib/ohlcvd/" in line]
    of_windows = {"winloop", "colorama", "tzdata"}
    for name in set(vendored) - of_windows:
        folder = name.replace("-", "_")
        assert any(f"{folder}-".startswith(pattern.rstrip("*")) for pattern in patterns if pattern.endswith("*")), name
    licences = set(re.findall(r"^License: (\S+)$", text.partition("\nLicense: Apache-2.0\n On ")[2], re.MULTILINE))
    used = {
        word for line in re.findall(r"^License: (.+)$", text, re.MULTILINE) for word in re.findall(r"[\w.+-]+", line)
    }
    assert used - {"and", "or"} == licences | {"Apache-2.0"}


def test_service_managers_wait_longer_than_the_daemon_takes() -> None:
    unit = (ROOT / "etc/systemd/ohlcvd.service").read_text()
    program = configparser.ConfigParser(inline_comment_prefixes=(";",))
    program.read(ROOT / "etc/supervisor/ohlcvd.conf")
    assert f"\nTimeoutStopSec={SERVICE_STOP_S:.0f}\n" in unit
    assert program.getint("program:ohlcvd", "stopwaitsecs") == SERVICE_STOP_S
    assert "\nRestartPreventExitStatus=78\n" in unit
    assert program.get("program:ohlcvd", "exitcodes") == "0,78"
    condition = "ConditionPathExists=!/etc/supervisor/conf.d/ohlcvd.conf"
    assert f"\n{condition}\n" in unit
    # supervisord turns this file over itself; moved away by logrotate, it would be written to until it is deleted
    assert not program.get("program:ohlcvd", "stderr_logfile").endswith(".log")


def test_the_compose_file_sets_what_exists() -> None:
    text = (ROOT / "etc/docker/compose.yaml").read_text().partition("\n  postgres:\n")[0]
    names = set(re.findall(r"^      ([A-Z_]+):", text, re.MULTILINE))
    assert names
    assert names <= ENVIRONMENT_NAMES


@pytest.mark.parametrize(("words", "code"), [(("--version",), 64), (("nonsense",), 64), (("--help",), 0)])
def test_the_words_of_bin_package(words: tuple[str, ...], code: int) -> None:
    done = subprocess.run([ROOT / "bin/package", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "bin/package --version VERSION" in done.stdout if code == 0 else done.stderr.startswith("ohlcvd: ")


@pytest.mark.parametrize(
    ("suite", "package", "last", "code"),
    [
        ("echo 1890 passed, 0 failed", "echo == 32 passed in 431.12s ==", "1922 passed, 0 failed", 0),
        ("echo 9 passed, 1 failed; exit 1", "echo = 3 passed, 1 skipped =", "12 passed, 1 failed, 1 skipped", 1),
        ("echo 9 passed, 0 failed", "echo = 3 failed, 8 passed, 2 errors =; exit 1", "17 passed, 5 failed", 1),
        ("echo 9 passed, 0 failed", "echo not tested here: it takes Debian 12", "9 passed, 0 failed", 0),
        ("echo crash; exit 70", "echo no tests ran; exit 5", "0 passed, 2 failed", 1),
    ],
)
def test_the_last_line_of_continuous_integration_adds_up(
    tmp_path: Path, suite: str, package: str, last: str, code: int
) -> None:
    for name, script in (("bin/test", suite), (".ci/package", package), (".ci/run", (ROOT / ".ci/run").read_text())):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    done = subprocess.run([tmp_path / ".ci/run"], capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines()[-1], done.returncode) == (last, code), done.stderr
