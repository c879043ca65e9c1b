"""How much memory a process has for itself, and what in it Python need not look through."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def memory_bytes(pid: int) -> int | None:
    """Proportional set size: pages that forked children share are divided among them. The resident set for a reader who
    may not know better (another user's process); None when there is no such process."""
    folder = Path(f"/proc/{pid}")
    try:
        for line in (folder / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        pass
    try:
        return int((folder / "statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return None


@contextmanager
def many_objects() -> Iterator[None]:
    """For moments: Python looks for cycles among objects as they become more. Ours have none, and it took half of the
    time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
