"""Where a live stream takes over: the last trade before it and its first one must be neighbours.

Repair fetches up to that moment, the stream brings what follows, and each looks after its own. A trade that neither
brought, because the venue keeps it back, shows in nothing but the two numbers on either side. Where ids are sequential
they are compared once for each time that a stream began; if something lies between, the claim of that moment is taken
back, and what follows is the ordinary search for what is missing.
"""

from collections.abc import Iterable

from ohlcvd import coverage
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Instrument
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.needs import LiveFrom
from ohlcvd.repair.ports import Records
from ohlcvd.store import Store

# What is not settled yet is looked at again after so long; a market without a trade since when it has one, and for all
# that after QUIET_S.
LOOK_AGAIN_S = 30.0
QUIET_S = 300.0


class SeamCheck:
    """Of one scheduler."""

    def __init__(
        self, book: CoverageBook, store: Store, records: Records, live_from_us: LiveFrom, log: ComponentLogger
    ) -> None:
        self._book = book
        self._store = store
        self._records = records
        self._live_from_us = live_from_us
        self._log = log
        self._checked: dict[Instrument, int] = {}
        self._again_s: dict[Instrument, float] = {}

    def forget(self, instrument: Instrument) -> None:
        """This market is not repaired any more."""
        self._checked.pop(instrument, None)
        self._again_s.pop(instrument, None)

    def traded(self, instruments: Iterable[Instrument]) -> None:
        """Trades of these were stored."""
        if self._again_s:
            for instrument in instruments:
                self._again_s.pop(instrument, None)

    async def run(self, instruments: Iterable[Instrument], now_s: float) -> None:
        """Look at every stream that has begun and is not checked yet. Raises ServiceUnavailable."""
        for instrument in list(instruments):
            live_from_us = self._live_from_us(instrument, "trades")
            if live_from_us is None or self._checked.get(instrument) == live_from_us:
                continue
            if now_s < self._again_s.get(instrument, float("-inf")):
                continue
            covered = self._book.covered(instrument, "trades")
            if coverage.contains(covered, live_from_us - 1, live_from_us + 1):
                self._again_s[instrument] = now_s + LOOK_AGAIN_S
                if not await self._look(instrument, live_from_us) and instrument in self._again_s:
                    self._again_s[instrument] = now_s + QUIET_S

    async def _look(self, instrument: Instrument, live_from_us: int) -> bool:
        """Whether there was a trade since."""
        after = await self._records.seam_after(instrument, live_from_us)
        if after is None:
            return False
        before = await self._records.seam_before(instrument, live_from_us)
        covered = self._book.covered(instrument, "trades")
        if before is not None and not coverage.contains(covered, before.ts_us, after.ts_us + 1):
            return True  # not settled yet, or known to be missing
        self._checked[instrument] = live_from_us
        self._again_s.pop(instrument, None)
        if before is None or int(after.id) == int(before.id) + 1:
            return True
        self._log.warning(
            "trades left out where the live stream began, fetching them", symbol=instrument.symbol, after=before.id,
            before=after.id,
        )  # fmt: skip
        self._store.uncover(instrument, "trades", before.ts_us, after.ts_us + 1)
        self._book.unclaimed(instrument, "trades", before.ts_us, after.ts_us + 1)
        return True
