"""What `bin/test` prints and returns, for a small checkout whose tests pass, fail, crash or hang as told."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.everything import Result, counts, read_report
from tests.servers import private_directory
from tests.waiting import wait_until

SOURCE = Path(__file__).resolve().parent
PASSING = "def test_one() -> None:\n    assert True\n\n\ndef test_two() -> None:\n    assert True\n"
MIXED = PASSING + (
    "\n\ndef test_three() -> None:\n    raise ValueError\n"
    "\n\n@pytest.mark.skip\ndef test_four() -> None:\n    assert True\n"
)
CRASHING = "import os\n\n\ndef test_crash() -> None:\n    os._exit(3)\n"
HANGING = """import os
import time
from pathlib import Path


def test_hang() -> None:
    Path("hanging").write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def caches() -> Iterator[Path]:
    with private_directory() as path:
        yield path


@pytest.fixture
def root() -> Iterator[Path]:
    """A checkout with the real script. Its `bin/test` gives this very Python for any version."""
    with private_directory() as path:
        for name in ("bin", "ohlcvd", "tests/long/night"):
            (path / name).mkdir(parents=True)
        (path / "ohlcvd" / "__init__.py").touch()
        (path / "pyproject.toml").write_text('[tool.mypy]\nstrict = true\nfiles = ["ohlcvd", "tests"]\n')
        (path / "tests" / "everything.py").write_text((SOURCE / "everything.py").read_text())
        (path / "tests" / "long" / "night" / "test_long.py").write_text(
            "raise SystemExit('never part of everything')\n"
        )
        (path / "bin" / "test").write_text(f'#!/bin/sh\n[ "$3" = /broken ] && exit 69\necho {sys.executable}\n')
        (path / "bin" / "test").chmod(0o755)
        yield path


def start(root: Path, caches: Path, tests: str, pythons: str) -> "subprocess.Popen[str]":
    text = f"import pytest\n\n\n{tests}" if "pytest" in tests else tests
    (root / "tests" / "test_sample.py").write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-P", root / "tests" / "everything.py", caches],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OHLCVD_TEST_LANES": "1"},
    )
    assert process.stdin is not None
    process.stdin.write(pythons)
    process.stdin.close()
    return process


def run(root: Path, caches: Path, tests: str, pythons: str) -> tuple[int, list[str]]:
    """Exit code and the lines of the summary."""
    with start(root, caches, tests, pythons) as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    return process.returncode, lines[lines.index("== summary") + 1 :]


def without_times(lines: list[str]) -> list[str]:
    return [line.partition(" in ")[0] for line in lines]


VERSION = ".".join(map(str, sys.version_info[:3]))


def test_all_is_well_and_the_pythons_that_are_not_there_are_named(root: Path, caches: Path) -> None:
    code, summary = run(root, caches, PASSING, "3.11 /first\n")
    assert code == 0
    assert without_times(summary) == [
        "ruff: 1 passed, 0 failed",
        "mypy: 1 passed, 0 failed",
        f"{VERSION}: 2 passed, 0 failed",
        "3.12: not run",
        "3.13: not run",
        "4 passed, 0 failed",
    ]


def test_failures_skips_and_a_python_without_environment_are_counted(root: Path, caches: Path) -> None:
    (root / "ohlcvd" / "__init__.py").write_text("import os\nx: int = ''\n")
    code, summary = run(root, caches, MIXED, "3.11 /first\n3.12 /broken\n3.13 /second\n")
    assert code == 1
    assert without_times(summary) == [
        "ruff: 0 passed, 1 failed",
        "mypy: 0 passed, 1 failed",
        f"{VERSION}: 2 passed, 1 failed, 1 skipped",
        "3.12: 0 passed, 1 failed; no environment could be made",
        f"{VERSION}: 2 passed, 1 failed, 1 skipped",
        "4 passed, 5 failed, 2 skipped",
    ]


def test_a_suite_that_crashes_has_failed(root: Path, caches: Path) -> None:
    code, summary = run(root, caches, CRASHING, "3.11 /first\n")
    assert code == 1
    # each lane's process that dies is one failure
    assert re.match(rf"{re.escape(VERSION)}: 0 passed, [1-9]\d* failed in ", summary[2])
    assert re.fullmatch(r"2 passed, [1-9]\d* failed", summary[-1])


def test_an_interruption_ends_what_was_started(root: Path, caches: Path) -> None:
    with start(root, caches, HANGING, "3.11 /first\n") as process:
        assert process.stdout is not None
        wait_until((root / "hanging").exists, "the suite hangs")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read().splitlines()[-1] == "interrupted"
    assert process.returncode == 130
    suite = int((root / "hanging").read_text())
    wait_until(lambda: not Path(f"/proc/{suite}").exists(), "the suite is gone")


def test_a_report_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    assert read_report("3.11", tmp_path / "report.xml", 2) == Result("3.11", 0, 1, 0, "; pytest ended with code 2")


def test_skips_are_only_mentioned_if_there_are_any() -> None:
    assert counts(3, 0, 0) == "3 passed, 0 failed"
    assert counts(3, 1, 2) == "3 passed, 1 failed, 2 skipped"
