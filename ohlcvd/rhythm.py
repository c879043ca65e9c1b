"""Pauses that end together: what a process does again and again costs it one waking up, not one for each.

A wake-up costs far more than the little that is done then. Each process has a phase of its own, so that many of them do
not wake up at the same moment. The clock is the event loop's; who waits for the same beat shares one timer of it.
"""

import asyncio
import os
from typing import Final
from weakref import WeakKeyDictionary

_SPREAD: Final = 0.618034  # of a second, from one process id to the next: neighbours are far apart

_Waiting = dict[float, list[asyncio.Future[None]]]  # by the moment of the beat
_WAITING: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting]] = WeakKeyDictionary()


def next_beat_s(period_s: float) -> float:
    """When the next multiple of `period_s` is; never now."""
    phase_s = os.getpid() * _SPREAD % 1.0
    beats = (asyncio.get_running_loop().time() - phase_s) // period_s + 1
    return beats * period_s + phase_s


async def until_beat(period_s: float) -> float:
    """Until then; returns by how much it came late."""
    loop = asyncio.get_running_loop()
    at_s = next_beat_s(period_s)
    waiting = _WAITING.setdefault(loop, {})
    if at_s not in waiting:
        waiting[at_s] = []
        loop.call_at(at_s, _reach, waiting, at_s)
    reached: asyncio.Future[None] = loop.create_future()
    waiting[at_s].append(reached)
    await reached
    return loop.time() - at_s


def _reach(waiting: _Waiting, at_s: float) -> None:
    for reached in waiting.pop(at_s):
        if not reached.done():  # else cancelled
            reached.set_result(None)
