"""Pauses that end together: what a process does again and again costs it one waking up, not one for each.

A wake-up costs far more than the little that is done then. Each process has a phase of its own, so that many of them do
not wake up at the same moment. The clock is the event loop's.
"""

import asyncio
import os
from typing import Final

_SPREAD: Final = 0.618034  # of a second, from one process id to the next: neighbours are far apart


def next_beat_s(period_s: float) -> float:
    """When the next multiple of `period_s` is; never now."""
    phase_s = os.getpid() * _SPREAD % 1.0
    beats = (asyncio.get_running_loop().time() - phase_s) // period_s + 1
    return beats * period_s + phase_s


async def until_beat(period_s: float) -> float:
    """Until then; returns by how much it came late."""
    loop = asyncio.get_running_loop()
    at_s = next_beat_s(period_s)
    reached: asyncio.Future[None] = loop.create_future()
    timer = loop.call_at(at_s, _reach, reached)
    try:
        await reached
    finally:
        timer.cancel()
    return loop.time() - at_s


def _reach(reached: asyncio.Future[None]) -> None:
    if not reached.done():
        reached.set_result(None)
