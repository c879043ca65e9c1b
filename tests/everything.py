"""Runs ruff, mypy, and the suite on every Python, and adds it all up: `everything.py FOLDER_FOR_CACHES`.

`bin/test` calls it. Standard input has a line "3.12 /path/of/python3.12" for each Python, the one that runs this first.
There are two lanes: the checks and the whole suite on the first Python, printed as they run; at the same time the other
Pythons one after the other, without the tests of servers and processes (ONCE), printed when the first is done. A lane
mostly waits, so two suit two cores.

The last line is "N passed, N failed", with ", N skipped" if there are any; ruff and mypy count as one test each, and so
does a suite that ends without a result. The exit code is 0 only if nothing failed.
"""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.11", "3.12", "3.13")
PYTEST = ("-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=300", "--ignore=tests/long")
# Most tests wait for other processes most of the time. A file's tests stay together, the slow files come first.
LANES = ("--dist", "loadfile", "--no-loadscope-reorder")
FIRST = ("-n", os.environ.get("OHLCVD_TEST_LANES", "6"), *LANES)
# What these test are shell, pip, servers, SQL, recordings and processes: the same whichever Python runs the tests. The
# other Pythons run those of what is computed, of forks, signals and the event loop, and the whole program as a demo.
ONCE = (
    "tests/backfill",
    "tests/cache",
    "tests/database",
    "tests/embedded",
    "tests/exchange/test_allowance.py",
    "tests/exchange/test_bans.py",
    "tests/exchange/test_capabilities.py",
    "tests/exchange/test_catalog.py",
    "tests/exchange/test_fuzz.py",
    "tests/exchange/test_history.py",
    "tests/exchange/test_loading.py",
    "tests/exchange/test_polling.py",
    "tests/exchange/test_proxy.py",
    "tests/exchange/test_recordings.py",
    "tests/exchange/test_stream.py",
    "tests/long",
    "tests/monitor",
    "tests/package",
    "tests/process/test_backfill.py",
    "tests/process/test_faults.py",
    "tests/process/test_hostile.py",
    "tests/process/test_live.py",
    "tests/process/test_monitor.py",
    "tests/process/test_others.py",
    "tests/process/test_outages.py",
    "tests/process/test_repair.py",
    "tests/process/test_replay.py",
    "tests/process/test_storm.py",
    "tests/process/test_supervisord.py",
    "tests/process/test_symbols.py",
    "tests/reading",
    "tests/repair/test_database.py",
    "tests/repair/test_model.py",
    "tests/repair/test_simulator.py",
    "tests/report",
    "tests/simulator",
    "tests/test_cli.py",
    "tests/test_daemon.py",
    "tests/test_everything.py",
    "tests/test_examples.py",
    "tests/test_launcher.py",
    "tests/test_managers.py",
)
OTHERS = (
    "-n", "2", *LANES, *(f"--ignore={path}" for path in ONCE),
    "--deselect=tests/process/test_demo.py::test_damaged_rows_are_found_and_named",
)  # fmt: skip
SUITE_LIMIT_S = 1500.0
Output = IO[bytes] | None
INTERRUPT_S = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one step came to."""

    name: str
    passed: int
    failed: int
    skipped: int
    note: str = ""

    @property
    def line(self) -> str:
        return f"{self.name}: {counts(self.passed, self.failed, self.skipped)}{self.note}"


def counts(passed: int, failed: int, skipped: int) -> str:
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


class Runner:
    """Runs commands in sessions of their own, so that an interruption reaches all they started and leaves nothing."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, command: Sequence[str | Path], stdout: Output = None, stderr: Output = None) -> int:
        """The exit code; 124 when the limit was reached, 130 after `stop`."""
        with self._starting:
            if self._stopped:
                return 130
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
            self._running.add(process)
        try:
            return process.wait(SUITE_LIMIT_S)
        except subprocess.TimeoutExpired:
            _end(process)
            return 124
        except BaseException:
            _end(process)
            raise
        finally:
            self._running.discard(process)

    def stop(self) -> None:
        with self._starting:
            self._stopped = True
        for process in list(self._running):
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Lets it clean up as after Ctrl-C, then kills what is left of its session."""
    for number, patience_s in ((signal.SIGINT, INTERRUPT_S), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience_s)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def check(runner: Runner, name: str, *arguments: str | Path) -> Result:
    """One pass of ruff or mypy over everything."""
    print(f"== {name}", flush=True)
    code = runner.run([sys.executable, "-P", "-m", name, *arguments])
    return Result(name, int(code == 0), int(code != 0), 0)


def checks(runner: Runner, caches: Path) -> list[Result]:
    """Ruff and mypy. Their caches are used by one run at a time: mypy's do not promise more."""
    caches.mkdir(exist_ok=True)
    with open(caches / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return [
            check(runner, "ruff", "check", "--quiet", "--cache-dir", caches / "ruff", "ohlcvd", "tests"),
            check(runner, "mypy", "--no-error-summary", "--cache-dir", caches / "mypy"),
        ]


def suite(runner: Runner, name: str, python: str | Path, options: Sequence[str] = (), output: Output = None) -> Result:
    """The whole suite with one interpreter; what it printed goes to `output`."""
    started = time.monotonic()
    with open(os.devnull, "wb") as nowhere:  # compiles the tests once; else each lane would, at the same moment
        runner.run([python, *PYTEST, *options, "-n", "0", "--collect-only"], nowhere, nowhere)
    with tempfile.TemporaryDirectory(prefix="ohlcvd-suite-") as folder:
        report = Path(folder) / "report.xml"
        code = runner.run([python, *PYTEST, *options, f"--junitxml={report}"], output, output)
        result = read_report(name, report, code)
    return Result(
        name, result.passed, result.failed, result.skipped, f" in {time.monotonic() - started:.0f} s{result.note}"
    )


def read_report(name: str, report: Path, code: int) -> Result:
    """Counts of a JUnit report. A suite that fails without a failed test (crashed, hung, empty) fails once."""
    tests = failed = skipped = 0
    if report.exists():
        for part in ElementTree.parse(report).getroot().iter("testsuite"):
            tests += int(part.get("tests", 0))
            failed += int(part.get("failures", 0)) + int(part.get("errors", 0))
            skipped += int(part.get("skipped", 0))
    passed = max(0, tests - failed - skipped)
    if code != 0 and not failed:
        return Result(name, passed, 1, skipped, f"; pytest ended with code {code}")
    return Result(name, passed, failed, skipped)


def other_suites(runner: Runner, pythons: Sequence[tuple[str, str]], folder: Path) -> list[Result]:
    """Environment and suite for each of the other Pythons, in turn; printed into `folder`/VERSION."""
    results = []
    for version, path in pythons:
        with open(folder / version, "wb") as output:
            with tempfile.TemporaryFile() as answer:
                if runner.run([ROOT / "bin" / "test", "--environment", version, path], answer) != 0:
                    results.append(Result(version, 0, 1, 0, "; no environment could be made"))
                    continue
                answer.seek(0)
                python = answer.read().decode().strip()
            results.append(suite(runner, full_version(python), python, OTHERS, output))
    return results


def full_version(python: str) -> str:
    question = "import platform; print(platform.python_version())"
    return subprocess.run([python, "-I", "-c", question], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def print_outputs(folder: Path) -> None:
    for output in sorted(folder.iterdir()):
        print(f"== suite on Python {output.name}", flush=True)
        sys.stdout.buffer.write(output.read_bytes())
        sys.stdout.flush()


def run_everything(runner: Runner, caches: Path, pythons: Sequence[tuple[str, str]]) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="ohlcvd-tests-") as temporary, ThreadPoolExecutor(1) as lane:
        folder = Path(temporary) / "outputs"
        folder.mkdir()
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(temporary) / "hypothesis")
        others: Future[list[Result]] = lane.submit(other_suites, runner, pythons[1:], folder)
        try:
            results = checks(runner, caches)
            print(f"== suite on Python {full_version(sys.executable)}", flush=True)
            results.append(suite(runner, full_version(sys.executable), sys.executable, FIRST))
            results += others.result()
            print_outputs(folder)
        except BaseException:
            runner.stop()
            raise
    return results


def main() -> int:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    pythons = [(version, path) for version, _, path in (line.strip().partition(" ") for line in sys.stdin)]
    missing = [version for version in SUPPORTED if version not in {version for version, _ in pythons}]
    try:
        results = run_everything(Runner(), Path(sys.argv[1]), pythons)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        return 130
    print("== summary")
    for result in results:
        print(result.line)
    for version in missing:
        print(f"{version}: not run")
    print(counts(*(sum(getattr(result, name) for result in results) for name in ("passed", "failed", "skipped"))))
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
