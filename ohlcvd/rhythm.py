"""Pauses that end together: what a process does again and again costs it one waking up, not one for each.

A wake-up costs far more than the little that is done then. Each process has a phase of its own, so that many of them do
not wake up at the same moment. The clock is the event loop's; who waits for the same beat shares one timer of it.
"""

import asyncio
import os
from typing import Final

_SPREAD: Final = 0.618034  # of a second, from one process id to the next: neighbours are far apart


class _Rhythm:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.phase_s = os.getpid() * _SPREAD % 1.0
        self.waiting: dict[float, list[asyncio.Future[None]]] = {}  # by the moment of the beat

    def next_s(self, period_s: float) -> float:
        beats = (self.loop.time() - self.phase_s) // period_s + 1
        return beats * period_s + self.phase_s

    def reach(self, at_s: float) -> None:
        for reached in self.waiting.pop(at_s):
            if not reached.done():  # else cancelled
                reached.set_result(None)


_last: _Rhythm | None = None  # a process has one loop at a time


def _rhythm() -> _Rhythm:
    global _last
    loop = asyncio.get_running_loop()
    if _last is None or _last.loop is not loop:
        _last = _Rhythm(loop)
    return _last


def next_beat_s(period_s: float) -> float:
    """When the next multiple of `period_s` is; never now."""
    return _rhythm().next_s(period_s)


async def until_beat(period_s: float) -> float:
    """Until then; returns by how much it came late."""
    rhythm = _rhythm()
    at_s = rhythm.next_s(period_s)
    reached: asyncio.Future[None] = rhythm.loop.create_future()
    if at_s in rhythm.waiting:
        rhythm.waiting[at_s].append(reached)
    else:
        rhythm.waiting[at_s] = [reached]
        rhythm.loop.call_at(at_s, rhythm.reach, at_s)
    await reached
    return rhythm.loop.time() - at_s
