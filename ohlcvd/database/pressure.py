"""Whether those who read are to pause, because the server takes rows, but not as fast as they come. Pure.

Then the sockets fill up and the venues wait, which costs nothing and loses nothing. Where pausing cannot help (the
server is away, the spool is at work) reading goes on until memory is at its last bound.
"""

from collections.abc import Callable
from typing import Final

# One batch on its way and half of the next; less than what sends memory to the spool.
PRESSING_ROWS: Final = 15_000
# The last resort: the disk is full and live trades are left out before.
MOST_ROWS: Final = 50_000


class Pressure:
    """`tell` is called with True when reading is to pause, with False when it may go on."""

    def __init__(self) -> None:
        self.tell: Callable[[bool], None] | None = None
        self.is_on = False

    def judge(self, rows: int, *, helps: bool) -> None:
        """So many rows wait in memory; `helps`: the server takes them one after the other."""
        bound = PRESSING_ROWS if helps else MOST_ROWS
        is_on = rows >= (bound // 2 if self.is_on else bound)
        if is_on != self.is_on:
            self.is_on = is_on
            if self.tell is not None:
                self.tell(is_on)
