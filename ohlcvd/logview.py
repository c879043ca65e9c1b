"""`ohlcvd logs`: the log files, readable, merged by time; with `follow` as they grow and through rotations.

Whoever asks for one exchange or server also gets what the supervisor and the monitor say of it.

Several processes write several files, each in order. What is there is merged by each line's own time; what comes is
printed within POLL_S. A line that is not one of ohlcvd's (PostgreSQL's log, say) is shown as it is, when its file was
asked for by name.
"""

import heapq
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ohlcvd.errors import ConfigError, PermissionRefused, UsageError
from ohlcvd.log import readable
from ohlcvd.nearest import did_you_mean
from ohlcvd.terminal import safe, wants_colour

POLL_S = 0.25
_BLOCK = 1 << 16
# Their files speak of all the others, too.
_OF_ALL = ("ohlcvd", "monitor")
_ABOUT = ("child", "server", "exchange")


class Line(NamedTuple):
    """One line of a log file: when, and how it looks to a person."""

    time: str
    text: str


def files_of(log_dir: Path, name: str | None) -> list[Path]:
    """The files of everything, or of one exchange (all its shards) or process, and those that may speak of it, last.
    UsageError names those that exist."""
    try:
        found = {path.stem: path for path in sorted(log_dir.glob("*.log"))}
        if not found and not log_dir.is_dir():
            raise ConfigError(f"{log_dir}: there are no logs yet; ohlcvd start makes them")
    except PermissionError as error:
        raise PermissionRefused(f"{log_dir}: cannot be read by this user ({error.strerror})") from error
    if name is None:
        return list(found.values())
    stem = "ohlcvd" if name == "supervisor" else name.replace("/", "-")
    chosen = [path for s, path in found.items() if _is_of(s, stem)]
    if not chosen:
        there = f"there are {', '.join(found)}" if found else "there are none"
        raise UsageError(f"{log_dir} has no log of {name}; {there}{did_you_mean(name, found)}")
    return chosen + [found[each] for each in _OF_ALL if stem not in _OF_ALL and each in found]


def _is_of(name: str, stem: str) -> bool:
    """Whether a process, server or file has this name, or is one shard of the exchange that has it."""
    return re.fullmatch(re.escape(stem) + "(-[0-9]+)?", name.replace("/", "-")) is not None


def show(paths: Sequence[Path], *, lines: int, name: str | None = None, colour: bool) -> Iterator[str]:
    """The last `lines` lines of all files together, oldest first; with a name, only what is of it or about it."""
    parsed = (_parse_all(_tail(path, lines), path, name, colour=colour) for path in paths)
    merged = heapq.merge(*(list(each) for each in parsed), key=lambda line: line.time)
    yield from (line.text for line in deque(merged, maxlen=lines))


def follow(
    paths: Callable[[], Sequence[Path]],
    *,
    name: str | None = None,
    colour: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """What is appended to the files from now on, for ever. `paths` is asked again: a new child has a new file."""
    tails = {path: _Tail(path, at_end=True) for path in paths()}
    try:
        while True:
            for path in paths():
                if path not in tails:
                    tails[path] = _Tail(path, at_end=False)
            fresh = [list(_parse_all(tail.read(), path, name, colour=colour)) for path, tail in tails.items()]
            yield from (line.text for line in heapq.merge(*fresh, key=lambda line: line.time))
            sleep(POLL_S)
    finally:
        for tail in tails.values():
            tail.close()


def main(log_dir: Path, name: str | None, *, lines: int, follow_on: bool) -> None:
    """Print to stdout."""
    colour = wants_colour(sys.stdout)
    started = files_of(log_dir, name)
    for text in show(started, lines=lines, name=name, colour=colour):
        print(text)
    if follow_on:
        sys.stdout.flush()  # whoever reads a pipe sees what was there before what comes
        for text in follow(lambda: files_of(log_dir, name), name=name, colour=colour):
            print(text, flush=True)


class _Tail:
    """Reads what a file grows by; after a rotation the rest of the old one, then the new one."""

    def __init__(self, path: Path, *, at_end: bool) -> None:
        self._path = path
        self._rest = b""
        self._file = self._open()
        if at_end and self._file:
            self._file.seek(0, os.SEEK_END)

    def _open(self) -> BinaryIO | None:
        try:
            return open(self._path, "rb")
        except FileNotFoundError:  # moved away; whoever writes it will make it again
            return None

    def read(self) -> Iterator[bytes]:
        """The complete lines that are new."""
        yield from self._read_on()
        if self._replaced():
            self.close()
            self._file = self._open()
            yield from self._read_on()

    def _read_on(self) -> Iterator[bytes]:
        if self._file is None:
            return
        if os.fstat(self._file.fileno()).st_size < self._file.tell():  # emptied in place
            self._file.seek(0)
            self._rest = b""
        *complete, self._rest = (self._rest + self._file.read()).split(b"\n")
        yield from complete

    def _replaced(self) -> bool:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False
        return self._file is None or not os.path.samestat(now, os.fstat(self._file.fileno()))

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
        self._rest = b""


def _tail(path: Path, lines: int) -> list[bytes]:
    """The last complete lines of a file, read from its end."""
    try:
        with open(path, "rb") as file:
            at = file.seek(0, os.SEEK_END)
            data = b""
            while at > 0 and data.count(b"\n") <= lines:
                at = max(0, at - _BLOCK)
                file.seek(at)
                data = file.read(_BLOCK) + data
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise PermissionRefused(f"{path}: cannot be read by this user ({error.strerror})") from error
    return data.split(b"\n")[:-1][-lines:] if lines else []


def _is_about(document: Mapping[str, object], stem: str) -> bool:
    told = document.get("exchanges")
    names = [document.get(field) for field in _ABOUT] + (list(told) if isinstance(told, dict) else [])
    exchange = re.sub("-[0-9]+$", "", stem)
    return any(isinstance(name, str) and (_is_of(name, stem) or name == exchange) for name in names)


def _parse_all(
    raw_lines: Sequence[bytes] | Iterator[bytes], path: Path, name: str | None, *, colour: bool
) -> Iterator[Line]:
    stem = "ohlcvd" if name == "supervisor" else None if name is None else name.replace("/", "-")
    only_about = stem if stem not in _OF_ALL and path.stem in _OF_ALL else None
    last = ""
    for raw in raw_lines:
        text = raw.decode("utf-8", "backslashreplace").rstrip("\r")
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if isinstance(document, dict) and "message" in document:
            last = str(document.get("time", last))
            if only_about is None or _is_about(document, only_about):
                yield Line(last, readable(document, colour=colour))
        elif name is not None and only_about is None:
            yield Line(last, safe(text))
