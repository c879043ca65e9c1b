"""Which trades are certainly not stored yet, so that the fast way of storing is safe for them. Pure.

COPY refuses a trade that is stored with the same time, and we notice; it does not notice the same trade with a time
that differs by a microsecond. So COPY is only for rows of which this is certain, from what is remembered per
instrument: the newest stored time, and the highest id stored within the minute before it. Live trades pass; what a
reconnect or history brings again does not, and goes the careful way.

This speaks of rows that this process stored or found at its start. Another process that writes the same markets
must go the careful way with everything.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ohlcvd.database.batch import SAME_TRADE_US
from ohlcvd.database.encode import TradeRow
from ohlcvd.market import SECOND_US

# Within this much before the newest stored time, ids decide; before that, nothing is certain.
WINDOW_US: Final = 60 * SECOND_US
# How far back of its first trade an instrument's stored rows must be known.
LOOK_BACK_US: Final = WINDOW_US + SECOND_US


class Mark(NamedTuple):
    """Every stored row has ts <= `ts_us`; those of the window before it have trade_id <= `trade_id`."""

    ts_us: int
    trade_id: int


class Extent(NamedTuple):
    """Where one instrument's trades of a batch lie."""

    oldest_us: int
    newest_us: int
    lowest: int  # trade_id
    highest: int


def extents(rows: Iterable[TradeRow]) -> dict[int, Extent]:
    """By instrument. In least time where an instrument's rows are side by side."""
    found: dict[int, Extent] = {}
    market, oldest_us, newest_us, lowest, highest = None, 0, 0, 0, 0
    for instrument_id, trade_id, _, trade in rows:
        ts_us = trade[0]
        if instrument_id != market:
            if market is not None:
                found[market] = Extent(oldest_us, newest_us, lowest, highest)
            market = instrument_id
            oldest_us, newest_us, lowest, highest = found.get(market) or (ts_us, ts_us, trade_id, trade_id)
        if ts_us < oldest_us:
            oldest_us = ts_us
        elif ts_us > newest_us:
            newest_us = ts_us
        if trade_id < lowest:
            lowest = trade_id
        elif trade_id > highest:
            highest = trade_id
    if market is not None:
        found[market] = Extent(oldest_us, newest_us, lowest, highest)
    return found


class HighWater:
    """The marks of one process. They move only when a commit is known."""

    def __init__(self) -> None:
        self._marks: dict[int, Mark] = {}

    def unknown(self, batch: Mapping[int, Extent]) -> dict[int, int]:
        """Instruments without a mark, each with its earliest time in the batch."""
        return {one: batch[one].oldest_us for one in batch.keys() - self._marks.keys()}

    def found(self, instrument_id: int, mark: Mark) -> None:
        """What is stored of an instrument that was unknown. If nothing is stored since LOOK_BACK_US before its
        earliest trade, the mark is that time and no id."""
        self._marks[instrument_id] = mark

    def split(
        self, rows: Sequence[TradeRow], batch: Mapping[int, Extent]
    ) -> tuple[Sequence[TradeRow], Sequence[TradeRow]]:
        """The rows that are certainly new, and the others. Every instrument must have its mark."""
        marks = self._marks
        if all(
            _is_new(marks[one], extent.oldest_us, extent.lowest, extent.highest) for one, extent in batch.items()
        ):  # nearly always
            return rows, ()
        fresh: list[TradeRow] = []
        doubtful: list[TradeRow] = []
        for row in rows:
            instrument_id, trade_id, _, trade = row
            (fresh if _is_new(marks[instrument_id], trade.ts_us, trade_id, trade_id) else doubtful).append(row)
        return fresh, doubtful

    def advance(self, batch: Mapping[int, Extent]) -> None:
        """These are committed."""
        for instrument_id, extent in batch.items():
            mark = self._marks[instrument_id]
            self._marks[instrument_id] = Mark(max(mark.ts_us, extent.newest_us), max(mark.trade_id, extent.highest))


def _is_new(mark: Mark, oldest_us: int, lowest: int, highest: int) -> bool:
    """Whether all trades from this time on with ids in these bounds are certainly not stored."""
    return (
        oldest_us > mark.ts_us + SAME_TRADE_US
        or (lowest > mark.trade_id and oldest_us > mark.ts_us - WINDOW_US + SAME_TRADE_US)
        or highest < 0  # text ids are the same only at the same time, which COPY does notice
    )
