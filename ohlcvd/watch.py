"""`ohlcvd status --watch`: the table again and again, in place on a terminal, one after the other elsewhere.

On a terminal it has the other screen, as editors do, and gives it back whatever ends it. The table is drawn over the
last one without clearing it first, so it does not flicker; it never scrolls, because it is cut to the window.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from ohlcvd.status import render
from ohlcvd.terminal import wants_colour

if TYPE_CHECKING:
    from ohlcvd.supervisor.report import StatusReport

INTERVAL_S = 1.0

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other screen, without a cursor
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


def shown(report: "StatusReport") -> str:
    """The table for stdout: as wide as it gets where that is no terminal."""
    if not sys.stdout.isatty():
        return render(report)
    return render(report, width=shutil.get_terminal_size().columns, colour=wants_colour(sys.stdout))


def frame(report: "StatusReport", *below: str) -> str:
    """What draws the table over the whole window, with lines below it."""
    width, height = shutil.get_terminal_size()
    text = render(report, width=width, height=height - len(below) - 1, colour=wants_colour(sys.stdout))
    lines = [*text.split("\n"), "", *below] if below else text.split("\n")
    return _HOME + f"{_TO_END_OF_LINE}\r\n".join(lines[:height]) + _TO_END_OF_LINE + _TO_END


def watch(read: Callable[[], "StatusReport"], *, as_json: bool) -> int:
    """Until INT or TERM; the exit code of the last status."""
    in_place = sys.stdout.isatty() and not as_json
    with stop_signals() as stop, _other_screen() if in_place else contextlib.nullcontext():
        while True:
            report = read()
            if in_place:
                print(frame(report, "Ctrl-C ends this"), end="", flush=True)
            elif as_json:
                print(json.dumps(report.as_dict()), flush=True)
            else:
                print(render(report), end="\n\n", flush=True)
            if stop.wait(INTERVAL_S):
                return report.exit_code


@contextlib.contextmanager
def _other_screen() -> Iterator[None]:
    print(_ENTER, end="", flush=True)
    try:
        yield
    finally:
        print(_LEAVE, end="", flush=True)


class Stop:
    """What INT and TERM ask for. A pipe, not an Event: a signal may come while its own thread holds the Event's lock,
    and the handler would wait for it for ever."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer

    def set(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been asked for often enough
            os.write(self._writer, b".")

    def is_set(self) -> bool:
        return self.wait(0.0)

    def wait(self, timeout_s: float) -> bool:
        """True as soon as it was asked for, False after the time."""
        return bool(select.select([self._reader], [], [], timeout_s)[0])


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """A `Stop` that INT and TERM set, in place of what they do otherwise."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stop = Stop(reader, writer)

    def ask(_signum: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
