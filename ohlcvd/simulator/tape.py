"""One symbol's trades as its venue keeps them, and the minute candles that follow from them. Pure.

A tape numbers its trades without holes and answers for any moment which trades have happened: `id_at(t)` is the id of
the first trade at or after t, so "visible at t" always means `id < id_at(t)`. Prices are whole ticks of
`price_decimals`, amounts whole units of the eighth decimal: sums are exact.

Binance reports aggregate trades: one of them stands for the raw trades `raw_first .. raw_last`, counted in another
family of ids. Elsewhere each trade is its own raw trade.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from ohlcvd.market import MINUTE_US, Side, Trade

AMOUNT_DECIMALS = 8
_CACHED_MINUTES = 50_000


class Execution(NamedTuple):
    """One trade. `side` is the taker's."""

    id: int
    ts_ns: int
    price: str
    amount: str
    side: Side
    is_limit: bool
    raw_first: int
    raw_last: int

    @property
    def trade(self) -> Trade:
        return Trade(self.ts_ns // 1000, str(self.id), self.price, self.amount, self.side)


class MinuteCandle(NamedTuple):
    """One minute as the venue states it; a minute without trades has the previous close and no volume.

    `trades` counts executions, `raw_trades` raw ones; `raw_first` and `raw_last` bound the raw ids.
    """

    ts_us: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    buy_volume: str
    buy_quote_volume: str
    vwap: str
    trades: int
    raw_trades: int
    raw_first: int
    raw_last: int


class _Sums(NamedTuple):
    """What the trades start <= id < end add up to, in ticks and units."""

    start: int
    end: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote: int
    buy_volume: int
    buy_quote: int
    trades: int


class Tape(ABC):
    """The trades of one symbol, for ever: past, present and (where invented) future."""

    price_decimals: int
    first_id: int  # the oldest trade that the venue still serves

    def __init__(self) -> None:
        self._minutes: dict[int, _Sums] = {}
        self._running: _Sums | None = None

    @abstractmethod
    def id_at(self, ts_ns: int) -> int:
        """Id of the first trade at or after this time."""

    @abstractmethod
    def time_ns(self, trade_id: int) -> int:
        """When this trade happened; defined for every id that id_at() can give."""

    @abstractmethod
    def times_ns(self, start: int, end: int) -> Sequence[int]: ...

    @abstractmethod
    def ticks(self, start: int, end: int) -> Sequence[int]: ...

    @abstractmethod
    def amounts(self, start: int, end: int) -> Sequence[int]: ...

    @abstractmethod
    def buys(self, start: int, end: int) -> Sequence[int]:
        """1 where the taker bought, 0 where it sold."""

    @abstractmethod
    def limits(self, start: int, end: int) -> Sequence[int]:
        """1 where the taker's order was a limit order."""

    @abstractmethod
    def raw_first(self, trade_id: int) -> int:
        """The first raw trade of this one."""

    def raw_last(self, trade_id: int) -> int:
        return self.raw_first(trade_id + 1) - 1

    def ids(self, start: int, end: int) -> Sequence[int]:
        """The ids start <= id < end that exist; a recording may have holes."""
        return range(start, end)

    @abstractmethod
    def id_of_raw(self, raw_id: int) -> int:
        """The trade that this raw trade belongs to."""

    def price_before(self, trade_id: int) -> int | None:
        """Ticks of the last trade before this id, None when there never was one."""
        return self.ticks(trade_id - 1, trade_id)[0]

    def executions(self, start: int, end: int) -> list[Execution]:
        """The trades start <= id < end."""
        decimals = self.price_decimals
        columns = zip(
            self.ids(start, end),
            self.times_ns(start, end),
            self.ticks(start, end),
            self.amounts(start, end),
            self.buys(start, end),
            self.limits(start, end),
            strict=True,
        )
        return [
            Execution(
                number, ts_ns, fixed(ticks, decimals), fixed(amount, AMOUNT_DECIMALS), "buy" if buy else "sell",
                bool(limit), self.raw_first(number), self.raw_last(number),
            )
            for number, ts_ns, ticks, amount, buy, limit in columns
        ]  # fmt: skip

    def minute(self, ts_us: int, visible: int) -> MinuteCandle | None:
        """The minute that opens at ts_us, made of the trades before id `visible`.

        None when nothing was ever traded before its end.
        """
        start = max(self.first_id, self.id_at(ts_us * 1000))
        full_end = max(start, self.id_at((ts_us + MINUTE_US) * 1000))
        end = max(start, min(full_end, visible))
        if start == end:
            close = self.price_before(start)
            return (
                None
                if close is None
                else self._candle(ts_us, _Sums(start, end, close, close, close, close, 0, 0, 0, 0, 0))
            )
        sums = self._minutes.get(start)
        if sums is None or sums.end != end:
            sums = self._sums(start, end)
            if end == full_end:
                self._remember(sums)
        return self._candle(ts_us, sums)

    def _remember(self, sums: _Sums) -> None:
        if len(self._minutes) >= _CACHED_MINUTES:
            self._minutes.clear()
        self._minutes[sums.start] = sums

    def _sums(self, start: int, end: int) -> _Sums:
        """Adds up the trades; continues from the running minute's last state where it can."""
        running = self._running
        if running is not None and running.start == start and running.end <= end:
            sums = running if running.end == end else _joined(running, self._fresh_sums(running.end, end))
        else:
            sums = self._fresh_sums(start, end)
        self._running = sums
        return sums

    def _fresh_sums(self, start: int, end: int) -> _Sums:
        ticks, amounts, buys = self.ticks(start, end), self.amounts(start, end), self.buys(start, end)
        bought = [amount for amount, buy in zip(amounts, buys, strict=True) if buy]
        paid = [price for price, buy in zip(ticks, buys, strict=True) if buy]
        return _Sums(
            start, end, ticks[0], max(ticks), min(ticks), ticks[-1], sum(amounts),
            sum(map(int.__mul__, ticks, amounts)), sum(bought), sum(map(int.__mul__, paid, bought)), len(ticks),
        )  # fmt: skip

    def _candle(self, ts_us: int, sums: _Sums) -> MinuteCandle:
        decimals = self.price_decimals
        ids = self.ids(sums.start, sums.end)
        raw_first, raw_last = (self.raw_first(ids[0]), self.raw_last(ids[-1])) if sums.trades else (-1, -1)
        vwap = sums.quote // sums.volume if sums.volume else 0
        return MinuteCandle(
            ts_us,
            fixed(sums.open, decimals),
            fixed(sums.high, decimals),
            fixed(sums.low, decimals),
            fixed(sums.close, decimals),
            fixed(sums.volume, AMOUNT_DECIMALS),
            fixed(_rounded(sums.quote, decimals), AMOUNT_DECIMALS),
            fixed(sums.buy_volume, AMOUNT_DECIMALS),
            fixed(_rounded(sums.buy_quote, decimals), AMOUNT_DECIMALS),
            fixed(vwap, decimals),
            sums.trades,
            raw_last - raw_first + 1 if sums.trades else 0,
            raw_first,
            raw_last,
        )


def fixed(value: int, decimals: int) -> str:
    """fixed(1234, 3) == "1.234"."""
    if not decimals:
        return str(value)
    whole, part = divmod(value, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


def scaled(text: str, decimals: int) -> int:
    """scaled("1.234", 4) == 12340; ValueError where digits would be lost."""
    value = Decimal(text).scaleb(decimals)
    if value != int(value):
        raise ValueError(f"{text} has more than {decimals} decimals")
    return int(value)


def _rounded(quote: int, decimals: int) -> int:
    """A sum of ticks x units has decimals + 8 decimals; 8 are shown."""
    return int(quote // 10**decimals)


def _joined(one: _Sums, two: _Sums) -> _Sums:
    return _Sums(
        one.start, two.end, one.open, max(one.high, two.high), min(one.low, two.low), two.close,
        one.volume + two.volume, one.quote + two.quote, one.buy_volume + two.buy_volume, one.buy_quote + two.buy_quote,
        one.trades + two.trades,
    )  # fmt: skip
