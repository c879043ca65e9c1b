"""Who asks first: questions of the live service before those of history, at the one gate that all of them pass.

What runs in a context made by `background` waits behind everybody else; nothing is interrupted.
"""

import asyncio
import heapq
from contextvars import Context, ContextVar, copy_context
from itertools import count

_rank: ContextVar[int] = ContextVar("ohlcvd_question_rank", default=0)


def background() -> Context:
    """A context for a task whose questions come last."""
    context = copy_context()
    context.run(_rank.set, 1)
    return context


class PriorityLock:
    """An asynchronous lock that goes to the waiter of the best rank, and within a rank to the one who came first."""

    def __init__(self) -> None:
        self._is_held = False
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    async def __aenter__(self) -> None:
        if not self._is_held:
            self._is_held = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (_rank.get(), next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn already
                self._hand_on()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._is_held = False
