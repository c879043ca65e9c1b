"""The spool of one child: an append-only line of frames on disk, in files of some megabytes, with a limit in all.

Invariants:
- when `append` returns, its frames are on the disk (fdatasync); when it raises, nothing of them is
- frames come out in the order in which they went in; `advance` forgets them, and a file that has been gone through is
  removed. A file that was only partly gone through is read from its start by the next process: storing the same
  again changes nothing
- one process at a time: a lock file that the next one waits for
- a process that was killed in the middle of writing leaves a torn frame at the end of the last file: `open` cuts it
  off. What was in it was neither acknowledged nor claimed. Damage anywhere else means that rows are lost which later
  frames may claim: everything behind it is given out without its claims, and repair fetches what is missing

Writing blocks the event loop for as long as the disk takes to sync (4 ms here, median), because a child has no threads;
the writer appends a few times a second at most, and more rarely if the disk is slow.
"""

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ohlcvd.database.batch import Pending
from ohlcvd.database.spool import frames
from ohlcvd.durable import sync_folder
from ohlcvd.errors import OhlcvdError, PermissionRefused
from ohlcvd.log import get_component_logger

SEGMENT_BYTES: Final = 16 << 20
_SUFFIX: Final = ".spool"
_LOCK_WAIT_S: Final = 0.1

log = get_component_logger("ohlcvd.database.spool")


class SpoolFull(OhlcvdError):
    """The limit is reached; nothing was written."""


class SpoolDamaged(OhlcvdError):
    """What was written is not what is read; the next `open` puts aside what cannot be read."""


class _Frame(NamedTuple):
    segment: int
    offset: int
    head: frames.Head
    claims: bool


class Documents(NamedTuple):
    """The next frames of the line: how many, and their documents, each with whether its claims may be believed."""

    frames: int
    documents: list[tuple[dict[str, Any], bool]]


class Spool:
    """See the module. `open` first; `close` keeps what is there."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.rows = 0  # in frames that were not advanced over
        self.bytes = 0  # on the disk, frames that are done included
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._segment_bytes = max(64 << 10, min(SEGMENT_BYTES, limit_bytes // 8))
        self._line: deque[_Frame] = deque()
        self._sizes: dict[int, int] = {}  # segments on disk, in order, and their lengths
        self._lock_fd = -1
        self._write_fd = -1
        self._written_segment = 0
        self._read_fd = -1
        self._read_segment = 0

    @property
    def is_empty(self) -> bool:
        """Whether no frame waits."""
        return not self._line

    async def open(self) -> None:
        """Wait for the lock, then find what a process before left."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in (self._folder, self._folder.parent):
                path.chmod(0o700)
            await self._take_lock()
        except PermissionError as error:
            raise PermissionRefused(f"{self._folder}: this user cannot keep the spool there: {error}") from error
        damaged = False
        names = sorted(name for name in os.listdir(self._folder) if name.endswith(_SUFFIX))
        for name in names:
            damaged = self._scan(name, is_last=name == names[-1], damaged=damaged) or damaged
            await asyncio.sleep(0)
        if self._line:
            log.warning(
                "spool holds rows of an earlier run, storing them first",
                rows=self.rows,
                batches=len(self._line),
                bytes=self.bytes,
            )

    def close(self) -> None:
        """Let go of files and lock."""
        for fd in (self._write_fd, self._read_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._write_fd = self._read_fd = self._lock_fd = -1
        self._line.clear()
        self._sizes.clear()
        self.rows = self.bytes = 0

    async def _take_lock(self) -> None:
        fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        waiting = False
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not waiting:
                        log.warning("spool is held by another process, waiting for its end", folder=str(self._folder))
                    waiting = True
                await asyncio.sleep(_LOCK_WAIT_S)
        except BaseException:
            os.close(fd)
            raise
        self._lock_fd = fd

    # --- finding

    def _scan(self, name: str, *, is_last: bool, damaged: bool) -> bool:
        """Put the whole frames of a file into the line and cut off the rest. True if that rest was more than torn."""
        segment = int(name.removesuffix(_SUFFIX))
        path = self._folder / name
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            size, at = os.fstat(fd).st_size, 0
            while (head := frames.read_head(os.pread(fd, frames.HEAD_BYTES, at))) is not None:
                if not frames.is_whole(head, os.pread(fd, head.length, at + frames.HEAD_BYTES)):
                    break
                self._line.append(_Frame(segment, at, head, claims=not damaged))
                self.rows += head.rows
                at += frames.HEAD_BYTES + head.length
            if at < size:
                os.ftruncate(fd, at)
                os.fdatasync(fd)
                self._tell_cut(path, size - at, torn=is_last)
        finally:
            os.close(fd)
        self._written_segment = max(self._written_segment, segment)
        if at:
            self._sizes[segment] = at
            self.bytes += at
        else:
            path.unlink()
        return at < size and not is_last

    def _tell_cut(self, path: Path, cut_bytes: int, *, torn: bool) -> None:
        if torn:
            log.warning(
                "torn end of the spool is cut off, what it held was not claimed and is fetched again",
                file=str(path),
                bytes=cut_bytes,
            )
        else:
            log.error(
                "spool is damaged in the middle, rows are lost; claims behind it are left out and what is missing is "
                "fetched again",
                file=str(path),
                bytes=cut_bytes,
            )

    # --- writing

    def append(self, batches: Sequence[Pending]) -> int:
        """Put batches at the end of the line, synced; the bytes written. SpoolFull or OSError, and then none is."""
        encoded = [frames.encode(batch) for batch in batches]
        total = sum(map(len, encoded))
        if self.bytes + total > self._limit_bytes:
            raise SpoolFull(f"spool has {self.bytes} bytes, {total} more are over its limit of {self._limit_bytes}")
        self._ensure_segment()
        segment = self._written_segment
        at = start = self._sizes[segment]
        try:
            _write_all(self._write_fd, b"".join(encoded))
            os.fdatasync(self._write_fd)
        except OSError:
            self._give_up_segment(start)
            raise
        for data in encoded:
            head = frames.read_head(data)
            assert head is not None
            self._line.append(_Frame(segment, at, head, claims=True))
            self.rows += head.rows
            at += len(data)
        self._sizes[segment] = at
        self.bytes += total
        return total

    def _ensure_segment(self) -> None:
        if self._write_fd >= 0 and self._sizes[self._written_segment] < self._segment_bytes:
            return
        self._end_segment()
        number = self._written_segment + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._write_fd = os.open(self._path(number), flags, 0o600)
        self._written_segment = number
        self._sizes[number] = 0
        sync_folder(self._folder)

    def _end_segment(self) -> None:
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1

    def _give_up_segment(self, good_bytes: int) -> None:
        """After a failed write or sync: back to what is known good, and the next attempt begins another file."""
        try:
            os.ftruncate(self._write_fd, good_bytes)
        except OSError as error:  # then its torn end is cut at the next start
            log.error("spool could not take back what it wrote in part", error=str(error))
        self._end_segment()
        if good_bytes == 0:
            self._remove(self._written_segment)

    # --- reading

    def peek(self, max_rows: int) -> Documents:
        """The next frames, at least one, at most `max_rows` rows. SpoolDamaged if one is not what was written."""
        found: list[tuple[dict[str, Any], bool]] = []
        rows = 0
        for frame in self._line:
            if found and rows + frame.head.rows > max_rows:
                break
            rows += frame.head.rows
            payload = self._read(frame)
            if not frames.is_whole(frame.head, payload):
                raise SpoolDamaged(f"{self._path(frame.segment)}: the frame at {frame.offset} is not what was written")
            found.append((frames.decode(payload), frame.claims))
        return Documents(len(found), found)

    def _read(self, frame: _Frame) -> bytes:
        if self._read_fd < 0 or self._read_segment != frame.segment:
            if self._read_fd >= 0:
                os.close(self._read_fd)
            self._read_fd = os.open(self._path(frame.segment), os.O_RDONLY | os.O_CLOEXEC)
            self._read_segment = frame.segment
        return os.pread(self._read_fd, frame.head.length, frame.offset + frames.HEAD_BYTES)

    def advance(self, count: int) -> None:
        """The first `count` frames are committed."""
        for _ in range(count):
            self.rows -= self._line.popleft().head.rows
        first = self._line[0].segment if self._line else self._written_segment + 1
        for segment in [one for one in self._sizes if one < first]:
            if segment == self._written_segment:
                self._end_segment()
            self._remove(segment)

    def _remove(self, segment: int) -> None:
        if segment == self._read_segment and self._read_fd >= 0:
            os.close(self._read_fd)
            self._read_fd = -1
        self.bytes -= self._sizes.pop(segment)
        self._path(segment).unlink(missing_ok=True)

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:012d}{_SUFFIX}"


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
