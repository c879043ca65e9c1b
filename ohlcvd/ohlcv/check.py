"""Candles built from trades against the venue's own, minute by minute. Pure.

Only minutes that both sides declared complete are compared; either side may come first. A minute known to be empty on
one side must have no candle on the other. Memory is bounded: a minute whose other side never comes is forgotten.
"""

from decimal import Decimal
from typing import NamedTuple

from ohlcvd.market import Candle

KEPT_MINUTES = 30


class Difference(NamedTuple):
    """One minute in which the venue's candle and the one built from its trades differ."""

    venue: Candle
    built: Candle


class CandleCheck:
    """Compares one market's candles as they become known."""

    def __init__(self, *, counts_agree: bool = True) -> None:
        """`counts_agree`: the venue's candles count the same trades that its stream sends."""
        self.counts_agree = counts_agree
        self.equal = 0
        self.different = 0
        self._venue: dict[int, Candle] = {}
        self._built: dict[int, Candle] = {}

    def venue(self, candle: Candle) -> Difference | None:
        """The venue's final candle of a minute."""
        built = self._built.pop(candle.ts_us, None)
        if built is None:
            _remember(self._venue, candle)
            return None
        return self._compare(candle, built)

    def built(self, candle: Candle) -> Difference | None:
        """The candle of a minute whose trades are all known."""
        venue = self._venue.pop(candle.ts_us, None)
        if venue is None:
            _remember(self._built, candle)
            return None
        return self._compare(venue, candle)

    def _compare(self, venue: Candle, built: Candle) -> Difference | None:
        if _same(venue, built, self.counts_agree):
            self.equal += 1
            return None
        self.different += 1
        return Difference(venue, built)


def _remember(candles: dict[int, Candle], candle: Candle) -> None:
    candles[candle.ts_us] = candle
    if len(candles) > KEPT_MINUTES:
        del candles[min(candles)]


def _same(venue: Candle, built: Candle, counts_agree: bool) -> bool:
    if counts_agree and venue.trades is not None and venue.trades != built.trades:
        return False
    names = ("open", "high", "low", "close", "volume")
    return all(Decimal(getattr(venue, name)) == Decimal(getattr(built, name)) for name in names)
