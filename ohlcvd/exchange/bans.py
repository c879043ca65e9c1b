"""Until when an exchange wants to be left alone, remembered on disk: a restart must not ask a venue that has banned us.

One small JSON file for each exchange, read by every process of this machine that asks it (shards, `backfill`): a venue
counts by address. Times are those of the local clock, as a restart forgets the monotonic one. A file that cannot be
read or written is logged and changes nothing else.
"""

import json
import os
import time
from pathlib import Path

from ohlcvd.log import ComponentLogger

# A shorter pause is over before anybody could start again.
WORTH_S = 2.0


class Bans:
    """Of one exchange. Without a folder nothing is remembered beyond this process."""

    def __init__(self, folder: str | None, exchange: str, log: ComponentLogger) -> None:
        self._file = None if folder is None else Path(folder, f"{exchange}.json")
        self._exchange = exchange
        self._log = log
        self._until_s = 0.0
        self._read_at: tuple[int, int] | None = None  # inode and time of the file as it was read

    def left_s(self) -> float:
        """How long the exchange still wants to be left alone; 0 or less: not at all."""
        self._look()
        return self._until_s - time.time()

    def note(self, left_s: float) -> None:
        """The exchange does not want to be asked for so long; a shorter time than known changes nothing."""
        self._look()
        until_s = time.time() + left_s
        if until_s <= self._until_s:
            return
        self._until_s = until_s
        if left_s < WORTH_S:
            return
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until_s))
        self._log.error(
            f"{self._exchange} wants to be left alone for {left_s:.0f} s: nothing is asked until {ends}",
            exchange=self._exchange,
        )
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps({"until_s": until_s, "until": ends}) + "\n")
            draft.replace(self._file)
        except OSError as error:
            self._log.warning("a ban could not be written down: %s", error, exchange=self._exchange)

    def _look(self) -> None:
        """Another process may know of a longer one."""
        if self._file is None:
            return
        try:
            state = self._file.stat()
            if (state.st_ino, state.st_mtime_ns) == self._read_at:
                return
            self._read_at = state.st_ino, state.st_mtime_ns
            self._until_s = max(self._until_s, float(json.loads(self._file.read_text())["until_s"]))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.warning("%s cannot be read: %s", self._file, error, exchange=self._exchange)
