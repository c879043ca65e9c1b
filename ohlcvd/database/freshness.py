"""Which trades are certainly not stored yet, so that the fast way of storing is safe for them. Pure.

COPY refuses a trade that is stored with the same time, and we notice; it does not notice the same trade with a time
that differs by a microsecond. So COPY is only for rows of which this is certain, from what is remembered per
instrument: the newest stored time, and the highest id stored within the minute before it. Live trades pass; what a
reconnect or history brings again does not, and goes the careful way.

This speaks of rows that this process stored or found at its start. Another process that writes the same markets
must go the careful way with everything.
"""

from collections.abc import Iterable, Sequence
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


class HighWater:
    """The marks of one process. They move only when a commit is known."""

    def __init__(self) -> None:
        self._marks: dict[int, Mark] = {}

    def unknown(self, rows: Sequence[TradeRow]) -> dict[int, int]:
        """Instruments without a mark, each with its earliest time among `rows`."""
        earliest: dict[int, int] = {}
        if {row[0] for row in rows} <= self._marks.keys():
            return earliest
        for instrument_id, _, _, trade in rows:
            if instrument_id not in self._marks:
                earliest[instrument_id] = min(trade.ts_us, earliest.get(instrument_id, trade.ts_us))
        return earliest

    def found(self, instrument_id: int, mark: Mark) -> None:
        """What is stored of an instrument that was unknown. If nothing is stored since LOOK_BACK_US before its
        earliest trade, the mark is that time and no id."""
        self._marks[instrument_id] = mark

    def split(self, rows: Iterable[TradeRow]) -> tuple[list[TradeRow], list[TradeRow]]:
        """The rows that are certainly new, and the others. Every instrument must have its mark."""
        fresh: list[TradeRow] = []
        doubtful: list[TradeRow] = []
        marks = self._marks
        for row in rows:
            instrument_id, trade_id, _, trade = row
            ts_us, highest = marks[instrument_id]
            if (
                trade.ts_us > ts_us + SAME_TRADE_US
                or (trade_id > highest and trade.ts_us > ts_us - WINDOW_US + SAME_TRADE_US)
                or trade_id < 0  # text ids are the same only at the same time, which COPY does notice
            ):
                fresh.append(row)
            else:
                doubtful.append(row)
        return fresh, doubtful

    def advance(self, rows: Iterable[TradeRow]) -> None:
        """These are committed."""
        newest_us: dict[int, int] = {}
        highest: dict[int, int] = {}
        for instrument_id, trade_id, _, trade in rows:
            ts_us = trade.ts_us
            if ts_us > newest_us.get(instrument_id, ts_us - 1):
                newest_us[instrument_id] = ts_us
            if trade_id > highest.get(instrument_id, -1):
                highest[instrument_id] = trade_id
        for instrument_id, ts_us in newest_us.items():
            mark = self._marks[instrument_id]
            trade_id = highest.get(instrument_id, -1)
            self._marks[instrument_id] = Mark(max(mark.ts_us, ts_us), max(mark.trade_id, trade_id))
