"""Whether anything has changed since all markets were looked at. No I/O; times are arguments.

What a market lacks follows from what is covered and wanted of it, and from where its live streams begin. While all of
that is what it was, and every stream is live, time alone brings nothing that is in a hurry: one looks again after
CALM_S, and after DEEP_S as long as nothing changes.
"""

from collections.abc import Callable, Collection, Iterable

from ohlcvd.market import Instrument, Kind
from ohlcvd.repair.book import CoverageBook

CALM_S = 5.0
DEEP_S = 10.0


class Calm:
    """Of one who looks at all markets again and again."""

    def __init__(
        self, book: CoverageBook, kinds: Collection[Kind], live_from_us: Callable[[Instrument, Kind], int | None]
    ) -> None:
        self._book = book
        self._kinds = tuple(kinds)
        self._live_from_us = live_from_us
        self._seen: tuple[int, list[int | None]] | None = None
        self._seen_s = 0.0
        self._lasts_s = CALM_S

    def looked(self, instruments: Iterable[Instrument], now_s: float) -> None:
        """All of them, at `now_s`."""
        state = self._state(instruments)
        self._lasts_s = DEEP_S if state == self._seen else CALM_S
        self._seen, self._seen_s = state, now_s

    def lasts(self, instruments: Iterable[Instrument], now_s: float) -> bool:
        """One need not look: all is as it was, for not too long."""
        if self._seen is None or now_s >= self._seen_s + self._lasts_s or None in self._seen[1]:
            return False
        return self._seen == self._state(instruments)

    def _state(self, instruments: Iterable[Instrument]) -> tuple[int, list[int | None]]:
        streams = [self._live_from_us(instrument, kind) for instrument in instruments for kind in self._kinds]
        return self._book.changes, streams
