"""What the venue itself says of past minutes, as far as it answers.

A page of candles speaks for the minutes from its first row to its last. Whether a minute before the first row was
empty or is only too long ago, nobody can tell; a page that goes on where another ended has no such doubt.
"""

from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.errors import ExchangeError
from ohlcvd.market import MINUTE_US, Candle


class Side(NamedTuple):
    """One side of a comparison: rows by open time, and the stretches in which a minute without a row was empty."""

    rows: dict[int, Candle]
    known: list[Range]


class Candles(Protocol):
    """Where a venue's candles come from; `ExchangeHandler.get_ohlcv`."""

    def __call__(
        self, symbol: str, since_us: int | None = None, limit: int | None = None
    ) -> Awaitable[list[Candle]]: ...


class VenueMinutes:
    """One market's candles at the venue, asked for upwards. `fault` says why it is not asked any more."""

    def __init__(self, symbol: str, fetch: Candles, *, sends_empty: bool) -> None:
        """`sends_empty`: the venue has a row for every minute, so one without a row is not known."""
        self.fault: str | None = None
        self._symbol = symbol
        self._fetch = fetch
        self._sends_empty = sends_empty
        self._rows: dict[int, Candle] = {}
        self._known: list[Range] = []
        self._next_us: int | None = None
        self._ended = False

    async def within(self, lower_us: int, upper_us: int) -> Side:
        """What it says of the minutes in [lower_us, upper_us). Stretches must be asked for upwards."""
        self._forget(lower_us)
        while not self._ended and (self._next_us is None or self._next_us < upper_us):
            await self._ask(lower_us)
        inside = [(lower_us, upper_us)]
        return Side(
            {ts_us: row for ts_us, row in self._rows.items() if lower_us <= ts_us < upper_us and _is_traded(row)},
            coverage.intersect(self._known, inside),
        )

    async def _ask(self, lower_us: int) -> None:
        goes_on = self._next_us is not None and self._next_us >= lower_us
        since_us = self._next_us if self._next_us is not None and goes_on else lower_us
        try:
            rows = [row for row in await self._fetch(self._symbol, since_us) if row.ts_us >= since_us]
        except ExchangeError as error:
            self.fault = str(error)
            self._ended = True
            return
        if not rows:
            self._ended = True
            return
        self._rows.update((row.ts_us, row) for row in rows)
        self._next_us = rows[-1].ts_us + MINUTE_US
        if self._sends_empty:
            known = [(row.ts_us, row.ts_us + MINUTE_US) for row in rows]
        else:
            known = [(since_us if goes_on else rows[0].ts_us, self._next_us)]
        self._known = coverage.add(self._known, *known)

    def _forget(self, before_us: int) -> None:
        self._rows = {ts_us: row for ts_us, row in self._rows.items() if ts_us >= before_us}
        self._known = [r for r in self._known if r[1] > before_us]


def _is_traded(row: Candle) -> bool:
    return row.trades != 0 and row.volume.strip("0.") != ""
