"""Repetition is counted, nothing that is said for the first time is lost, and counts do not wait for ever."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ohlcvd.log import JsonFileHandler, flush_repeats, get_component_logger, setup_logging, shutdown_logging
from ohlcvd.logfold import KINDS, QUIET_S, Folding

log = get_component_logger("ohlcvd.test")


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A log file in `tmp_path`, folded by a clock of the test's own."""
    setup_logging(file=tmp_path / "test.log", level="INFO", terminal=False)
    clock = Clock()
    for handler in logging.getLogger("ohlcvd").handlers:
        for each in handler.filters:
            assert isinstance(each, Folding)
            monkeypatch.setattr(each, "_now_s", clock)
    yield clock
    shutdown_logging()


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "test.log").read_text().splitlines()]


def messages(folder: Path) -> list[str]:
    return [line["message"] for line in lines_of(folder)]


def test_what_is_repeated_is_counted_and_the_count_is_told_every_minute(tmp_path: Path, clock: Clock) -> None:
    for second in range(130):
        clock.now_s = 1000.0 + second
        log.warning("connection %d ended; connecting again in %.1f s", second % 3, second / 7, attempt=second)
    assert messages(tmp_path) == [
        "connection 0 ended; connecting again in 0.0 s",
        "connection 2 ended; connecting again in 8.4 s (repeated 59 times in 60 s)",
        "connection 2 ended; connecting again in 17.0 s (repeated 60 times in 60 s)",
    ]
    last = lines_of(tmp_path)[-1]
    assert (last["repeated"], last["within_s"], last["attempt"], last["level"]) == (60, 60, 119, "WARNING")


def test_what_comes_again_after_a_quiet_time_is_a_first_again(tmp_path: Path, clock: Clock) -> None:
    log.error("it failed")
    log.error("it failed")
    clock.now_s += QUIET_S
    flush_repeats()
    log.error("it failed")
    assert messages(tmp_path) == ["it failed", "it failed (repeated once in 120 s)", "it failed"]


def test_what_comes_once_a_minute_is_told_once_an_hour_and_when_it_ends(tmp_path: Path, clock: Clock) -> None:
    for _ in range(90):
        log.error("refused, asked again in 60 s", symbol="X")
        clock.now_s += 60.0
    assert messages(tmp_path)[1:] == ["refused, asked again in 60 s (repeated 59 times in 3600 s)"]
    clock.now_s += QUIET_S
    log.info("another day")
    assert messages(tmp_path)[2:] == ["refused, asked again in 60 s (repeated 30 times in 1920 s)", "another day"]


def test_no_first_of_its_kind_is_lost(tmp_path: Path, clock: Clock) -> None:
    log.warning("refused: no such market", symbol="A")
    log.warning("refused: no such market", symbol="B")
    log.warning("refused: too many", symbol="A")
    log.error("refused: too many", symbol="A")
    get_component_logger("ohlcvd.other").warning("refused: too many", symbol="A")
    for error in (ValueError("x"), KeyError("x")):
        log.warning("refused: too many", symbol="A", exc_info=error)
    for text in ("kraken ended: killed", "kraken does not beat"):
        log.warning("%s", text, child="kraken")
    assert len(lines_of(tmp_path)) == 9


def test_information_is_not_folded_unless_it_says_that_a_failure_is_over(tmp_path: Path, clock: Clock) -> None:
    for _ in range(3):
        log.info("collected 5 trades")
    assert len(lines_of(tmp_path)) == 3
    for second in range(30):
        clock.now_s += 2.0
        log.warning("it is away")
        log.recovered("it answers again after %d s", second)
    clock.now_s += 5.0
    log.info("another minute")
    assert [(line["level"], line["message"]) for line in lines_of(tmp_path)[3:]] == [
        ("WARNING", "it is away"),
        ("INFO", "it answers again after 0 s"),
        ("WARNING", "it is away (repeated 29 times in 63 s)"),
        ("INFO", "another minute"),
    ]
    clock.now_s += QUIET_S
    flush_repeats()
    assert messages(tmp_path)[-1] == "it answers again after 29 s (repeated 29 times in 183 s)"


def test_counts_are_told_at_the_end_and_by_the_process_that_counted(tmp_path: Path, clock: Clock) -> None:
    log.warning("again")
    log.warning("again")
    pid = os.fork()
    if pid == 0:
        setup_logging(file=tmp_path / "test.log", level="INFO", terminal=False)
        shutdown_logging()
        os._exit(0)
    os.waitpid(pid, 0)
    assert messages(tmp_path) == ["again"]
    shutdown_logging()
    assert messages(tmp_path) == ["again", "again (repeated once in 0 s)"]


def test_the_kinds_kept_are_bounded_and_none_is_forgotten_with_its_count(tmp_path: Path, clock: Clock) -> None:
    log.warning("the first", symbol="first")
    log.warning("the first", symbol="first")
    for number in range(KINDS + 5):
        log.warning("many", symbol=f"S{number}")
    assert len(lines_of(tmp_path)) == KINDS + 7
    assert "the first (repeated once in 0 s)" in messages(tmp_path)


def test_a_wrong_format_is_folded_like_any_other(tmp_path: Path) -> None:
    setup_logging(file=tmp_path / "test.log", level="INFO", terminal=False)  # here, where pytest does not listen
    log.warning("%d rows", "no number")
    log.warning("%d rows", "no number")
    shutdown_logging()
    assert len(lines_of(tmp_path)) == 2


def test_file_and_terminal_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(file=tmp_path / "both.log", level="INFO", terminal=True)
    for _ in range(3):
        log.warning("both")
    shutdown_logging()
    assert len((tmp_path / "both.log").read_text().splitlines()) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2
    assert "both (repeated 2 times in 0 s)" in shown[1]
    assert not [handler for handler in logging.getLogger("ohlcvd").handlers if isinstance(handler, JsonFileHandler)]
