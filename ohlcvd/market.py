"""The values that everything else passes around: instruments, trades, candles, timeframes. Pure.

Times are integer microseconds since 1970-01-01 UTC (`_us`), the resolution of PostgreSQL's timestamptz; finer venue
times are floored. Prices and amounts are the venue's own decimal digits as text ("0.00010000"), never floats; an
exponent ("1E-7") is expanded where a value is made. A candle's `ts_us` is its open time, on the minute.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import chain, repeat
from operator import eq, le, lt, mod
from typing import Any, Final, Literal, NamedTuple, Self, overload

Side = Literal["buy", "sell"]
Kind = Literal["trades", "candles"]
CandleSource = Literal["venue", "trades"]

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US

_LONGEST_ID = 200
_FLOAT_DIGITS = 15
_EARLIEST_US = 1_230_768_000 * SECOND_US  # 2009
_AHEAD_US = 10 * SECOND_US
_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_POSITIVE = re.compile(r"(?=[0.]*[1-9])[0-9]+(?:\.[0-9]+)?", re.ASCII).fullmatch
# Many at once, each with a comma behind it, in a fraction of the time.
_ALL_PLAIN = re.compile(r"(?:[0-9]++(?:\.[0-9]++)?+,)++", re.ASCII).fullmatch
_ALL_POSITIVE = re.compile(r"(?:(?=[0.]*+[1-9])[0-9]++(?:\.[0-9]++)?+,)++", re.ASCII).fullmatch
_EXPONENT = re.compile(r"[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]{1,3}", re.ASCII)

TIMEFRAMES_S: dict[str, int] = {
    "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800,
    "1h": 3600, "2h": 7200, "4h": 14400, "6h": 21600, "12h": 43200,
    "1d": 86400, "1w": 604800,
}  # fmt: skip


class Instrument(NamedTuple):
    """One market of one exchange, as `ohlcvd.instruments` has it."""

    id: int
    exchange: str
    symbol: str


class Trade(NamedTuple):
    """One execution. `side` is the taker's. `id` is exactly the venue's id as text."""

    ts_us: int
    id: str
    price: str
    amount: str
    side: Side


class Candle(NamedTuple):
    """One minute. `trades` is None where the venue does not say."""

    ts_us: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int | None
    source: CandleSource


_new: Final = tuple.__new__  # named tuples' own way takes twice the time


class Candles(Sequence[Candle]):
    """Candles by columns: the fields of `Candle`, each with its values of all of them. None is made before it is asked
    for. A page of a thousand is eight objects to look through for cycles then, and what is done with all of its candles
    is done with a column. Of their order nothing is said."""

    __slots__ = ("columns",)

    def __init__(
        self,
        times_us: Sequence[int],
        opens: Sequence[str],
        highs: Sequence[str],
        lows: Sequence[str],
        closes: Sequence[str],
        volumes: Sequence[str],
        trades: Sequence[int | None],
        sources: Sequence[CandleSource],
    ) -> None:
        self.columns = times_us, opens, highs, lows, closes, volumes, trades, sources

    @classmethod
    def of(cls, candles: Sequence[Candle]) -> "Candles":
        """The same candles."""
        if isinstance(candles, Candles):
            return candles
        return cls(*zip(*candles, strict=True)) if candles else cls(*[()] * 8)

    @classmethod
    def joined(cls, parts: Sequence["Candles"]) -> "Candles":
        """All of these, in this order."""
        if len(parts) == 1:
            return parts[0]
        return cls(*([*chain(*columns)] for columns in zip(*(part.columns for part in parts), strict=True)))

    @property
    def times_us(self) -> Sequence[int]:
        """Their open times."""
        return self.columns[0]

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, place: int) -> Candle: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> Candle | Self:
        values: Any = [column[place] for column in self.columns]
        return type(self)(*values) if isinstance(place, slice) else Candle(*values)

    def __iter__(self) -> Iterator[Candle]:
        return map(_new, repeat(Candle), zip(*self.columns, strict=True))

    def __eq__(self, other: object) -> bool:
        """As lists of candles."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr([*self])


def times_of(candles: Sequence[Candle]) -> Sequence[int]:
    """The open times of candles."""
    return candles.times_us if isinstance(candles, Candles) else [candle.ts_us for candle in candles]


def ascend(times_us: Sequence[int]) -> bool:
    """Whether each is later than the one before."""
    return all(map(lt, times_us, times_us[1:]))


def minute_of(ts_us: int) -> int:
    """Open time of the minute that `ts_us` lies in."""
    return ts_us - ts_us % MINUTE_US


def plain_digits(text: str) -> str:
    """The same number without an exponent, digit for digit: "1.50E-7" -> "0.000000150".

    Raises ValueError for anything that is not a non-negative decimal number ("", "nan", "-1", "1_0", "٣").
    """
    if _PLAIN.fullmatch(text):
        return text
    if _EXPONENT.fullmatch(text):
        return format(Decimal(text), "f")
    raise ValueError(f"not a decimal number: {text[:50]!r}")


def are_plain(texts: str, count: int) -> bool:
    """Whether `texts`, joined by commas, are so many plain non-negative decimal numbers."""
    return texts.count(",") == count - 1 and _ALL_PLAIN(texts + ",") is not None


def are_positive(texts: str, count: int) -> bool:
    """The same of positive ones."""
    return texts.count(",") == count - 1 and _ALL_POSITIVE(texts + ",") is not None


def extremes(texts: Sequence[str]) -> tuple[str, str]:
    """The lowest and the highest of plain decimal numbers; of those that are equal, the first."""
    if _are_aligned(",".join(texts), len(texts)):
        return min(texts), max(texts)
    return min(texts, key=Decimal), max(texts, key=Decimal)


def trade_fault(trade: Trade, now_us: int) -> str | None:
    """Why this trade must not be stored, or None. `now_us` is the local clock; the venue may be 10 s ahead of it."""
    if not trade.id:
        return "no trade id"
    if not trade.id.isprintable() or len(trade.id) > _LONGEST_ID:
        return f"trade id is {trade.id[:50]!r}, not printable text of at most {_LONGEST_ID} characters"
    if trade.side not in ("buy", "sell"):
        return f"side is {trade.side!r}, not buy or sell"
    for name, text in (("price", trade.price), ("amount", trade.amount)):
        if not _is_positive(text):
            return f"{name} is {text!r}, not a positive decimal number"
    return time_fault(trade.ts_us, now_us)


def are_faultless(trades: Sequence[Trade], now_us: int) -> bool:
    """Whether `trade_fault` finds nothing in any of them, in a fraction of its time where they are many."""
    if not trades:
        return True
    times_us, ids, prices, amounts, sides = zip(*trades, strict=True)
    return (
        min(times_us) >= _EARLIEST_US
        and max(times_us) <= now_us + _AHEAD_US
        and sides.count("buy") + sides.count("sell") == len(trades)
        and are_positive(",".join((*prices, *amounts)), 2 * len(trades))
        and "" not in ids
        and max(map(len, ids)) <= _LONGEST_ID
        and "".join(ids).isprintable()
    )


def candle_fault(candle: Candle, now_us: int) -> str | None:
    """Why this candle must not be stored, or None."""
    for name in ("open", "high", "low", "close"):
        if not _is_positive(getattr(candle, name)):
            return f"{name} is {getattr(candle, name)!r}, not a positive decimal number"
    if not _PLAIN.fullmatch(candle.volume):
        return f"volume is {candle.volume!r}, not a decimal number"
    if candle.ts_us % MINUTE_US:
        return f"open time {candle.ts_us} us is not on a minute"
    low, high = Decimal(candle.low), Decimal(candle.high)
    if not (low <= Decimal(candle.open) <= high and low <= Decimal(candle.close) <= high):
        return "open or close lies outside low..high"
    return time_fault(candle.ts_us, now_us)


def are_faultless_candles(candles: Sequence[Candle], now_us: int) -> bool:
    """Whether `candle_fault` finds nothing in any of them, in a fraction of its time."""
    if not candles:
        return True
    times_us, opens, highs, lows, closes, volumes, _, _ = Candles.of(candles).columns
    count, prices = 4 * len(candles), ",".join((*lows, *opens, *closes, *highs))
    are_aligned = _are_aligned(prices, count)
    return (
        min(times_us) >= _EARLIEST_US
        and max(times_us) <= now_us + _AHEAD_US
        and not any(map(mod, times_us, repeat(MINUTE_US)))
        and (are_aligned or are_plain(prices, count))
        and are_plain(",".join(volumes), len(candles))
        and _are_ordered(lows, opens, closes, highs, are_aligned=are_aligned)
    )


def _are_ordered(*columns: Sequence[str], are_aligned: bool) -> bool:
    """Whether the lows are positive, not above the opens and closes, and these not above the highs."""
    lows, opens, closes, highs = columns if are_aligned else _as_numbers(columns)
    lowest: Any = min(lows)
    return (
        (lowest.strip("0.") != "" if are_aligned else lowest > 0)
        and all(map(le, lows, opens))
        and all(map(le, lows, closes))
        and all(map(le, opens, highs))
        and all(map(le, closes, highs))
    )


def _are_aligned(texts: str, count: int) -> bool:
    """Whether `texts`, joined by commas, are so many plain numbers that all have as many digits and their points at the
    same place: as text they are in the order of their values then."""
    length = texts.find(",")
    point = texts.find(".", 0, length)
    marks = 2 * count - 1 if point >= 0 else count - 1
    return (
        length > 0
        and len(texts) == (length + 1) * count - 1
        and texts[length :: length + 1] == "," * (count - 1)
        and (point < 0 or (0 < point < length - 1 and texts[point :: length + 1] == "." * count))
        and texts.isascii()
        and len(digits := texts.encode("ascii").translate(None, b",.")) == len(texts) - marks
        and digits.isdigit()
    )


def _as_numbers(columns: Sequence[Sequence[str]]) -> list[list[Any]]:
    # floats tell numbers of up to 15 digits apart, and take a fifth of the time
    number: Any = float if max(max(map(len, column)) for column in columns) <= _FLOAT_DIGITS else Decimal
    return [[*map(number, column)] for column in columns]


def time_fault(ts_us: int, now_us: int) -> str | None:
    """Why this time cannot be an event's, or None: before 2009 (no market existed) or more than 10 s ahead."""
    if ts_us < _EARLIEST_US:
        return f"time {ts_us} us is before 2009"
    if ts_us > now_us + _AHEAD_US:
        return f"time {ts_us} us is more than 10 s in the future"
    return None


def _is_positive(text: str) -> bool:
    return _POSITIVE(text) is not None
