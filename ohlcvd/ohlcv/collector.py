"""The venue's 1-minute candles of one market: final ones to the writer, the forming one to whoever asks.

Like the trade collector it is driven from outside and does no I/O: `MinuteBook` decides what is final, and what the
stream cannot decide is asked over REST by the manager.
"""

from collections.abc import Sequence

from ohlcvd.alone import Alone, NoStore
from ohlcvd.log import get_component_logger
from ohlcvd.market import MINUTE_US, Candle, Instrument
from ohlcvd.ohlcv.minutes import KEPT_MINUTES, Decision, Finality, MinuteBook
from ohlcvd.store import Store


class OhlcvCollector(Alone):
    """One market's venue candles. `OhlcvCollector("BTC/USD", "kraken")` is one by itself: see `ohlcvd.alone`."""

    KIND = "candles"
    SERVICE = "ohlcv"

    def __init__(
        self,
        symbol: str,
        exchange: str,
        *,
        instrument: Instrument | None = None,
        store: Store | None = None,
        finality: Finality = "ask",
        sends_empty: bool = False,
    ) -> None:
        super().__init__(symbol, exchange, driven=store is not None)
        self.instrument = instrument or Instrument(0, exchange, symbol)
        self.log = get_component_logger(f"ohlcvd.ohlcv.collector.{exchange}.{symbol}")
        self.received = 0
        self.corrections = 0
        self.last_candle: Candle | None = None
        self.refused: str | None = None
        self.is_live = False
        self._store: Store = store or NoStore()
        self._book = MinuteBook(finality, sends_empty=sends_empty)

    def live_now(self) -> bool:
        return self.is_live

    def last_us(self) -> int | None:
        return None if self.last_candle is None else self.last_candle.ts_us

    @property
    def live_from_us(self) -> int | None:
        """The first minute that is this collector's to decide; None before the first subscription."""
        return self._book.start_us

    def on_candle(self, candle: Candle, closed: bool) -> None:
        """One state of a minute from the stream."""
        self.received += 1
        corrected = self._book.seen(candle, closed)
        if corrected is not None:
            self._correct([corrected])

    def subscribed(self, venue_us: int) -> None:
        """From `venue_us` on no candle update is missed."""
        self.refused = None
        self.is_live = True
        self._book.subscribed(venue_us)
        self.log.debug("candle stream is live", venue_time_us=venue_us)

    def interrupted(self, reason: str) -> None:
        """Updates may be missed from here on; the minutes concerned are asked over REST."""
        self.is_live = False
        self._book.interrupted()
        self.log.debug("candle stream interrupted", reason=reason)

    def doubted(self, reason: str) -> None:
        """As `interrupted`, but updates may have been missed since the last one: what was claimed is taken back."""
        start_us, next_us = self._book.start_us, self._book.next_us
        if self.is_live and start_us is not None and next_us is not None:
            last_us = start_us if self.last_candle is None else self.last_candle.ts_us
            lower_us = max(start_us, last_us, next_us - KEPT_MINUTES * MINUTE_US)
            if lower_us < next_us:
                self._store.uncover(self.instrument, "candles", lower_us, next_us)
        self.interrupted(reason)

    def refuse(self, reason: str) -> None:
        """The venue does not accept the subscription."""
        self.refused = reason
        self.log.error("candle stream refused by the venue, asking again later", reason=reason)

    def tick(self, venue_now_us: int) -> Decision | None:
        """Store the minutes that became final by the stream alone."""
        return self._store_decision(self._book.decide(venue_now_us))

    def asks(self, venue_now_us: int) -> int | None:
        """The open time from which the manager has to ask the venue over REST now, or None."""
        return self._book.asks(venue_now_us)

    def answered(self, rows: Sequence[Candle], venue_now_us: int) -> Decision | None:
        """Store what a REST answer, asked at `venue_now_us`, makes final."""
        skipped = len(self._book.skipped)
        decision = self._book.answered(rows, venue_now_us)
        for lower_us, upper_us in self._book.skipped[skipped:]:
            self.log.warning("venue no longer has these minutes, gap left", lower_us=lower_us, upper_us=upper_us)
        return self._store_decision(decision)

    def confirms(self) -> int | None:
        """The open time of the oldest minute whose candle the venue may still correct; None while none is decided."""
        if self._book.next_us is None or self._book.start_us is None or self._book.next_us == self._book.start_us:
            return None
        return max(self._book.start_us, self._book.next_us - KEPT_MINUTES * MINUTE_US)

    def confirmed(self, rows: Sequence[Candle]) -> None:
        """Store what the venue has otherwise by now."""
        self._correct(self._book.confirmed(rows))

    def _correct(self, candles: Sequence[Candle]) -> None:
        if not candles:
            return
        self.corrections += len(candles)
        self._store.add_candles(self.instrument, candles)
        self.log.info("candles corrected by the venue", open_times_us=[candle.ts_us for candle in candles])

    def forming(self) -> Candle | None:
        """The running minute as the venue last described it."""
        return self._book.forming()

    def _store_decision(self, decision: Decision | None) -> Decision | None:
        if decision is None:
            return None
        if decision.candles:
            self._store.add_candles(self.instrument, decision.candles)
            self.last_candle = decision.candles[-1]
        self._store.cover(self.instrument, "candles", decision.lower_us, decision.upper_us)
        return decision
