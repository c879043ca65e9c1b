"""Candles made of committed trades, where the venue has none."""

from collections.abc import Callable, Iterable, Sequence

from ohlcvd.coverage import Range
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.log import ComponentLogger
from ohlcvd.market import Instrument
from ohlcvd.repair import plan
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.needs import Needs
from ohlcvd.repair.ports import Records

BUILD_EVERY_S = 5.0


class Building:
    """For one scheduler. `run` is called about every second."""

    def __init__(self, book: CoverageBook, needs: Needs, records: Records, log: ComponentLogger) -> None:
        self._book = book
        self._needs = needs
        self._records = records
        self._log = log
        self._built_s: dict[Instrument, float] = {}

    async def run(self, instruments: Iterable[Instrument], venue_now_us: int, now_s: Callable[[], float]) -> int:
        """Every market that has minutes to build, none of them more often than every BUILD_EVERY_S. How many rows."""
        built = 0
        reach_us = self._needs.reach(venue_now_us)
        for instrument in list(instruments) if reach_us else ():
            if now_s() < self._built_s.get(instrument, float("-inf")) + BUILD_EVERY_S:
                continue
            candles = self._needs.market((instrument, "candles"), venue_now_us, now_s())._replace(set_aside=())
            ranges = plan.from_trades(candles, self._book.covered(instrument, "trades"), venue_now_us, reach_us)
            if ranges:
                self._built_s[instrument] = now_s()
                built += await self._build(instrument, ranges)
        return built

    async def _build(self, instrument: Instrument, ranges: Sequence[Range]) -> int:
        try:
            built = await self._records.build_candles(instrument, ranges)
            version = self._book.version(instrument, "candles")
            covered = await self._records.coverage(instrument, "candles")
        except ServiceUnavailable as error:
            self._log.warning("candles could not be built from trades", symbol=instrument.symbol, error=str(error))
            return 0
        self._book.refresh(instrument, "candles", covered, version)
        return built
