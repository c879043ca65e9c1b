"""Where an exchange's stream meets the services: routes every event to the trade and the candle managers.

Also compares what the two make of the same minute, when both run. It knows no I/O; the exchange layer calls it on the
event loop, once per frame.

Symbols come and go; what comes of one that is gone is dropped. What a collector raises ends here: it is logged, the
symbol's collectors are taken out of service, `on_failed` is told, and the other symbols never notice.
"""

from collections.abc import Callable, Iterable, Sequence

from ohlcvd.log import get_component_logger
from ohlcvd.market import MINUTE_US, Candle, Instrument, Kind, Trade
from ohlcvd.ohlcv.check import CandleCheck, Difference
from ohlcvd.ohlcv.collector import OhlcvCollector
from ohlcvd.ohlcv.manager import OhlcvManager
from ohlcvd.trade.collector import TradeCollector
from ohlcvd.trade.manager import TradeManager

_KINDS: tuple[Kind, Kind] = ("trades", "candles")


class StreamRouter:
    """A `StreamSink` over whichever services run."""

    def __init__(
        self, exchange: str, trades: TradeManager | None, candles: OhlcvManager | None, *, counts_agree: bool
    ) -> None:
        """`counts_agree`: see `CandleCheck`."""
        self.trades = trades
        self.candles = candles
        self._log = get_component_logger(f"ohlcvd.router.{exchange}")
        self.heard = 0  # how often the stream brought something, or a stream or market came or went
        self._live = 0
        self._reasons: dict[tuple[str, Kind], str] = {}  # why a stream is not live
        self.on_failed: Callable[[str], None] | None = None  # None: the error is raised
        self._counts_agree = counts_agree
        self._checks: dict[str, CandleCheck] = {}
        self._differences_before = 0  # of symbols that are gone
        for manager in (trades, candles):
            if manager is not None:
                manager.failed = self._failed
                for symbol in manager.collectors:
                    self._add_check(symbol)

    def add(self, instrument: Instrument) -> None:
        """Collect this one, too."""
        self.heard += 1
        for manager in (self.trades, self.candles):
            if manager is not None:
                manager.add(instrument)
        self._add_check(instrument.symbol)

    def remove(self, symbol: str) -> None:
        """Collect it no longer; what was read of it is with the store already."""
        self.heard += 1
        for manager in (self.trades, self.candles):
            if manager is not None:
                manager.remove(symbol)
        check = self._checks.pop(symbol, None)
        if check is not None:
            self._differences_before += check.different
        for kind in _KINDS:
            self._reasons.pop((symbol, kind), None)

    def _add_check(self, symbol: str) -> None:
        if self.trades is not None and self.candles is not None:
            self._checks[symbol] = CandleCheck(counts_agree=self._counts_agree)

    def _failed(self, symbol: str, error: Exception) -> None:
        if self.on_failed is None:
            raise error
        self._log.error(
            "a collector failed, its market is started again", symbol=symbol, error=f"{type(error).__name__}: {error}",
            exc_info=error,
        )  # fmt: skip
        self.remove(symbol)
        self.on_failed(symbol)

    @property
    def differences(self) -> int:
        """Minutes in which the venue's candle was not what its trades make."""
        return self._differences_before + sum(check.different for check in self._checks.values())

    @property
    def is_live(self) -> bool:
        """Whether any stream is subscribed and unbroken."""
        return any(collector.is_live for collector in self._all())

    def on_trades(self, symbol: str, trades: list[Trade], snapshot: bool) -> None:
        """From the stream."""
        self.heard += 1
        if self.trades is not None:
            try:
                self.trades.on_trades(symbol, trades, snapshot)
            except Exception as error:  # noqa: BLE001 a collector's edge: the others go on
                self._failed(symbol, error)

    def on_many(self, trades: Sequence[tuple[str, list[Trade]]]) -> None:
        """From the stream."""
        self.heard += 1
        if self.trades is not None:
            self.trades.on_many(trades)

    def on_candle(self, symbol: str, candle: Candle, closed: bool, snapshot: bool) -> None:
        """From the stream."""
        self.heard += 1
        if self.candles is not None:
            try:
                self.candles.on_candle(symbol, candle, closed)
            except Exception as error:  # noqa: BLE001 a collector's edge: the others go on
                self._failed(symbol, error)

    def on_subscribed(self, symbol: str, kind: Kind, venue_us: int) -> None:
        """From the stream."""
        self._reasons.pop((symbol, kind), None)
        self._tell(symbol, kind, lambda collector: collector.subscribed(venue_us))

    def on_interrupted(self, symbol: str, kind: Kind, reason: str) -> None:
        """From the stream."""
        self._reasons[symbol, kind] = reason
        self._tell(symbol, kind, lambda collector: collector.interrupted(reason))

    def on_doubted(self, symbol: str, kind: Kind, reason: str) -> None:
        """From the stream."""
        self._reasons[symbol, kind] = reason
        self._tell(symbol, kind, lambda collector: collector.doubted(reason))

    def on_reached(self, symbol: str, kind: Kind, venue_us: int) -> None:
        """From the stream."""
        collector = None if self.trades is None or kind != "trades" else self.trades.collectors.get(symbol)
        if collector is not None:
            collector.reached(venue_us)

    def on_refused(self, symbol: str, kind: Kind, reason: str) -> None:
        """From the stream."""
        self._reasons[symbol, kind] = f"refused: {reason}"
        self._tell(symbol, kind, lambda collector: collector.refuse(reason))

    def _tell(self, symbol: str, kind: Kind, act: Callable[[TradeCollector | OhlcvCollector], None]) -> None:
        self.heard += 1
        try:
            for collector in self._collectors(symbol, kind):
                act(collector)
        except Exception as error:  # noqa: BLE001 a collector's edge: the others go on
            self._failed(symbol, error)

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

    @property
    def is_refused(self) -> bool:
        """Whether any subscription is refused at present."""
        return any(collector.refused is not None for collector in self._all())

    def is_trading(self, symbol: str, venue_now_us: int) -> bool:
        """Whether there were trades within the last minute or so."""
        if self.trades is not None and symbol in self.trades.collectors:
            last = self.trades.collectors[symbol].last_trade
            return last is not None and last.ts_us > venue_now_us - MINUTE_US
        forming = self.forming().get(symbol)
        return forming is not None and forming.ts_us > venue_now_us - 2 * MINUTE_US

    def live_from_us(self, instrument: Instrument, kind: Kind) -> int | None:
        """Where the live streams' part of a market begins, in the venue's time; None: they have none at present."""
        if kind == "candles" and self.candles is not None:
            candles = self.candles.collectors.get(instrument.symbol)
            return None if candles is None else candles.live_from_us
        collector = None if self.trades is None else self.trades.collectors.get(instrument.symbol)
        if collector is None:
            return None
        return collector.live_from_us if kind == "trades" else collector.candles_from_us

    def forming(self) -> dict[str, Candle]:
        """The running minute of every market; the venue's own where candles are collected."""
        manager = self.candles if self.candles is not None else self.trades
        if manager is None:
            return {}
        found = ((symbol, collector.forming()) for symbol, collector in manager.collectors.items())
        return {symbol: candle for symbol, candle in found if candle is not None}

    def why_not(self, symbol: str) -> str | None:
        """Why a market is not collected; None while all its streams are subscribed and unbroken."""
        collectors = {kind: list(self._collectors(symbol, kind)) for kind in _KINDS}
        idle = [kind for kind, own in collectors.items() if any(not one.is_live for one in own)]
        if not any(collectors.values()):
            return "it has no collector at present"
        if not idle:
            return None
        return f"{' and '.join(idle)}: {self._reasons.get((symbol, idle[0]), 'not subscribed yet')}"

    @property
    def streams(self) -> tuple[int, int]:
        """How many streams are live, of how many."""
        collectors = self._all()
        return sum(collector.is_live for collector in collectors), len(collectors)

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
        for symbol, check in self._checks.items():
            if symbol in rows:
                rows[symbol].update(compared=check.equal + check.different, differences=check.different)
        return rows

    def _collectors(self, symbol: str, kind: Kind) -> Iterable[TradeCollector | OhlcvCollector]:
        if kind == "trades" and self.trades is not None and symbol in self.trades.collectors:
            yield self.trades.collectors[symbol]
        if kind == "candles" and self.candles is not None and symbol in self.candles.collectors:
            yield self.candles.collectors[symbol]

    def _all(self) -> list[TradeCollector | OhlcvCollector]:
        trades = self.trades.collectors.values() if self.trades is not None else ()
        candles = self.candles.collectors.values() if self.candles is not None else ()
        return [*trades, *candles]

    def _tell_live(self) -> None:
        live, of = self.streams
        if live != self._live:
            self._live = live
            self._log.info("streams live", live=live, of=of)

    def _report(self, symbol: str, difference: Difference | None) -> None:
        if difference is not None:
            self._log.warning(
                "candle differs from its trades",
                symbol=symbol,
                venue=difference.venue._asdict(),
                built=difference.built._asdict(),
            )
