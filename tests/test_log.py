"""Logs: every line is valid JSON whatever is logged, and nothing that happens to a log stops the process."""

import asyncio
import io
import json
import logging
import os
import resource
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.errors import ConfigError
from ohlcvd.log import get_component_logger, readable, reopen_logs, setup_logging, shutdown_logging
from tests.waiting import wait_until

log = get_component_logger("ohlcvd.test")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    shutdown_logging()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log file that is being written."""
    path = tmp_path / "test.log"
    setup_logging(file=path, level="INFO", terminal=False)
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Every line of the file, each of which must be JSON; split as the strictest reader would."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_has_the_documented_fields(file: Path) -> None:
    collector = get_component_logger("ohlcvd.ohlcv.collector.kraken.BTC/USD")
    collector.info("stored %d candles", 500, exchange="kraken", symbol="BTC/USD", count=500)
    (line,) = lines_of(file)
    assert list(line) == ["time", "level", "component", "message", "pid", "exchange", "symbol", "count"]
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-02T03:04:05.678Z")
    assert line["level"] == "INFO"
    assert line["component"] == "ohlcvd.ohlcv.collector.kraken.BTC/USD"
    assert (line["message"], line["pid"], line["count"]) == ("stored 500 candles", os.getpid(), 500)


def test_levels(file: Path) -> None:
    assert not log.is_enabled(logging.DEBUG)
    log.debug("%s", Unshowable())
    for write in (log.info, log.warning, log.error, log.critical):
        write("x")
    assert [line["level"] for line in lines_of(file)] == ["INFO", "WARNING", "ERROR", "CRITICAL"]
    assert log.name == "ohlcvd.test"


def test_a_field_that_is_called_like_one_of_ours_keeps_its_value(file: Path) -> None:
    log.info("child ended", pid=7, message="m", level=1, args=2, name="n", msg=3, exc_text=4)
    (line,) = lines_of(file)
    assert (line["pid"], line["pid_"], line["message"], line["message_"]) == (os.getpid(), 7, "child ended", "m")
    assert (line["level_"], line["args"], line["name"], line["msg"], line["exc_text"]) == (1, 2, "n", 3, 4)


def test_an_exception_stays_on_one_line(file: Path) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        log.exception("failed")
        log.warning("again", exc_info=error)
        kept = error
    log.error("later", exc_info=kept)
    log.error("no exception", exc_info=None)
    first, second, third, last = lines_of(file)
    assert first["level"] == "ERROR"
    for line in (first, second, third):
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ValueError: two\nlines")
    assert "exception" not in last


class Unshowable:
    """Something whose own code fails when it is logged."""

    def __str__(self) -> str:
        raise RuntimeError("never")


class Endless(dict[str, object]):
    """A mapping that cannot be read."""

    def items(self) -> Any:
        raise RuntimeError("never")


def test_values_that_json_lacks_become_text(file: Path) -> None:
    loop: list[object] = []
    loop.append(loop)
    log.info(
        "values",
        price=Decimal("1.50"),
        path=Path("/x"),
        raw=b"\xff",
        nan=float("nan"),
        deep={"inf": [float("inf")]},
        big=1 << 100_000,
        loop=loop,
        broken=Unshowable(),
        error=ValueError("v"),
        keys={1: 2, None: 3},
        surrogate="\udc80",
        yes=True,
        nothing=None,
    )
    (line,) = lines_of(file)
    assert (line["price"], line["path"], line["raw"], line["nan"]) == ("1.50", "/x", "\\xff", "nan")
    assert line["deep"] == {"inf": ["inf"]}
    assert line["big"].startswith("0x1000")
    assert line["broken"] == "<Unshowable that cannot be shown: RuntimeError>"
    assert (line["error"], line["keys"], line["surrogate"]) == ("ValueError: v", {"1": 2, "None": 3}, "\udc80")
    assert (line["yes"], line["nothing"]) == (True, None)


def test_a_line_that_cannot_be_formatted_is_still_a_line(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    setup_logging(file=file, level="INFO", terminal=False)  # here, where pytest's own handler does not listen
    log.info("%d trades", "many")
    log.info("%s", Unshowable())
    log.info("x", fields=Endless())
    first, second, third = lines_of(file)
    assert first["message"] == "%d trades ('many',) (TypeError while formatting)"
    assert "RuntimeError while formatting" in second["message"]
    assert third["message"] == "a log line of ohlcvd.test cannot be shown: RuntimeError"


@given(st.text(), st.text(), st.recursive(st.none() | st.floats() | st.text() | st.binary() | st.integers(), st.lists))
def test_every_line_is_json_and_obeys_no_terminal(
    tmp_path_factory: pytest.TempPathFactory, a: str, b: str, c: Any
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.log"
    setup_logging(file=path, level="INFO", terminal=False)
    log.info(a, field=b, other={b: c})
    (line,) = lines_of(path)
    assert line["message"] == a
    assert line["field"] == b
    for text in (path.read_text(encoding="utf-8")[:-1], readable(line)):
        assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)


def test_warnings_and_asyncio_are_logged_too(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # catch_warnings keeps what captureWarnings puts in place
        logging.captureWarnings(True)
        warnings.warn("careful", stacklevel=1)
        logging.captureWarnings(False)

    async def forget() -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "forgotten", "exception": ValueError("v")})

    asyncio.run(forget())
    warning, forgotten = lines_of(file)
    assert (warning["component"], warning["level"]) == ("py.warnings", "WARNING")
    assert "careful" in warning["message"]
    assert (forgotten["component"], forgotten["level"]) == ("asyncio", "ERROR")
    assert forgotten["exception"].endswith("ValueError: v")


def test_rotation_loses_and_doubles_nothing(file: Path) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(4000):
            log.info("line", number=number)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    rotations = 0
    while not done.is_set():
        file.rename(file.with_suffix(f".{rotations:06}"))
        reopen_logs()
        rotations += 1
    writer.join()
    old = sorted(path for path in file.parent.iterdir() if path != file)
    numbers = [line["number"] for path in [*old, file] for line in lines_of(path)]
    assert sorted(numbers) == list(range(4000))
    assert rotations > 10


def test_tail_follows_rotations_and_misses_nothing(file: Path, tmp_path: Path) -> None:
    """Also what is written after the file was moved and before anybody says so."""
    shown = tmp_path / "shown"
    with shown.open("wb") as output, subprocess.Popen(["tail", "-n", "+1", "-F", file], stdout=output) as tail:

        def shows(lines: int) -> None:
            wait_until(lambda: shown.read_bytes().count(b"\n") >= lines, f"tail shows {lines} lines")

        log.info("line", number=0)
        for number in range(1, 801):
            if number % 100 == 1:
                shows(number)
            if number % 100 == 50:
                file.rename(file.with_suffix(f".{number}"))
            if number % 100 == 75:
                reopen_logs()
            log.info("line", number=number)
        shows(801)
        tail.terminate()
    assert [line["number"] for line in lines_of(shown)] == list(range(801))


def test_a_file_that_was_removed_is_made_anew(file: Path) -> None:
    file.unlink()
    log.info("on")
    assert [line["message"] for line in lines_of(file)] == ["on"]


def test_several_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    code = """
import sys
from pathlib import Path
from ohlcvd.log import get_component_logger, setup_logging
setup_logging(file=Path(sys.argv[1]), level="INFO", terminal=False)
for number in range(500):
    get_component_logger("ohlcvd.test").info("x" * 500, child=int(sys.argv[2]), number=number)
"""
    root = Path(__file__).resolve().parents[1]
    argv = [sys.executable, "-c", code, str(path)]
    children = [subprocess.Popen([*argv, str(child)], cwd=root) for child in range(4)]
    assert [child.wait(timeout=60) for child in children] == [0] * 4
    seen = sorted((line["child"], line["number"]) for line in lines_of(path))
    assert seen == [(child, number) for child in range(4) for number in range(500)]


def test_a_file_that_cannot_be_reopened_goes_on(file: Path) -> None:
    moved = file.parent.rename(file.parent.with_name("moved"))
    reopen_logs()
    log.info("still here")
    said = [line["message"] for line in lines_of(moved / file.name)]
    assert said == ["log file cannot be reopened, the old one goes on", "still here"]


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none/x\.log: cannot be opened: No such file or directory"):
        setup_logging(file=tmp_path / "none" / "x.log", level="INFO", terminal=False)


def test_a_full_disk_is_survived_and_told_of(file: Path) -> None:
    log.info("before")
    # The kernel cuts the line that crosses the limit, and refuses the next: just what a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 40, hard))
    try:
        for number in range(3):
            log.info("lost", number=number)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.info("after")
    *whole, last = file.read_text().splitlines()
    torn = whole.pop(1)
    assert torn.startswith('{"time": "20')
    assert [json.loads(line)["message"] for line in whole] == ["before", "log lines could not be written"]
    assert json.loads(whole[1])["lines"] == 3
    assert json.loads(whole[1])["reason"] == "File too large"
    assert json.loads(last)["message"] == "after"


def test_setting_up_again_closes_what_was_open(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for number in range(3):
        setup_logging(file=tmp_path / f"{number}.log", level="INFO", terminal=True)
    shutdown_logging()
    assert set(os.listdir("/proc/self/fd")) == before
    assert (tmp_path / "0.log").stat().st_mode & 0o007 == 0


def test_the_file_is_not_inherited_by_programs(file: Path) -> None:
    code = (
        "import os; print(*[os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 3])"
    )
    done = subprocess.run([sys.executable, "-c", code], close_fds=False, capture_output=True, text=True, check=False)
    assert str(file) not in done.stdout
    reopen_logs()
    done = subprocess.run([sys.executable, "-c", code], close_fds=False, capture_output=True, text=True, check=False)
    assert str(file) not in done.stdout


# On a terminal


def test_a_readable_line() -> None:
    line = {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "WARNING",
        "component": "ohlcvd.trade.collector.kraken.BTC/USD",
        "message": "connected",
        "pid": 7,
        "exchange": "kraken",
        "symbol": "BTC/USD",
        "attempt": 2,
        "why": "a\x1b[2Jb",
        "exception": "Traceback\n  x\nValueError: \x07",
    }
    assert readable(line) == (
        "03:04:05 WARNING kraken BTC/USD trade  connected  attempt=2  why=a\\x1b[2Jb\n"
        "    Traceback\n      x\n    ValueError: \\x07"
    )
    assert readable(line | {"component": "ohlcvd.supervisor"}).startswith(
        "03:04:05 WARNING supervisor  connected  exch"
    )
    assert readable(line, colour=True).startswith("\x1b[33m03:04:05")
    assert readable({"message": "only"}).endswith("only")


def test_a_terminal_gets_readable_lines_without_colours_unless_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(file=None, level="INFO", terminal=True)
    log.warning("hello", count=2)
    assert capsys.readouterr().err.endswith("WARNING test  hello  count=2\n")


def test_colours_on_a_real_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(slave, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        setup_logging(file=None, level="INFO", terminal=True)
        log.error("red")
        monkeypatch.setenv("NO_COLOR", "1")
        log.error("plain")
        shown = ""
        while shown.count("\n") < 2:
            shown += os.read(master, 1000).decode()
    os.close(master)
    red, plain = shown.splitlines()
    assert red.startswith("\x1b[31m")
    assert red.endswith("red\x1b[0m")
    assert "\x1b" not in plain


def test_a_terminal_that_is_gone_stops_nobody(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup_logging(file=file, level="INFO", terminal=True)
    read, write = os.pipe()
    os.close(read)
    # Unbuffered, so that nothing is left to be flushed into a pipe that nobody reads.
    with io.TextIOWrapper(os.fdopen(write, "wb", 0), write_through=True) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log.info("to a closed pipe")
    log.info("to a closed stream")
    monkeypatch.undo()
    assert [line["message"] for line in lines_of(file)] == ["to a closed pipe", "to a closed stream"]


def test_without_any_place_to_log_to_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(file=None, level="INFO", terminal=False)
    log.error("nobody hears this")
    assert capsys.readouterr().err == ""
