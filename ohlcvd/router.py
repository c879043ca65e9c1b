"""Where an exchange's stream meets the services: routes every event to the trade and the candle managers.

Also compares what the two make of the same minute, when both run. It knows no I/O; the exchange layer calls it on the
event loop, once per frame.
"""

from collections.abc import Iterable

from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Instrument, Kind, Trade
from ohlcvd.ohlcv.check import CandleCheck, Difference
from ohlcvd.ohlcv.collector import OhlcvCollector
from ohlcvd.ohlcv.manager import OhlcvManager
from ohlcvd.trade.collector import TradeCollector
from ohlcvd.trade.manager import TradeManager


class StreamRouter:
    """A `StreamSink` over whichever services run."""

    def __init__(
        self, exchange: str, trades: TradeManager | None, candles: OhlcvManager | None, *, counts_agree: bool
    ) -> None:
        """`counts_agree`: see `CandleCheck`."""
        self.trades = trades
        self.candles = candles
        self._log = get_component_logger(f"ohlcvd.router.{exchange}")
        self._live = 0
        self._checks: dict[str, CandleCheck] = {}
        if trades is not None and candles is not None:
            self._checks = {symbol: CandleCheck(counts_agree=counts_agree) for symbol in trades.collectors}

    @property
    def differences(self) -> int:
        """Minutes in which the venue's candle was not what its trades make."""
        return sum(check.different for check in self._checks.values())

    @property
    def is_live(self) -> bool:
        """Whether any stream is subscribed and unbroken."""
        return any(collector.is_live for collector in self._all())

    def on_trades(self, symbol: str, trades: list[Trade], snapshot: bool) -> None:
        """From the stream."""
        if self.trades is not None:
            self.trades.on_trades(symbol, trades, snapshot)

    def on_candle(self, symbol: str, candle: Candle, closed: bool, snapshot: bool) -> None:
        """From the stream."""
        if self.candles is not None:
            self.candles.on_candle(symbol, candle, closed)

    def on_subscribed(self, symbol: str, kind: Kind, venue_us: int) -> None:
        """From the stream."""
        for collector in self._collectors(symbol, kind):
            collector.subscribed(venue_us)

    def on_interrupted(self, symbol: str, kind: Kind, reason: str) -> None:
        """From the stream."""
        for collector in self._collectors(symbol, kind):
            collector.interrupted(reason)

    def on_refused(self, symbol: str, kind: Kind, reason: str) -> None:
        """From the stream."""
        for collector in self._collectors(symbol, kind):
            collector.refuse(reason)

    def tick(self, venue_now_us: int) -> None:
        """Close what has ended by the venue's time, everywhere, and say when the number of live streams changed."""
        self._tell_live()
        if self.trades is not None:
            for symbol, candle in self.trades.tick(venue_now_us):
                if symbol in self._checks:
                    self._report(symbol, self._checks[symbol].built(candle))
        if self.candles is not None:
            for symbol, candle in self.candles.tick(venue_now_us):
                self.on_final(symbol, candle)

    def on_final(self, symbol: str, candle: Candle) -> None:
        """A venue candle became final: hold it against the one built from trades."""
        if symbol in self._checks:
            self._report(symbol, self._checks[symbol].venue(candle))

    def live_from_us(self, instrument: Instrument, kind: Kind) -> int | None:
        """Where the live streams' part of a market begins, in the venue's time; None: they have none at present."""
        if kind == "candles" and self.candles is not None:
            return self.candles.collectors[instrument.symbol].live_from_us
        if self.trades is None:
            return None
        collector = self.trades.collectors[instrument.symbol]
        return collector.live_from_us if kind == "trades" else collector.candles_from_us

    def forming(self) -> dict[str, Candle]:
        """The running minute of every market; the venue's own where candles are collected."""
        manager = self.candles if self.candles is not None else self.trades
        if manager is None:
            return {}
        found = ((symbol, collector.forming()) for symbol, collector in manager.collectors.items())
        return {symbol: candle for symbol, candle in found if candle is not None}

    def markets(self) -> dict[str, dict[str, object]]:
        """What `status` shows per market."""
        rows: dict[str, dict[str, object]] = {}
        if self.trades is not None:
            for symbol, trades in self.trades.collectors.items():
                last = trades.last_trade
                rows.setdefault(symbol, {}).update(
                    trades=trades.received,
                    trades_live=trades.is_live,
                    last_trade_us=last.ts_us if last else None,
                    last_price=last.price if last else None,
                    refused=trades.refused,
                )
        if self.candles is not None:
            for symbol, candles in self.candles.collectors.items():
                row = rows.setdefault(symbol, {})
                row.update(
                    candles_live=candles.is_live,
                    last_candle_us=candles.last_candle.ts_us if candles.last_candle else None,
                    corrections=candles.corrections,
                    refused=row.get("refused") or candles.refused,
                )
        return rows

    def _collectors(self, symbol: str, kind: Kind) -> Iterable[TradeCollector | OhlcvCollector]:
        if kind == "trades" and self.trades is not None:
            yield self.trades.collectors[symbol]
        if kind == "candles" and self.candles is not None:
            yield self.candles.collectors[symbol]

    def _all(self) -> list[TradeCollector | OhlcvCollector]:
        trades = self.trades.collectors.values() if self.trades is not None else ()
        candles = self.candles.collectors.values() if self.candles is not None else ()
        return [*trades, *candles]

    def _tell_live(self) -> None:
        collectors = self._all()
        live = sum(collector.is_live for collector in collectors)
        if live != self._live:
            self._live = live
            self._log.info("streams live", live=live, of=len(collectors))

    def _report(self, symbol: str, difference: Difference | None) -> None:
        if difference is not None:
            self._log.warning(
                "candle differs from its trades",
                symbol=symbol,
                venue=difference.venue._asdict(),
                built=difference.built._asdict(),
            )
