"""What the log says of a writer's spool: that it takes rows, that it is empty again, that it takes no more."""

import time
from typing import Final

from ohlcvd.log import get_component_logger

# A spool that refused is tried again after this.
REFUSED_PAUSE_S: Final = 1.0
REFUSED_REPEAT_S: Final = 60.0

log = get_component_logger("ohlcvd.database.writer")


class SpoolNews:
    """Of one writer. `refused_at_s`: since when the spool refuses, monotonic; None while it does not."""

    def __init__(self) -> None:
        self.refused_at_s: float | None = None
        self._told_refused_s = float("-inf")

    def taken(self, rows: int, *, began: bool, waited_s: float) -> None:
        """It took rows, `began`: the first ones."""
        if self.refused_at_s is not None:
            log.recovered("spool takes rows again", after_s=round(time.monotonic() - self.refused_at_s, 1), rows=rows)
            self.refused_at_s, self._told_refused_s = None, float("-inf")
        elif began:
            log.warning(
                "rows go to the spool on disk until the database has taken all of them",
                waited_s=round(waited_s, 1),
                rows=rows,
            )

    def emptied(self, spooled: int) -> None:
        """The database has all that it held; `spooled` rows so far."""
        log.recovered("spool is stored and empty, rows go straight to the database again", spooled=spooled)

    def refused(self, error: Exception, *, memory_rows: int, memory_limit: int, spool_rows: int) -> None:
        """It takes no more."""
        now_s = time.monotonic()
        if self.refused_at_s is None:
            self.refused_at_s = now_s
        if now_s - self._told_refused_s < REFUSED_REPEAT_S:
            return
        self._told_refused_s = now_s
        log.error(
            "spool takes no more rows: they wait in memory; when that is full too, live trades are left out and "
            "fetched later, candles are kept",
            reason=str(error),
            memory_rows=memory_rows,
            memory_limit=memory_limit,
            spool_rows=spool_rows,
            retry_in_s=REFUSED_PAUSE_S,
        )
