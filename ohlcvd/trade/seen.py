"""Which of a market's trades were seen already, in little memory: venues send some again after a subscription. Pure.

Ids that follow one another are kept as stretches: a few numbers, however many trades. Others are kept one by one, the
latest of them: a market whose ids are all kept for hours would take half a megabyte.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

from ohlcvd.market import Trade

# So many of the latest are known at least; venues send again at most their last 1,000 trades after a subscription.
REMEMBERED_IDS = 1024
# Holes close again or are few; the stretches with the lowest numbers are forgotten.
MOST_STRETCHES = 64

_ID = itemgetter(1)  # of a trade


class SeenIds:
    """Of ids of any kind."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._before: set[str] = set()  # the REMEMBERED_IDS before those

    def fresh(self, trades: Sequence[Trade]) -> list[Trade]:
        """Those that were not seen, in their order; from now on they are."""
        fresh: list[Trade] = []
        ids, before = self._ids, self._before
        for trade in trades:
            if trade.id not in ids and trade.id not in before:
                ids.add(trade.id)
                fresh.append(trade)
        if len(ids) >= REMEMBERED_IDS:
            self._ids, self._before = set(), ids
        return fresh


class SeenNumbers:
    """Of ids that are numbers, one after the other."""

    def __init__(self) -> None:
        self.stretches: list[list[int]] = []  # [lower, upper), ascending, none next to another

    def follow(self, trades: Sequence[Trade], *, after: int | None = None) -> bool:
        """Whether these are the numbers right after the highest one seen, in their order; if so they now are seen.
        `after`: and whether that one is it."""
        if not self.stretches:
            return False
        newest = self.stretches[-1]
        if after is not None and newest[1] != after + 1:
            return False
        lower, upper = newest[1], newest[1] + len(trades)
        if int(trades[0].id) != lower:
            return False
        if upper > lower + 1 and [*map(int, map(_ID, trades))] != [*range(lower, upper)]:
            return False
        newest[1] = upper
        return True

    def fresh(self, trades: Sequence[Trade]) -> list[Trade]:
        """Those that were not seen, in their order; from now on they are."""
        return [trade for trade in trades if self._is_fresh(int(trade.id))]

    def _is_fresh(self, number: int) -> bool:
        stretches = self.stretches
        place = bisect_right(stretches, number, key=_lower)
        if place and number < stretches[place - 1][1]:
            return False
        joins_lower = place > 0 and stretches[place - 1][1] == number
        joins_upper = place < len(stretches) and stretches[place][0] == number + 1
        if joins_lower and joins_upper:
            stretches[place - 1][1] = stretches.pop(place)[1]
        elif joins_lower:
            stretches[place - 1][1] = number + 1
        elif joins_upper:
            stretches[place][0] = number
        else:
            stretches.insert(place, [number, number + 1])
            if len(stretches) > MOST_STRETCHES:
                del stretches[0]
        return True


def _lower(stretch: list[int]) -> int:
    return stretch[0]
