"""When a child lets go of old rows: what the configuration does not keep, said first and dropped later."""

from ohlcvd.config import Config
from ohlcvd.config.retention import kept_from
from ohlcvd.database.pool import Database
from ohlcvd.database.retention import drop, want_less
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.log import get_component_logger
from ohlcvd.market import Kind
from ohlcvd.repair.scheduler import KINDS

# By then every process has read what is wanted now, several times.
SAID_S = 60.0


class Retaining:
    """See the module. `step` may be called at any time, and again and again."""

    def __init__(self, config: Config, child: str, database: Database) -> None:
        self._keep_us: dict[Kind, int] = {}
        for kind in KINDS:
            keep_us = config.retention_us(kind)
            if keep_us is not None:
                self._keep_us[kind] = keep_us
        self._database = database
        self._log = get_component_logger(f"ohlcvd.worker.{child}")
        self._said: dict[Kind, tuple[int, float]] = {}

    async def step(self, now_us: int, now_s: float) -> None:
        """`now_s` is monotonic."""
        for kind, keep_us in self._keep_us.items():
            bound_us = kept_from(keep_us, now_us)
            said_us, said_s = self._said.get(kind, (None, now_s))
            try:
                await want_less(self._database, kind, bound_us)
            except ServiceUnavailable as error:
                self._log.debug("what is to be dropped could not be noted", error=str(error))
                continue
            if said_us != bound_us:
                self._said[kind] = (bound_us, now_s)
            elif now_s >= said_s + SAID_S:
                await drop(self._database, kind, bound_us)
