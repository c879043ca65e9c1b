"""What a venue sent that cannot be stored: counted, logged once for each kind of fault, never delivered, never fatal.

A venue that sends the same wrong thing a thousand times a second must fill neither the log nor the disk, and the
first example is what a person needs: the venue, what is wrong, the text as received (cut, control characters escaped).
"""

import traceback

from ohlcvd.exchange.sink import StreamCounters
from ohlcvd.log import ComponentLogger

_LOGGED_TEXT = 500
_LOGGED_KINDS = 200


class Rejects:
    """Counts rejected rows and frames of one exchange."""

    def __init__(self, exchange: str, counters: StreamCounters, log: ComponentLogger) -> None:
        self._exchange = exchange
        self._counters = counters
        self._log = log
        self._seen: set[tuple[str, str]] = set()

    def reject(self, what: str, reason: str, raw: object, error: Exception | None = None) -> None:
        """`what` ("trade", "candle", "frame") cannot be used because of `reason`; `error` is logged with its trace."""
        self._counters.rejected += 1
        # A reason begins with the field's name and goes on with its value: the first word tells the kind of fault.
        kind = (what, reason.split(" ", 1)[0])
        if kind in self._seen or len(self._seen) >= _LOGGED_KINDS:
            return
        self._seen.add(kind)
        fields = {} if error is None else {"exception": "".join(traceback.format_exception(error))}
        self._log.error(
            f"{self._exchange} sent a {what} that cannot be stored: {reason}; left out, further ones are only counted",
            exchange=self._exchange,
            raw=readable(raw),
            **fields,
        )


def readable(raw: object) -> str:
    """The first 500 characters of what was received, control characters escaped."""
    text = raw if isinstance(raw, str) else str(raw)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_LOGGED_TEXT])
