"""The edge through which everything that a venue sends must pass: checked, counted, its times noted, then delivered.

Only rows without a fault reach the sink; a fault is rejected (see rejects.py) and reported to the caller, because what
was in the unusable row is missing from the stream. Only believable times reach the venue's clock, which cannot go back.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from ohlcvd.exchange.clock import VenueClock
from ohlcvd.exchange.rejects import Rejects
from ohlcvd.exchange.sink import StreamSink
from ohlcvd.exchange.venue import BadRow, CandleRow, TradeRows
from ohlcvd.market import Kind, Trade, are_faultless, candle_fault, time_fault, trade_fault

_NOUNS: dict[Kind, str] = {"trades": "trade", "candles": "candle"}


class Lost(NamedTuple):
    """A row of this kind was received and cannot be used."""

    kind: Kind
    reason: str

    @property
    def noun(self) -> str:
        return _NOUNS[self.kind]


class Incoming:
    """Checks and delivers the rows of one stream."""

    def __init__(
        self, symbols: Mapping[str, str], sink: StreamSink, clock: VenueClock, rejects: Rejects,
        now_us: Callable[[], int],
    ) -> None:  # fmt: skip
        self._symbols = symbols  # by the name in the venue's frames
        self._sink = sink
        self._clock = clock
        self._rejects = rejects
        self._now_us = now_us

    def deliver(self, event: TradeRows | CandleRow | BadRow) -> Lost | None:
        """Pass good rows on; the first fault, if there is one."""
        self._rejects.read()
        if isinstance(event, BadRow):
            self._rejects.reject(_NOUNS[event.kind], event.reason, event.raw)
            return Lost(event.kind, event.reason)
        kind: Kind = "trades" if isinstance(event, TradeRows) else "candles"
        if type(event.wire) is not str:  # whatever the frame had in its place
            return self.deliver(BadRow(None, kind, "market is not text", str(event)))
        symbol = self._symbols.get(event.wire)
        if symbol is None:
            self._reject_unknown(kind, event)
            return None
        if event.venue_us is not None:
            self.observe(event.venue_us)
        return self._trades(symbol, event) if isinstance(event, TradeRows) else self._candle(symbol, event)

    def deliver_live(self, gathered: Mapping[str, list[Trade]]) -> Iterator[tuple[str, Lost]]:
        """Live trades of many markets, by their names in the venue's frames; yields the first fault of each market.
        To check all of them at once takes a fraction of the time."""
        if not are_faultless([*chain.from_iterable(gathered.values())], self._now_us()):
            for wire, trades in gathered.items():
                lost = self.deliver(TradeRows(wire, trades, False))
                if lost is not None:
                    yield wire, lost
            return
        self._rejects.read()
        self._clock.observe(max(trades[-1].ts_us for trades in gathered.values()), time.monotonic())
        symbols = self._symbols
        known = [(symbols[wire], trades) for wire, trades in gathered.items() if wire in symbols]
        if len(known) < len(gathered):
            for wire in gathered.keys() - symbols.keys():
                self._reject_unknown("trades", TradeRows(wire, gathered[wire], False))
        self._sink.on_many(known)

    def _reject_unknown(self, kind: Kind, event: TradeRows | CandleRow) -> None:
        self._rejects.reject(_NOUNS[kind], "market unknown or not subscribed", event)

    def _trades(self, symbol: str, rows: TradeRows) -> Lost | None:
        now_us = self._now_us()
        good, lost = rows.trades, None
        if not are_faultless(rows.trades, now_us):
            good = []
            for trade in rows.trades:
                fault = trade_fault(trade, now_us)
                if fault is None:
                    good.append(trade)
                else:
                    self._rejects.reject("trade", fault, trade)
                    lost = lost or Lost("trades", fault)
        if good:
            if not rows.snapshot:
                self._clock.observe(good[-1].ts_us, time.monotonic())
            self._sink.on_trades(symbol, good, rows.snapshot)
        return lost

    def _candle(self, symbol: str, row: CandleRow) -> Lost | None:
        fault = candle_fault(row.candle, self._now_us())
        if fault is not None:
            self._rejects.reject("candle", fault, row.candle)
            return Lost("candles", fault)
        self._sink.on_candle(symbol, row.candle, row.closed, row.snapshot)
        return None

    def observe(self, venue_us: int) -> None:
        """The venue said that it is this late there."""
        if time_fault(venue_us, self._now_us()) is None:
            self._clock.observe(venue_us, time.monotonic())

    def unread(self, text: str) -> None:
        """A frame that nobody here reads."""
        self._rejects.unread(text)

    def reject_frame(self, text: str, error: Exception) -> None:
        self._rejects.reject("frame", f"{type(error).__name__} {error}", text, error)
