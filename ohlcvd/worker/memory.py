"""Memory that is free goes back to the system, every minute, in a child that has grown.

The C library keeps what a burst of rows leaves free between pieces that are still in use. The next burst finds other
places, and so a process that holds no more than before grows for hours, a part of a megabyte at a time. A child that
has not grown is left alone: looking for what is free writes to pages that it still shares with the supervisor.

What holds itself (a connection that has ended, an error and its traceback) is looked for every minute, too, and not
whenever so many objects were made, as Python does: rows on their way are many and none of them holds itself, but to
look through them again and again takes a tenth of a busy child's time, and more of one with thousands of markets.
"""

import asyncio
import ctypes
import gc
from typing import Final

GIVE_BACK_S: Final = 60.0
# Python's own looking: when so many objects more are alive than before; a busy child has fewer rows on their way.
_MANY_OBJECTS: Final = 100_000
GROWN_BYTES: Final = 1 << 20


class _Figures(ctypes.Structure):
    """What glibc's mallinfo2(3) returns; `arena` is the size of the heap."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


_LIBC: Final = ctypes.CDLL(None)
_HAS_FIGURES: Final = hasattr(_LIBC, "mallinfo2")  # only glibc, since 2.33, and only glibc needs it
if _HAS_FIGURES:
    _LIBC.mallinfo2.restype = _Figures


def heap_bytes() -> int:
    """How large the heap is, what is free in it included; 0 where that cannot be known."""
    return int(_LIBC.mallinfo2().arena) if _HAS_FIGURES else 0


def give_back() -> None:
    """Some milliseconds."""
    if _HAS_FIGURES:
        _LIBC.malloc_trim(0)


def collect_seldom() -> None:
    """From now on `give_back_forever` does most of it."""
    gc.set_threshold(_MANY_OBJECTS, *gc.get_threshold()[1:])


async def give_back_forever(every_s: float = GIVE_BACK_S) -> None:
    """Until cancelled."""
    await asyncio.sleep(every_s)
    first_bytes = heap_bytes()
    while True:
        gc.collect()
        await asyncio.sleep(every_s)
        if heap_bytes() > first_bytes + GROWN_BYTES:
            give_back()
