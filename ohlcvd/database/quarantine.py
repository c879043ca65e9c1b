"""Rows that PostgreSQL refuses, put aside where a person can read them: one JSON line each, in a private file.

    {"time": "...", "exchange": "kraken", "symbol": "BTC/USD", "kind": "trade", "row": {...}, "reason": "...",
     "error": "..."}

The file is made with the first such row and grows up to a limit; what comes then is only logged and counted. Putting
aside never fails the caller: a full disk costs the copy, not the storing of everything else.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Instrument, Trade

LIMIT_BYTES: Final = 16 << 20

log = get_component_logger("ohlcvd.database.quarantine")


class Quarantine:
    """The file of one child."""

    def __init__(self, file: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.file = file
        self._limit_bytes = limit_bytes
        self._told = False

    def put(self, instrument: Instrument, value: Trade | Candle, reason: str, error: str) -> bool:
        """Whether the row is in the file now."""
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "exchange": instrument.exchange,
            "symbol": instrument.symbol,
            "kind": "trade" if isinstance(value, Trade) else "candle",
            "row": value._asdict(),
            "reason": reason,
            "error": error,
        }
        data = (json.dumps(line) + "\n").encode()
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.file.parent.chmod(0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self.file, flags, 0o600)
            try:
                if os.fstat(fd).st_size + len(data) > self._limit_bytes:
                    self._tell(f"has reached its limit of {self._limit_bytes} bytes")
                    return False
                return os.write(fd, data) == len(data)
            finally:
                os.close(fd)
        except OSError as problem:
            self._tell(str(problem))
            return False

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            log.error("quarantine file cannot take more rows, they are only logged", file=str(self.file), reason=reason)
