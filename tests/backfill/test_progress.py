"""What is shown while a backfill runs, and at its end."""

import io
import logging

import pytest

from ohlcvd.backfill import words
from ohlcvd.backfill.goal import Goal, Standing
from ohlcvd.backfill.progress import PLAIN_S, WINDOW_S, Display, Meter, Notes, bar, span
from ohlcvd.log import get_component_logger
from ohlcvd.market import MINUTE_US, SECOND_US, Kind

MARKET = "kraken BTC/USD"
NOON_US = 1_772_366_400 * SECOND_US
KINDS: tuple[Kind, Kind] = ("trades", "candles")
GOAL = Goal("kraken", "BTC/USD", KINDS, KINDS, NOON_US, NOON_US + 90 * MINUTE_US)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")


def meter(percent: int, rows: int = 1_000, seconds: float = 2.0) -> Meter:
    found = Meter(100)
    found.saw(0.0, 0, 0)
    found.saw(seconds, percent, rows)
    return found


def test_speed_and_time_left_are_those_of_the_last_seconds() -> None:
    found = Meter(1_000)
    assert (found.percent, found.rows_per_s, found.left_s) == (0, 0.0, None)
    found.saw(0.0, 0, 0)
    found.saw(10.0, 500, 5_000)
    assert found.words() == "50 %, 5,000 rows, 500 rows/s, 10 s left"
    for second in range(11, 12 + int(WINDOW_S)):
        found.saw(float(second), 500 + 10 * (second - 10), 20)
    assert found.rows_per_s == pytest.approx(20)
    assert found.left_s == pytest.approx((500 - 10 * (WINDOW_S + 1)) / 10)
    found.saw(99.0, 999, 0)
    assert found.percent == 99
    found.saw(100.0, 1_000, 1)
    assert found.words() == "100 %, 5,621 rows"
    assert Meter(0).percent == 100


def test_spans_and_bars_are_readable() -> None:
    assert [span(s) for s in (0.4, 119, 120, 7_100, 18_600, 273_600)] == [
        "0 s", "119 s", "2 min", "118 min", "5 h 10 min", "3 d 4 h"
    ]  # fmt: skip
    assert [bar(percent) for percent in (0, 50, 99, 100)] == [
        f"[{'#' * n}{'-' * (24 - n)}]" for n in (0, 12, 23, 24)
    ]  # fmt: skip


def test_a_pipe_gets_a_line_now_and_then() -> None:
    out = io.StringIO()
    display = Display(out, MARKET)
    display.show({"trades": meter(10), "candles": meter(100)}, 1.0)
    display.show({"trades": meter(20), "candles": meter(100)}, 1.5)
    assert out.getvalue() == ""
    display.show({"trades": meter(50), "candles": meter(100)}, 1.0 + PLAIN_S)
    display.show({"trades": meter(60), "candles": meter(100)}, 1.5 + PLAIN_S)
    display.note("warning: \x1b[31m")
    display.end({"trades": meter(100)})
    assert out.getvalue().splitlines() == [
        f"{MARKET} trades: 50 %, 1,000 rows, 500 rows/s, 2 s left",
        "warning: \\x1b[31m",
    ]


def test_a_terminal_gets_bars_that_stay_in_their_place() -> None:
    out = Screen()
    display = Display(out, MARKET)
    display.show({"trades": meter(10), "candles": meter(100)}, 1.0)
    display.show({"trades": meter(20), "candles": meter(100)}, 1.1)  # too soon
    display.note("hello")
    display.show({"trades": meter(50), "candles": meter(100)}, 2.0)
    display.end({"trades": meter(100), "candles": meter(100)})
    shown = screen(out.getvalue())
    assert shown == [
        "hello",
        f"{MARKET} trades  {bar(100)} 100 %, 1,000 rows",
        f"{MARKET} candles {bar(100)} 100 %, 1,000 rows",
    ]
    assert max(map(len, out.getvalue().split("\n"))) < 70 + len("\x1b[2A\r\x1b[J")


def screen(text: str) -> list[str]:
    """What a terminal shows of it: lines, cursor up, erase what is below."""
    lines: list[str] = []
    for part in text.split("\x1b[2A\r\x1b[J"):
        lines = (lines[:-2] if lines or part != text.split("\x1b[2A\r\x1b[J")[0] else []) + part.split("\n")[:-1]
    return lines


def test_warnings_are_shown_in_one_line() -> None:
    out = io.StringIO()
    notes = Notes(Display(out, MARKET))
    logger = logging.getLogger("ohlcvd.test_progress")
    logger.addHandler(notes)
    try:
        get_component_logger("ohlcvd.test_progress").warning("away", retry_in_s=2, exc_info=ValueError("x"))
        get_component_logger("ohlcvd.test_progress").info("nothing")
    finally:
        logger.removeHandler(notes)
    assert out.getvalue().split(" ", 1)[1] == "WARNING test_progress  away  retry_in_s=2\n"


def test_the_last_sentence_says_what_is_complete() -> None:
    whole = [(GOAL.lower_us, GOAL.upper_us)]
    complete = [Standing(kind, whole, [], []) for kind in KINDS]
    assert words.ended(GOAL, complete, 1_234) == (
        "kraken BTC/USD: trades and candles from 2026-03-01 12:00 to 2026-03-01 13:30 (UTC) are complete; "
        "1,234 rows are new"
    )
    gaps = [(NOON_US, NOON_US + 5 * SECOND_US), (NOON_US + MINUTE_US, NOON_US + MINUTE_US + 1)]
    lost = [Standing("trades", whole, gaps, []), complete[1]]
    assert words.ended(GOAL, lost, 0) == (
        "kraken BTC/USD from 2026-03-01 12:00 to 2026-03-01 13:30 (UTC): candles are complete, trades are complete "
        "but for 2 gaps of 5s that the venue does not give, the first from 2026-03-01 12:00:00 to 2026-03-01 12:00:05; "
        "nothing had to be fetched; `ohlcvd gaps kraken BTC/USD` shows why"
    )
    meters: dict[Kind, Meter] = {"trades": meter(42), "candles": meter(100)}
    assert words.interrupted(GOAL, meters, left_rows=0, others_go_on=False) == (
        "kraken BTC/USD: stopped at trades 42 %, candles 100 %; what was fetched is stored, and the same command goes "
        "on from here"
    )
    assert "the running ohlcvd goes on" in words.interrupted(GOAL, meters, left_rows=0, others_go_on=True)
    assert "7 rows could not be stored" in words.interrupted(GOAL, meters, left_rows=7, others_go_on=False)
    assert words.interrupted(GOAL, {}, left_rows=0, others_go_on=False).startswith("kraken BTC/USD: stopped before")
