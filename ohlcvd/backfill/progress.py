"""How fast a backfill is, and the lines that say so: bars on a terminal, refreshed in place; plain lines elsewhere.

`Meter` measures and is pure. `Display` writes, and never often.
"""

import logging
import os
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from ohlcvd.log import document_of, readable
from ohlcvd.market import Kind
from ohlcvd.terminal import safe

REFRESH_S: Final = 0.5
PLAIN_S: Final = 5.0
# Speed is that of the last so many seconds: history is not equally dense everywhere.
WINDOW_S: Final = 30.0
_BAR: Final = 24


class Meter:
    """One kind's way from nothing to `total_us`. Times are monotonic seconds."""

    def __init__(self, total_us: int) -> None:
        self.total_us = total_us
        self.rows = 0
        self._settled_us = 0
        self._seen: deque[tuple[float, int, int]] = deque()

    def saw(self, now_s: float, settled_us: int, new_rows: int) -> None:
        """So much of it is settled by now, and so many more rows are stored."""
        self.rows += new_rows
        self._settled_us = settled_us
        self._seen.append((now_s, settled_us, self.rows))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - WINDOW_S:
            self._seen.popleft()

    @property
    def percent(self) -> int:
        """Rounded down: 100 only when nothing is missing."""
        return 100 * self._settled_us // self.total_us if self.total_us else 100

    @property
    def rows_per_s(self) -> float:
        """Of the last seconds."""
        return self._speed(2)

    @property
    def left_s(self) -> float | None:
        """How long it still takes at this speed; None when it does not move."""
        speed = self._speed(1)
        return (self.total_us - self._settled_us) / speed if speed > 0 else None

    def _speed(self, column: int) -> float:
        if len(self._seen) < 2:
            return 0.0
        first, last = self._seen[0], self._seen[-1]
        return (last[column] - first[column]) / max(last[0] - first[0], 1e-3)

    def words(self) -> str:
        """`42 %, 12,300 rows, 1,020 rows/s, 35 s left`."""
        parts = [f"{self.percent} %", f"{self.rows:,} rows"]
        if self.percent < 100:
            parts.append(f"{self.rows_per_s:,.0f} rows/s")
            parts.append("time left unknown" if self.left_s is None else f"{span(self.left_s)} left")
        return ", ".join(parts)


def span(seconds: float) -> str:
    """`35 s`, `12 min`, `5 h 10 min`, `3 d 4 h`."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def bar(percent: int) -> str:
    """`[##########--------------]`."""
    filled = percent * _BAR // 100
    return f"[{'#' * filled}{'-' * (_BAR - filled)}]"


class Display:
    """Shows the meters of one market on `out`."""

    def __init__(self, out: TextIO, market: str) -> None:
        self._out = out
        self._market = safe(market)
        self._is_terminal = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._lines: list[str] = []  # those that stand on the terminal now
        self._next_s = float("-inf")
        self._told: set[Kind] = set()

    def show(self, meters: Mapping[Kind, Meter], now_s: float) -> None:
        """Refresh, if it is time to."""
        if self._is_terminal:
            if now_s >= self._next_s:
                self._next_s = now_s + REFRESH_S
                self._draw([self._bar_line(kind, meter) for kind, meter in meters.items()])
            return
        if now_s < self._next_s:
            return
        is_first = self._next_s == float("-inf")
        self._next_s = now_s + PLAIN_S
        for kind, meter in meters.items():
            if kind not in self._told and not is_first:  # a short backfill needs no line but its last one
                self._say(f"{self._market} {kind}: {meter.words()}")
            if meter.percent == 100:
                self._told.add(kind)

    def note(self, text: str) -> None:
        """A line that stays, above the bars."""
        lines = self._lines
        self._draw([])
        self._say(safe(text))
        self._draw(lines)

    def end(self, meters: Mapping[Kind, Meter]) -> None:
        """The last state stays where it is, and whatever is written next goes below it."""
        if self._lines:
            self._draw([self._bar_line(kind, meter) for kind, meter in meters.items()])
            self._lines = []

    def _bar_line(self, kind: Kind, meter: Meter) -> str:
        return f"{self._market} {kind:<7} {bar(meter.percent)} {meter.words()}"

    def _draw(self, lines: Sequence[str]) -> None:
        if self._lines:
            self._out.write(f"\x1b[{len(self._lines)}A\r\x1b[J")
        # A line that is wrapped would be two, and the next refresh would miss one of them.
        width = shutil.get_terminal_size().columns - 1
        self._lines = [line[:width] for line in lines]
        self._out.write("".join(f"{line}\n" for line in self._lines))
        self._out.flush()

    def _say(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class Notes(logging.Handler):
    """What is logged as a warning or worse, shown to whoever watches."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line, without its traceback."""
        document = {name: value for name, value in document_of(record).items() if name not in ("exception", "stack")}
        self._display.note(readable(document))
