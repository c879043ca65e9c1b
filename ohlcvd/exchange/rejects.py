"""What a venue sent that cannot be stored: counted, logged once for each kind of fault, never delivered, never fatal.

A venue that sends the same wrong thing a thousand times a second must fill neither the log nor the disk, and the
first example is what a person needs: the venue, what is wrong, the text as received (cut, control characters escaped).
"""

import asyncio
import re
import traceback

from ohlcvd.exchange.sink import StreamCounters
from ohlcvd.log import ComponentLogger

_LOGGED_TEXT = 500
_LOGGED_KINDS = 200
# Of frames that nobody reads: market data is a number with a point beside one of the words.
_MARKET_DATA = re.compile(
    r"(?=.*(?:trade|candle|kline|ohlc))(?!.*(?:ticker|subscri|book|depth|level2|l2|bids|asks)).*\d\.\d",
    re.IGNORECASE | re.DOTALL,
)
_UNREAD_FRAMES = 3
_UNREAD_S = 2.0


class Rejects:
    """Counts rejected rows and frames of one exchange."""

    def __init__(self, exchange: str, counters: StreamCounters, log: ComponentLogger) -> None:
        self._exchange = exchange
        self._counters = counters
        self._log = log
        self._seen: set[tuple[str, str]] = set()
        self._rows = 0
        self._unread = 0

    def read(self) -> None:
        """A row could be read, so the venue's protocol is known."""
        self._rows += 1

    def unread(self, text: str) -> None:
        """Nobody here reads this frame. Where such frames speak of trades or candles and no row ever comes, that is
        told: ccxt makes nothing at all, without a word, of frames of an old protocol."""
        if self._rows or self._unread >= _UNREAD_FRAMES or not _MARKET_DATA.search(text):
            return
        self._unread += 1
        if self._unread == _UNREAD_FRAMES:
            # ccxt tells of candles in a later turn of the loop
            asyncio.get_running_loop().call_later(_UNREAD_S, self._tell_unread, text)

    def _tell_unread(self, text: str) -> None:
        if not self._rows:
            reason = "protocol unknown: it speaks of trades or candles and no row comes of it; is it an old version?"
            self.reject("frame", reason, text)
        self._unread = 0

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
            f"{self._exchange} sent a {what} that cannot be stored: {readable(reason)}; "
            "left out, further ones are only counted",
            exchange=self._exchange,
            raw=readable(raw),
            **fields,
        )


def readable(raw: object) -> str:
    """The first 500 characters of what was received, control characters escaped."""
    text = raw if isinstance(raw, str) else str(raw)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_LOGGED_TEXT])
