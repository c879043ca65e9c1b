"""The scheduler of an invented market: tells connections when a trade is due, and venues when a second has passed.

One task for a venue. A heap holds the time of the next trade of every symbol that somebody watches; whatever is due is
announced at most every 2 ms, so that a busy market's trades go out several at a time, as a real one's do.
"""

import asyncio
import heapq
import time

from ohlcvd.simulator.venue import Venue

_MIN_SLEEP_S = 0.002
_MAX_SLEEP_S = 0.02


class Feed:
    """Runs until cancelled."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._heap: list[tuple[int, str]] = []
        self._scheduled: set[str] = set()
        venue.on_subscribed = self.watch

    def watch(self, symbol: str) -> None:
        """Somebody wants this symbol."""
        if symbol not in self._scheduled and self._venue.is_listed(symbol):
            self._scheduled.add(symbol)
            self._schedule(symbol)

    async def run(self) -> None:
        next_second = time.monotonic() + 1
        while True:
            self._announce()
            now = time.monotonic()
            if now >= next_second:
                self._venue.every_second()
                next_second = max(next_second + 1, now)
            await asyncio.sleep(self._sleep_s())

    def _announce(self) -> None:
        market_ns = self._venue.market_ns()
        while self._heap and self._heap[0][0] < market_ns:
            _, symbol = heapq.heappop(self._heap)
            if symbol in self._venue.watchers and self._venue.is_listed(symbol):
                self._venue.wake(symbol)
                self._schedule(symbol)
            else:
                self._scheduled.discard(symbol)

    def _schedule(self, symbol: str) -> None:
        """The first trade that visible() does not cover yet."""
        tape = self._venue.tape(symbol)
        heapq.heappush(self._heap, (tape.time_ns(self._venue.visible(symbol)), symbol))

    def _sleep_s(self) -> float:
        if not self._heap or self._venue.frozen_ns is not None:
            return _MAX_SLEEP_S
        due_s = (self._heap[0][0] - self._venue.market_ns()) / 1e9
        return min(_MAX_SLEEP_S, max(_MIN_SLEEP_S, due_s))
