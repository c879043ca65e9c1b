"""Repeated warnings and errors are written once, then counted: `... (repeated 12 times in 58 s)`.

The first of its kind is written at once, always. What is the same but for its numbers, from the same component about
the same things, is counted. The count is written, with the last one's text and fields, FOLD_S after the first and every
FOLD_S from then on; where that hardly saves a line, at one or two a minute, every LONGEST_S. When none has come for
QUIET_S, what was counted is written, and the next is a first again. INFO and DEBUG are not folded: each is an event.
So is what the supervisor says of its processes, at the pace of its backoff. But INFO that says that a failure is over
(`FOLDS`) is folded, and told every LONGEST_S: what fails again and again recovers as often.

Counts are written when anything is logged, when `flush` is called, and at the end; memory is bounded by KINDS.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

FOLD_S = 60.0
QUIET_S = 120.0
LONGEST_S = 3600.0
WORTH_PER_S = 2.5 / 60.0  # a line a minute in place of so many
_LOOK_S = 1.0
KINDS = 500
UNFOLDED = ("ohlcvd.supervisor",)
# Fields that say what a line is about.
IDENTITY = ("exchange", "symbol", "child", "server", "kind", "file", "task")

# An attribute of records of INFO that are to be folded.
FOLDS = "ohlcvd_folds"

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NOTE = "ohlcvd_repeated"
_FOLDED = "ohlcvd_folded"

Kind = tuple[object, ...]


@dataclass(slots=True)
class _Repeats:
    since_s: float
    seen_s: float
    count: int = 0
    last: logging.LogRecord | None = None

    def is_worth_a_line(self, length_s: float) -> bool:
        """What is over can wait."""
        return self.count >= length_s * WORTH_PER_S and self.last is not None and self.last.levelno >= logging.WARNING


class Folding(logging.Filter):
    """One for all handlers of a process. `fields_of` gives a record's keyword fields."""

    def __init__(
        self,
        handlers: Sequence[logging.Handler],
        fields_of: Callable[[logging.LogRecord], Mapping[str, object]],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._handlers = handlers
        self._fields_of = fields_of
        self._now_s = now_s
        self._kinds: dict[Kind, _Repeats] = {}
        self._owner = os.getpid()
        self._look_s = 0.0
        self._lock = threading.RLock()  # a signal handler may log in the middle of anything

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a handler is to write this record; asked by each of them, decided once."""
        if getattr(record, _NOTE, None) is not None:
            return True
        folded = getattr(record, _FOLDED, None)
        if folded is None:
            with self._lock:
                self.flush()
                folds = record.levelno >= logging.WARNING or getattr(record, FOLDS, False)
                folded = folds and record.name not in UNFOLDED and self._is_repeated(record)
            setattr(record, _FOLDED, folded)
        return not folded

    def flush(self, *, everything: bool = False) -> None:
        """Write the counts that are due."""
        with self._lock:
            now_s = self._now_s()
            if self._owner != os.getpid():  # a fork: the parent says it
                self._kinds.clear()
            if now_s < self._look_s and not everything:
                return
            self._look_s = now_s + _LOOK_S
            for kind, repeats in list(self._kinds.items()):
                length_s = now_s - repeats.since_s
                if everything or now_s - repeats.seen_s >= QUIET_S:
                    self._tell(repeats, now_s)
                    del self._kinds[kind]
                elif length_s >= LONGEST_S or (length_s >= FOLD_S and repeats.is_worth_a_line(length_s)):
                    self._tell(repeats, now_s)

    def _is_repeated(self, record: logging.LogRecord) -> bool:
        kind = self._kind_of(record)
        repeats = self._kinds.get(kind)
        if repeats is not None:
            repeats.count += 1
            repeats.last, repeats.seen_s = record, self._now_s()
            return True
        if len(self._kinds) >= KINDS:
            oldest = next(iter(self._kinds))
            self._tell(self._kinds.pop(oldest), self._now_s())
        self._kinds[kind] = _Repeats(self._now_s(), self._now_s())
        return False

    def _kind_of(self, record: logging.LogRecord) -> Kind:
        try:
            text = _NUMBER.sub("#", record.getMessage())
        except Exception:  # noqa: BLE001 - a wrong %s is the formatter's to show; here it only has to be told apart
            text = str(record.msg)
        fields = self._fields_of(record)
        about = tuple(str(fields[name]) if name in fields else None for name in IDENTITY)
        error = record.exc_info[0] if record.exc_info else None
        return (record.name, record.levelno, text, error, *about)

    def _tell(self, repeats: _Repeats, now_s: float) -> None:
        """Write the count, if there is one, and begin a new one."""
        last, count, length_s = repeats.last, repeats.count, now_s - repeats.since_s
        repeats.since_s, repeats.count, repeats.last = now_s, 0, None
        if last is not None:
            setattr(last, _NOTE, (count, round(length_s)))
            last.created = time.time()
            for handler in self._handlers:
                handler.handle(last)


def repeated(record: logging.LogRecord) -> tuple[int, int] | None:
    """How often and in how many seconds, of a record that stands for those that were counted."""
    note: tuple[int, int] | None = getattr(record, _NOTE, None)
    return note
