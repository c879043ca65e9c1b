"""What is missing of which market now, and what repair would do about it. No I/O; times are arguments.

Here the book (what is covered and wanted), the live streams' edges, what was lost and the venue's rules come together.
Trades are wanted for themselves, and for candles that the venue does not give any more: what is wanted of them is both.
"""

from collections.abc import Callable, Collection

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.market import Instrument, Kind
from ohlcvd.repair import plan
from ohlcvd.repair.book import CoverageBook, Key
from ohlcvd.repair.lost import LostGaps
from ohlcvd.repair.plan import Job, Market

# A stream that does not flow is expected to come back so soon that one waits for it: it tells where the hole ends.
LIVE_SOON_S = 5.0
# By then its first trades are stored: they tell how much is missing before them.
FIRST_TRADES_US = 2_000_000

LiveFrom = Callable[[Instrument, Kind], int | None]


class Needs:
    """Of all markets of one scheduler."""

    def __init__(self, book: CoverageBook, kinds: Collection[Kind], rules: VenueRules, live_from_us: LiveFrom) -> None:
        self.lost: dict[Key, LostGaps] = {}
        self.block_us: dict[Key, int] = {}
        self._book = book
        self._kinds = set(kinds)
        self._rules = rules
        self._live_from_us = live_from_us
        self._dark_since_s: dict[Key, float] = {}

    def job(self, key: Key, venue_now_us: int, now_s: float, walking: Range | None = None) -> Job | None:
        """The next stretch of a market besides the one that a walk is in."""
        market = self.market(key, venue_now_us, now_s, walking)
        if not market.wanted:
            return None
        if key[1] == "trades":
            return plan.trades_job(market, venue_now_us, self.block_us.get(key, plan.FIRST_BLOCK_US))
        return plan.candles_job(market, venue_now_us, self._rules) if "candles" in self._kinds else None

    def missing(self, key: Key, venue_now_us: int, now_s: float) -> list[Range]:
        """What of a market is missing, and was not lost."""
        known = self.lost.get(key)
        return coverage.subtract(
            plan.missing(self.market(key, venue_now_us, now_s), venue_now_us), [] if known is None else known.all()
        )

    def market(self, key: Key, venue_now_us: int, now_s: float, walking: Range | None = None) -> Market:
        """What is known of it."""
        instrument, kind = key
        taken = self._book.taken(instrument, kind)
        known = self.lost.get(key)
        set_aside = [] if known is None else known.set_aside(now_s)
        if walking is not None:
            set_aside.append(walking)
        live_from_us = self._live_from_us(instrument, kind)
        wanted: list[Range] = []
        if kind == "candles" or kind in self._kinds:
            wanted = plan.wanted(self._book.wanted_from(instrument, kind), live_from_us, taken, venue_now_us)
        if kind == "trades":
            below_us = wanted[0][0] if wanted else None
            wanted = coverage.add(wanted, *self._for_candles(instrument, venue_now_us, now_s, below_us))
        return Market(wanted, taken, set_aside, self._end(key, live_from_us, venue_now_us, now_s))

    def reach(self, venue_now_us: int) -> int:
        """Minutes that open before this are built from trades."""
        return plan.reach(self._rules, venue_now_us) if "candles" in self._kinds else venue_now_us

    def forget(self, instrument: Instrument) -> None:
        """This market is not repaired any more."""
        for known in (self.lost, self.block_us, self._dark_since_s):
            for key in [key for key in known if key[0] == instrument]:
                del known[key]

    def _for_candles(
        self, instrument: Instrument, venue_now_us: int, now_s: float, below_us: int | None
    ) -> list[Range]:
        """Trades that the venue has no candles of any more; only below what is wanted of them anyway."""
        upper_us = self.reach(venue_now_us) if below_us is None else min(below_us, self.reach(venue_now_us))
        if upper_us <= 0:
            return []
        holes = plan.missing(self.market((instrument, "candles"), venue_now_us, now_s), venue_now_us)
        return coverage.normalise((lower, min(upper, upper_us)) for lower, upper in holes if lower < upper_us)

    def _end(self, key: Key, live_from_us: int | None, venue_now_us: int, now_s: float) -> plan.End:
        """How the hole that reaches to the present ends."""
        if live_from_us is not None:
            self._dark_since_s.pop(key, None)
            is_early = key[1] == "trades" and venue_now_us < live_from_us + FIRST_TRADES_US
            return "awaited" if is_early or key[1] == "candles" else "known"
        return "awaited" if now_s < self._dark_since_s.setdefault(key, now_s) + LIVE_SOON_S else "open"
