"""Memory that is free goes back to the system, every minute.

The C library keeps what a burst of rows leaves free between pieces that are still in use. The next burst finds other
places, and so a process that holds no more than before grows for hours, a part of a megabyte at a time.
"""

import asyncio
import ctypes
from typing import Final

GIVE_BACK_S: Final = 60.0
_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it, and only glibc needs it


def give_back() -> None:
    """Some milliseconds."""
    if _trim is not None:
        _trim(0)


async def give_back_forever() -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(GIVE_BACK_S)
        give_back()
