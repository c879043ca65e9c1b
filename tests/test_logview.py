"""`ohlcvd logs`: merged by time, followed through rotations, readable whatever is in the files."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ohlcvd.errors import ConfigError, UsageError
from ohlcvd.logview import files_of, follow, main, show


def line(second: int, message: str, component: str = "ohlcvd.x", **fields: object) -> str:
    """One line of a log file."""
    moment = f"2026-01-02T03:04:{second:02}.000Z"
    document = {"time": moment, "level": "INFO", "component": component, "message": message, "pid": 1, **fields}
    return json.dumps(document) + "\n"


def messages(shown: list[str]) -> list[str]:
    return [text.split()[-1] for text in shown]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder with the logs of a supervisor, three exchanges, one of them in shards, and a database."""
    (tmp_path / "ohlcvd.log").write_text(line(1, "up") + line(9, "down"))
    (tmp_path / "kraken.log").write_text(line(2, "connected") + line(5, "\x1b[2Jgone"))
    (tmp_path / "binance-1.log").write_text(line(3, "one"))
    (tmp_path / "binance-2.log").write_text(line(4, "two"))
    (tmp_path / "binance-us.log").write_text(line(4, "us"))
    (tmp_path / "postgres.log").write_text("LOG:  ready \x1b[31m\n")
    return tmp_path


def test_files_are_merged_by_time_and_others_lines_left_out(logs: Path) -> None:
    shown = list(show(files_of(logs, None), lines=50, colour=False))
    assert messages(shown) == ["up", "connected", "one", "two", "us", "\\x1b[2Jgone", "down"]
    assert messages(list(show(files_of(logs, None), lines=2, colour=False))) == [
        "\\x1b[2Jgone",
        "down",
    ]
    assert list(show(files_of(logs, None), lines=0, colour=False)) == []


def test_a_name_stands_for_an_exchange_a_shard_or_a_process(logs: Path) -> None:
    assert [path.name for path in files_of(logs, "binance")] == ["binance-1.log", "binance-2.log", "ohlcvd.log"]
    assert [path.name for path in files_of(logs, "binance/2")] == ["binance-2.log", "ohlcvd.log"]
    assert [path.name for path in files_of(logs, "supervisor")] == ["ohlcvd.log"]
    shown = list(show(files_of(logs, "postgres"), lines=50, name="postgres", colour=False))
    assert shown == ["LOG:  ready \\x1b[31m"]
    with pytest.raises(UsageError, match=r"has no log of krakn; there are .*; did you mean kraken\?"):
        files_of(logs, "krakn")


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("binance", ["1-died", "2-died", "sums"]),
        ("binance/2", ["2-died", "sums"]),
        ("binance-2", ["2-died", "sums"]),
        ("kraken", ["sums"]),
        ("postgres", ["away"]),
        ("monitor", ["watching", "sums"]),
    ],
)
def test_what_is_said_of_a_process_belongs_to_it(tmp_path: Path, name: str, about: list[str]) -> None:
    (tmp_path / "ohlcvd.log").write_text(
        line(1, "1-died", child="binance/1") + line(2, "2-died", child="binance/2") + line(3, "away", server="postgres")
    )
    told = {"binance": {"trades": 5}, "kraken": {"trades": 7}}
    (tmp_path / "monitor.log").write_text(line(4, "watching") + line(5, "sums", exchanges=told))
    for file in ("binance-1", "binance-2", "kraken", "postgres"):
        (tmp_path / f"{file}.log").touch()
    shown = list(show(files_of(tmp_path, name), lines=50, name=name, colour=False))
    assert [re.search(r"1-died|2-died|away|watching|sums", text)[0] for text in shown] == about  # type: ignore[index]
    assert "trades" not in "".join(shown), "what is nested is for programs"


def test_without_logs_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no logs yet"):
        files_of(tmp_path / "log", None)
    assert files_of(tmp_path, None) == []
    with pytest.raises(UsageError, match="there are none"):
        files_of(tmp_path, "kraken")


def test_only_the_end_of_a_long_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_text("".join(line(number % 60, f"{number}") for number in range(5000)) + "cut")
    shown = list(show([path], lines=3000, colour=False))
    assert messages(shown) == [str(number) for number in range(2000, 5000)]


def test_following_through_rotation_truncation_and_new_files(logs: Path) -> None:
    kraken, new = logs / "kraken.log", logs / "okx.log"

    def append(path: Path, text: str) -> None:
        with open(path, "a") as file:
            file.write(text)

    def rotate() -> None:
        append(kraken, line(13, "d"))
        kraken.rename(logs / "kraken.log.1")
        append(logs / "kraken.log.1", line(14, "e"))
        append(kraken, line(15, "f"))

    def empty() -> None:
        os.truncate(new, 0)
        append(new, line(17, "h"))

    # What happens between one look and the next.
    steps: list[Callable[[], object]] = [
        lambda: append(kraken, line(11, "b") + line(12, "c")[:20]),
        lambda: append(kraken, line(12, "c")[20:]),
        rotate,
        lambda: append(new, line(16, "g") * 2),
        empty,
        lambda: kraken.unlink(),
        lambda: append(kraken, line(18, "i")),
    ]

    class Over(Exception):
        pass

    def sleep(_seconds: float) -> None:
        if not steps:
            raise Over
        steps.pop(0)()

    seen: list[str] = []
    with pytest.raises(Over):
        seen.extend(follow(lambda: files_of(logs, None), colour=False, sleep=sleep))
    assert messages(seen) == ["b", "c", "d", "e", "f", "g", "g", "h", "i"]


def test_printing(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(logs, "kraken", lines=1, follow_on=False)
    assert capsys.readouterr().out == "03:04:05 INFO    x  \\x1b[2Jgone\n"
