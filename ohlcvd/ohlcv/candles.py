"""Trades -> 1-minute candles, exactly. Pure: no clock, no I/O; the venue's time is an argument.

A trade belongs to the minute of its own time, whenever it arrives. Open and close follow the venue's order: by time,
then by id where ids are numbers (many trades share one time stamp), else in the order of arrival. Volume is summed
without rounding. A minute that had no trade has no candle.

Invariant: `close()` gives each minute once when it ends; a trade that comes later for one of the last
KEPT_MINUTES minutes gives that minute again, corrected. The caller must hand over each trade once.
"""

from decimal import Context, Decimal

from ohlcvd.market import MINUTE_US, Candle, Trade, minute_of

KEPT_MINUTES = 15

# Decimal's default context would round a sum to 28 digits.
_EXACT = Context(prec=400)
# Trades whose prices and amounts wait as text: those of many are compared and summed in less time than those of each.
_WAITING = 500


class _Minute:
    """The running state of one minute."""

    __slots__ = (
        "amounts", "changed", "close", "close_key", "high", "high_text", "low", "low_text", "open", "open_key",
        "prices", "trades", "volume",
    )  # fmt: skip

    def __init__(self, trade: Trade, key: tuple[int, int]) -> None:
        self.open = self.close = self.high_text = self.low_text = trade.price
        self.open_key = self.close_key = key
        self.high = self.low = Decimal(trade.price)
        self.volume = Decimal(trade.amount)
        self.prices: dict[str, None] = {}  # in the order of arrival
        self.amounts: list[str] = []
        self.trades = 1
        self.changed = True

    def add(self, trade: Trade, key: tuple[int, int]) -> None:
        price = trade.price
        if key >= self.close_key:
            self.close, self.close_key = price, key
        elif key < self.open_key:
            self.open, self.open_key = price, key
        self.prices[price] = None
        self.amounts.append(trade.amount)
        self.changed = True
        if len(self.amounts) >= _WAITING:
            self._settle()

    def _settle(self) -> None:
        for text in self.prices:
            price = Decimal(text)
            if price > self.high:
                self.high, self.high_text = price, text
            elif price < self.low:
                self.low, self.low_text = price, text
        for amount in self.amounts:
            self.volume = _EXACT.add(self.volume, Decimal(amount))
        self.trades += len(self.amounts)
        self.prices.clear()
        self.amounts.clear()

    def candle(self, ts_us: int) -> Candle:
        self._settle()
        volume = format(self.volume, "f")
        return Candle(ts_us, self.open, self.high_text, self.low_text, self.close, volume, self.trades, source="trades")


class CandleBuilder:
    """Builds the candles of one market. Minutes that began before `complete_from_us` are never given out."""

    def __init__(self) -> None:
        self._minutes: dict[int, _Minute] = {}
        self._arrivals = 0
        self._closed_until_us = 0
        self._complete_from_us: int | None = None

    def restart_from(self, venue_us: int) -> None:
        """Every trade from `venue_us` on will be handed over: minutes that open then or later are complete.

        Called again after an interruption: minutes that were still open at that moment are not complete any more.
        """
        self._complete_from_us = -(-venue_us // MINUTE_US) * MINUTE_US
        for ts_us in [ts_us for ts_us in self._minutes if self._closed_until_us <= ts_us < self._complete_from_us]:
            del self._minutes[ts_us]

    def add(self, *trades: Trade) -> None:
        """Count these, in the order of arrival."""
        minutes = self._minutes
        for trade in trades:
            self._arrivals += 1
            key = (trade.ts_us, int(trade.id) if trade.id.isdecimal() else self._arrivals)
            ts_us = trade.ts_us - trade.ts_us % MINUTE_US
            minute = minutes.get(ts_us)
            if minute is not None:
                minute.add(trade, key)
            elif ts_us >= self._closed_until_us - KEPT_MINUTES * MINUTE_US:
                minutes[ts_us] = _Minute(trade, key)

    def forming(self) -> Candle | None:
        """The newest minute as it stands, or None while no minute is known from its beginning.

        Old trades (a snapshot after subscribing) never make a forming candle.
        """
        ts_us = max(self._minutes, default=0)
        if not ts_us or self._complete_from_us is None or ts_us < self._complete_from_us:
            return None
        return self._minutes[ts_us].candle(ts_us)

    def close(self, until_us: int) -> list[Candle]:
        """The complete minutes that ended at or before `until_us` and are new or changed, oldest first."""
        closed: list[Candle] = []
        if self._complete_from_us is None:
            return closed
        for ts_us in sorted(self._minutes):
            if ts_us + MINUTE_US > until_us:
                break
            minute = self._minutes[ts_us]
            if minute.changed and ts_us >= self._complete_from_us:
                minute.changed = False
                closed.append(minute.candle(ts_us))
        self._closed_until_us = max(self._closed_until_us, minute_of(until_us))
        for ts_us in [ts_us for ts_us in self._minutes if ts_us < self._closed_until_us - KEPT_MINUTES * MINUTE_US]:
            del self._minutes[ts_us]
        return closed
