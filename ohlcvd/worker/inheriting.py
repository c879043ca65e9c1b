"""Rows on disk of children that are not configured any more, stored by those that are.

When an exchange is removed, or its number of shards changes, while the database is away, rows wait in a spool that no
child of that name will ever open again. So every child looks at such spools when it starts: it waits until nobody holds
one (its owner may still be draining into it, or another heir is at it), and stores what is in it with a writer of its
own, beside its own rows. An exchange that is removed without any other child being started leaves its rows to the next
start of any child.
"""

import asyncio
import fcntl
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, Final

from ohlcvd.database import Batch, Database, Quarantine, Spool, Writer
from ohlcvd.log import get_component_logger

LOOK_S: Final = 0.5
RETRY_S: Final = 60.0  # after an error that was not expected


class Inheriting:
    """One child's. `spools` is the folder of all spools, `children` are the configured ones, by their file names."""

    def __init__(
        self, child: str, spools: Path, children: Collection[str], database: Database, quarantine: Quarantine,
        on_commit: Callable[[Batch], None], limit_bytes: int,
    ) -> None:  # fmt: skip
        self._spools = spools
        self._children = frozenset(children)
        self._database = database
        self._quarantine = quarantine
        self._on_commit = on_commit
        self._limit_bytes = limit_bytes
        self._log = get_component_logger(f"ohlcvd.worker.{child}")

    async def run(self) -> None:
        """Until all of it is stored."""
        for folder in sorted(self._spools.glob("*/")):
            if folder.name not in self._children:
                try:
                    await self._inherit(folder)
                except OSError as error:
                    self._log.error("rows that %s left cannot be read, left to the next start: %s", folder.name, error)

    async def _inherit(self, folder: Path) -> None:
        with (folder / "heir").open("ab") as heir:
            is_ours = False
            while True:
                is_ours = is_ours or _lock(heir)  # other children look at the same folder
                if not is_ours or _is_held(folder):
                    await asyncio.sleep(LOOK_S)
                elif _is_empty(folder):
                    return
                elif not await self._store(folder):
                    await asyncio.sleep(RETRY_S)

    async def _store(self, folder: Path) -> bool:
        """All that is in a spool; False if that failed, and what is left stays there."""
        self._log.warning("storing the rows that %s left, which is not configured any more", folder.name)
        writer = Writer(
            self._database, on_commit=self._on_commit, careful=True, spool=Spool(folder, self._limit_bytes),
            quarantine=self._quarantine,
        )  # fmt: skip
        storing = asyncio.create_task(writer.run(), name=f"spool of {folder.name}")
        try:
            while not _is_empty(folder):
                await asyncio.wait([storing], timeout=LOOK_S)
                if storing.done():
                    error = storing.exception()
                    self._log.error(
                        "rows of %s could not be stored, they stay in %s", folder.name, folder,
                        exc_info=error, retry_in_s=RETRY_S,
                    )  # fmt: skip
                    return False
        finally:
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)
        counters = writer.counters
        self._log.info(
            "the rows that %s left are stored", folder.name, trades=counters.trades, candles=counters.candles,
            duplicates=counters.duplicates,
        )  # fmt: skip
        return True


def _is_empty(folder: Path) -> bool:
    """A spool removes each of its files when all that is in it is committed."""
    return not any(folder.glob("*.spool"))


def _is_held(folder: Path) -> bool:
    """Whether a process has this spool open."""
    try:
        with (folder / "lock").open("rb") as lock:
            return not _lock(lock)
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO) -> bool:
    """Lock it, until it is closed; False if another process, or another place in this one, has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
