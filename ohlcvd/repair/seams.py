"""Where a live stream takes over: the last trade before it and its first one must be neighbours.

Repair fetches up to that moment, the stream brings what follows, and each looks after its own. A trade that neither
brought, because the venue keeps it back, shows in nothing but the two numbers on either side. Where ids are sequential
they are compared once for each time that a stream began; if something lies between, the claim of that moment is taken
back, and what follows is the ordinary search for what is missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ohlcvd import coverage
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Instrument
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.needs import LiveFrom
from ohlcvd.repair.ports import Records
from ohlcvd.store import Store

# What is not settled yet is looked at again after so long, and then each time after twice as long, up to QUIET_S: what
# came before may be something that nobody wants to have whole. A market without a trade since when it has one, and for
# all that after QUIET_S.
LOOK_AGAIN_S = 30.0
QUIET_S = 300.0


@dataclass(slots=True)
class _Seam:
    """Of one market, since its live stream began."""

    live_from_us: int
    is_checked: bool = False
    again_s: float = float("-inf")
    pause_s: float = LOOK_AGAIN_S


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
        self._seams: dict[Instrument, _Seam] = {}
        self._quiet: set[Instrument] = set()  # without a trade since, as far as is known

    def forget(self, instrument: Instrument) -> None:
        """This market is not repaired any more."""
        self._seams.pop(instrument, None)
        self._quiet.discard(instrument)

    def traded(self, instruments: Iterable[Instrument]) -> None:
        """Trades of these were stored."""
        if self._quiet:
            for instrument in self._quiet.intersection(instruments):
                self._quiet.discard(instrument)
                self._seams[instrument].again_s = float("-inf")

    async def run(self, instruments: Iterable[Instrument], now_s: float) -> None:
        """Look at every stream that has begun and is not checked yet. Raises ServiceUnavailable."""
        for instrument in list(instruments):
            live_from_us = self._live_from_us(instrument, "trades")
            if live_from_us is None:
                continue
            seam = self._seams.get(instrument)
            if seam is None or seam.live_from_us != live_from_us:
                seam = self._seams[instrument] = _Seam(live_from_us)
            if seam.is_checked or now_s < seam.again_s:
                continue
            covered = self._book.covered(instrument, "trades")
            if coverage.contains(covered, live_from_us - 1, live_from_us + 1):
                seam.again_s, seam.pause_s = now_s + seam.pause_s, min(2 * seam.pause_s, QUIET_S)
                self._quiet.add(instrument)
                if await self._look(instrument, seam):
                    self._quiet.discard(instrument)
                elif instrument in self._quiet:
                    seam.again_s = now_s + QUIET_S

    async def _look(self, instrument: Instrument, seam: _Seam) -> bool:
        """Whether there was a trade since."""
        after = await self._records.seam_after(instrument, seam.live_from_us)
        if after is None:
            return False
        before = await self._records.seam_before(instrument, seam.live_from_us)
        covered = self._book.covered(instrument, "trades")
        if before is not None and not coverage.contains(covered, before.ts_us, after.ts_us + 1):
            return True  # not settled yet, or known to be missing
        seam.is_checked = True
        if before is None or int(after.id) == int(before.id) + 1:
            return True
        self._log.warning(
            "trades left out where the live stream began, fetching them", symbol=instrument.symbol, after=before.id,
            before=after.id,
        )  # fmt: skip
        self._store.uncover(instrument, "trades", before.ts_us, after.ts_us + 1)
        self._book.unclaimed(instrument, "trades", before.ts_us, after.ts_us + 1)
        return True
