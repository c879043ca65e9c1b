"""What repair asks of the database, in the terms of `scheduler.Records`: `database.repairs` for one database."""

import time
from collections.abc import Callable, Sequence

from ohlcvd.coverage import Range
from ohlcvd.database import repairs
from ohlcvd.database.pool import Database
from ohlcvd.market import Instrument, Kind, Trade
from ohlcvd.repair.lost import Unfillable
from ohlcvd.repair.outage import Silence


class DatabaseRecords:
    """A `scheduler.Records`. Times of attempts are the local clock's."""

    def __init__(self, database: Database, *, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._database = database
        self._now_us = now_us

    async def coverage(self, instrument: Instrument, kind: Kind) -> list[Range]:
        """What is committed."""
        return await self._database.coverage(instrument.id, kind)

    async def seam_before(self, instrument: Instrument, ts_us: int) -> Trade | None:
        """The newest stored trade before this time."""
        return await repairs.seam_before(self._database, instrument.id, ts_us)

    async def seam_after(self, instrument: Instrument, ts_us: int) -> Trade | None:
        """The oldest stored trade at or after it."""
        return await repairs.seam_after(self._database, instrument.id, ts_us)

    async def unfillable_of(self, instrument: Instrument, kind: Kind) -> list[Unfillable]:
        """What was recorded."""
        now_us = self._now_us()
        return [
            Unfillable(
                (one.lower_us, one.upper_us), one.ids, one.asked, one.answered,
                "unfillable" if one.reason == "venue outage" else one.reason,  # no such row is read
                one.attempts, 0, (one.next_us - now_us) / 1_000_000,
            )
            for one in await repairs.unfillable_of(self._database, instrument.id, kind)
        ]  # fmt: skip

    async def record_unfillable(self, instrument: Instrument, kind: Kind, found: Unfillable) -> None:
        """Record a gap with its evidence."""
        now_us = self._now_us()
        record = repairs.Unfillable(
            *found.gap, found.reason, found.ids, found.asked, found.answered, found.new_attempts, now_us, now_us,
            now_us + int(found.next_in_s * 1_000_000),
        )  # fmt: skip
        await repairs.record_unfillable(self._database, instrument.id, kind, record)

    async def record_outage(self, instrument: Instrument, kind: Kind, gaps: Sequence[Range], silence: Silence) -> None:
        """These are missing because the venue does not answer: takes the place of what was said of it before."""
        next_us = silence.last_us + int(silence.next_in_s * 1_000_000)
        found = [
            repairs.Unfillable(
                *gap, "venue outage", "", silence.asked, silence.answered, silence.attempts, silence.since_us,
                silence.last_us, next_us,
            )
            for gap in gaps
        ]  # fmt: skip
        await repairs.record_outage(self._database, instrument.id, kind, found)

    async def end_outages(self, exchange: str) -> None:
        """The venue answers again: what was recorded of its silence is void."""
        await repairs.end_outages(self._database, exchange)

    async def build_candles(self, instrument: Instrument, ranges: Sequence[Range]) -> int:
        """Build, store and claim the candles of these minutes from stored trades; how many rows."""
        return await repairs.build_candles(self._database, instrument, ranges)
