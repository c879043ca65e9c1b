"""All candle collectors of one exchange: routes the stream, and asks over REST what the stream cannot decide.

Collectors come and go. What one raises does not reach the others: it is told to `failed`, which sees to a new one.

One question at a time (the venue's rate limit is shared), by turns over the symbols; a symbol whose question failed or
decided nothing waits min(300, 2**n) s before it is asked again, the others do not. Venues correct candles later: every
CONFIRM_S each market's last minutes are asked for once more, with CONFIRM_GAP_S between any two such questions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from ohlcvd.alone import Health, health
from ohlcvd.errors import ExchangeError
from ohlcvd.market import SECOND_US, Candle, Instrument
from ohlcvd.ohlcv.collector import OhlcvCollector
from ohlcvd.ohlcv.minutes import Finality
from ohlcvd.rhythm import until_beat
from ohlcvd.store import Store

MAX_PAUSE_S = 300
# How often the collectors are looked at for questions; a minute has to be stored within 20 s of its end.
SWEEP_S = 1.0
# A correction is noticed within CONFIRM_S, with very many symbols within CONFIRM_GAP_S times their number.
CONFIRM_S = 240.0
CONFIRM_GAP_S = 4.0


class FetchCandles(Protocol):
    """`ExchangeHandler.get_ohlcv`."""

    def __call__(self, symbol: str, since_us: int | None = None, limit: int | None = None) -> Awaitable[list[Candle]]:
        """Candles from `since_us` on, oldest first."""


class _Pause:
    """When a symbol may be asked again, by the monotonic clock."""

    __slots__ = ("failures", "until_s")

    def __init__(self) -> None:
        self.failures = 0
        self.until_s = 0.0

    def extend(self, now_s: float) -> float:
        self.failures += 1
        pause_s: float = min(MAX_PAUSE_S, 2.0 ** min(self.failures, 10))
        self.until_s = now_s + pause_s
        return pause_s

    def end(self) -> None:
        self.failures = 0
        self.until_s = 0.0


class OhlcvManager:
    """The candle service of one exchange: one collector per symbol."""

    def __init__(
        self,
        exchange: str,
        instruments: Mapping[str, Instrument],
        store: Store,
        *,
        finality: Finality,
        sends_empty: bool,
        fetch: FetchCandles,
        venue_now_us: Callable[[], int | None],
    ) -> None:
        self.failed: Callable[[str, Exception], None] | None = None  # None: its error is raised
        self.collectors: dict[str, OhlcvCollector] = {}
        self._exchange = exchange
        self._store = store
        self._finality: Finality = finality
        self._sends_empty = sends_empty
        self._fetch = fetch
        self._venue_now_us = venue_now_us
        self._pauses: dict[str, _Pause] = {}
        self._confirm_at_s: dict[str, float] = {}
        self._confirm_next_s = 0.0
        for instrument in instruments.values():
            self.add(instrument)

    def add(self, instrument: Instrument) -> None:
        """Collect this one, too."""
        symbol = instrument.symbol
        self.collectors[symbol] = OhlcvCollector(
            symbol,
            self._exchange,
            instrument=instrument,
            store=self._store,
            finality=self._finality,
            sends_empty=self._sends_empty,
        )
        self._pauses[symbol] = _Pause()
        self._confirm_at_s[symbol] = 0.0

    async def health_check(self) -> Health:
        """Of all collectors together."""
        return health("ohlcv", self.collectors.values())

    def remove(self, symbol: str) -> None:
        """Collect it no longer."""
        for kept in (self.collectors, self._pauses, self._confirm_at_s):
            kept.pop(symbol, None)

    def on_candle(self, symbol: str, candle: Candle, closed: bool) -> None:
        """Route one state of one minute."""
        collector = self.collectors.get(symbol)
        if collector is not None:  # else removed: a few frames still come
            collector.on_candle(candle, closed)

    def tick(self, venue_now_us: int) -> list[tuple[str, Candle]]:
        """Store what the stream made final; returns (symbol, final candle)."""
        final: list[tuple[str, Candle]] = []
        for symbol, collector in list(self.collectors.items()):
            try:
                decision = collector.tick(venue_now_us)
                if decision is not None:
                    final += [(symbol, candle) for candle in decision.candles]
            except Exception as error:
                if self.failed is None:
                    raise
                self.failed(symbol, error)
        return final

    async def ask_forever(self, on_final: Callable[[str, Candle], None]) -> None:
        """Ask the venue for the minutes that the streams leave undecided, until cancelled."""
        while True:
            for symbol, collector in self._asking():
                if self.collectors.get(symbol) is collector:
                    await self._at_edge(symbol, self._ask_if_needed(symbol, collector, on_final))
            await self._confirm_one()
            await until_beat(SWEEP_S)

    def _asking(self) -> list[tuple[str, OhlcvCollector]]:
        """Those that have a question now."""
        venue_now_us = self._venue_now_us()
        if venue_now_us is None:
            return []
        return [(one, own) for one, own in self.collectors.items() if own.asks(venue_now_us) is not None]

    async def _at_edge(self, symbol: str, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            if self.failed is None:
                raise
            self.failed(symbol, error)

    async def _confirm_one(self) -> None:
        """Ask once more for the last minutes of the market whose turn it is."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._confirm_next_s:
            return
        due = [one for one, at_s in self._confirm_at_s.items() if at_s <= now_s and self.collectors[one].is_live]
        if not due:
            return
        symbol = min(due, key=lambda one: self._confirm_at_s[one])
        await self._at_edge(symbol, self._confirm(symbol, self.collectors[symbol], now_s))

    async def _confirm(self, symbol: str, collector: OhlcvCollector, now_s: float) -> None:
        first_time = not self._confirm_at_s[symbol]
        self._confirm_at_s[symbol] = now_s + CONFIRM_S
        since_us = collector.confirms()
        if since_us is None or first_time:
            return
        self._confirm_next_s = now_s + CONFIRM_GAP_S
        try:
            collector.confirmed(await self._fetch(symbol, since_us))
        except ExchangeError as error:
            collector.log.warning("candles could not be confirmed", error=str(error), retry_in_s=CONFIRM_S)

    async def _ask_if_needed(
        self, symbol: str, collector: OhlcvCollector, on_final: Callable[[str, Candle], None]
    ) -> None:
        venue_now_us = self._venue_now_us()
        pause = self._pauses[symbol]
        now_s = asyncio.get_running_loop().time()
        if venue_now_us is None or now_s < pause.until_s:
            return
        since_us = collector.asks(venue_now_us)
        if since_us is None:
            return
        try:
            # one row earlier: the answer then shows that it reaches back far enough
            rows = await self._fetch(symbol, since_us - 60 * SECOND_US)
        except ExchangeError as error:
            retry_in_s = pause.extend(now_s)
            collector.log.warning("candles could not be asked", error=str(error), retry_in_s=retry_in_s)
            return
        decision = collector.answered([row for row in rows if row.ts_us >= since_us], venue_now_us)
        if decision is None:
            pause.extend(now_s)
            return
        pause.end()
        for candle in decision.candles:
            on_final(symbol, candle)
