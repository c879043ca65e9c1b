"""The invented market: a pure function of (seed, exchange, symbol, time), so that the truth is known for any moment.

Every symbol has a pattern of trade times that repeats for ever from EPOCH_NS on. A pattern of N trades makes id and
time computable from each other: trade `id` is number `id mod N` of repetition `id div N`. Prices are smooth noise over
the id plus a small bounce, amounts come from a table: any trade is found without making those before it.

Kraken's trades have nanosecond times, distinct within one microsecond as its cursor needs; Binance's milliseconds.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Final

from ohlcvd.errors import UsageError
from ohlcvd.market import MINUTE_US, Candle, Trade
from ohlcvd.simulator.listings import (
    Listing,
    binance_listing,
    binance_listings,
    kraken_listing,
    kraken_listings,
)
from ohlcvd.simulator.tape import MinuteCandle, Tape

EPOCH_NS: Final = 1_577_836_800 * 10**9  # 2020-01-01
QUIET_RATE: Final = 1 / 150  # trades a second of a quiet symbol: most of its minutes are empty
_SECOND_NS: Final = 10**9
_TABLE: Final = 4096
_BLOCK: Final = 64  # trades between two points of the price curve; _TABLE is a multiple of it
_PATTERN_TRADES: Final = 512


@dataclass(frozen=True, slots=True)
class MarketSettings:
    """What the market is like. `rate` is trades a second over all symbols of one exchange."""

    seed: int = 1
    rate: float = 100.0
    symbols: int = 20
    history_s: int = 3 * 86_400
    clustering: float = 0.15  # share of trades that have the time of the one before
    burst: int = 0  # trades with one time, once in every pattern


class SimulatedMarket:
    """All symbols of one exchange. Tapes are made when first asked for and kept."""

    def __init__(self, exchange: str, settings: MarketSettings, now_us: int) -> None:
        self.exchange = exchange
        self.settings = settings
        self.listings: dict[str, Listing] = {
            listing.symbol: listing for listing in LISTINGS[exchange](settings.symbols)
        }
        shares = rates(settings.rate, len(self.listings))
        self._rates = dict(zip(self.listings, shares, strict=True))
        self._tables = _Tables(settings.seed)
        self._tapes: dict[str, SimulatedTape] = {}
        start_us = now_us - settings.history_s * 1_000_000
        self.start_us = start_us - start_us % MINUTE_US

    def found(self, symbol: str) -> Listing:
        """A market that was never there, with a middling rate."""
        listing = self.listings[symbol] = LISTING[self.exchange](symbol)
        self._rates[symbol] = sorted(self._rates.values())[len(self._rates) // 2]
        return listing

    def tape(self, symbol: str) -> "SimulatedTape":
        tape = self._tapes.get(symbol)
        if tape is None:
            tape = self._tapes[symbol] = SimulatedTape(
                f"{self.settings.seed}:{self.exchange}:{symbol}", self.listings[symbol], self._rates[symbol],
                self._tables, self.settings, 1_000 if self.exchange == "kraken" else 1_000_000, self.start_us,
            )  # fmt: skip
        return tape

    def trades(self, symbol: str, from_us: int, to_us: int) -> list[Trade]:
        """The trades with from_us <= time < to_us."""
        tape = self.tape(symbol)
        start = max(tape.first_id, tape.id_at(from_us * 1000))
        return [execution.trade for execution in tape.executions(start, max(start, tape.id_at(to_us * 1000)))]

    def candles(self, symbol: str, from_us: int, to_us: int) -> list[Candle]:
        """The minutes with trades that open in [from_us, to_us), each whole."""
        tape = self.tape(symbol)
        first = max(from_us, self.start_us)
        first += -first % MINUTE_US
        minutes = (
            tape.minute(ts_us, tape.id_at((ts_us + MINUTE_US) * 1000)) for ts_us in range(first, to_us, MINUTE_US)
        )
        return [
            candle_of(minute, raw=self.exchange == "binance")
            for minute in minutes
            if minute is not None and minute.trades
        ]


def candle_of(minute: MinuteCandle, *, raw: bool) -> Candle:
    """As a collector should have it; `raw` for venues that count raw trades (Binance)."""
    return Candle(
        minute.ts_us, minute.open, minute.high, minute.low, minute.close, minute.volume,
        minute.raw_trades if raw else minute.trades, "venue",
    )  # fmt: skip


LISTING: Final[dict[str, Callable[[str], Listing]]] = {"kraken": kraken_listing, "binance": binance_listing}
LISTINGS: Final[dict[str, Callable[[int], list[Listing]]]] = {"kraken": kraken_listings, "binance": binance_listings}


def rates(total: float, count: int) -> list[float]:
    """Trades a second of each symbol: a few are busy, many are slow, every fifth is quiet."""
    if total <= 0 or count < 1:
        raise UsageError(f"a market needs a rate above 0 and at least one symbol, not {total:g} and {count}")
    quiet = [count > 4 and i % 5 == 4 for i in range(count)]
    weights = [0.0 if is_quiet else 1 / (i + 2) ** 0.7 for i, is_quiet in enumerate(quiet)]
    left = max(total - QUIET_RATE * sum(quiet), total / 2)
    return [max(QUIET_RATE, left * weight / sum(weights)) for weight in weights]


class _Tables:
    """What all symbols share: random amounts, price bounces, sides, raw counts. Twice over, so that slices may wrap."""

    def __init__(self, seed: int) -> None:
        random = Random(f"{seed}:tables")
        draws = [random.random() for _ in range(_TABLE * 5)]
        self.amounts = array("q", [1 + int(40 * (1 / (1 - 0.998 * x) - 1)) for x in draws[0::5]] * 2)
        self.bounces = array("q", [int(x * 5) - 2 for x in draws[1::5]] * 2)
        self.buys = array("b", [x < 0.5 for x in draws[2::5]] * 2)
        self.limits = array("b", [x < 0.6 for x in draws[3::5]] * 2)
        raw_counts = [1 + int(x * x * 4) for x in draws[4::5]]
        self.raw_before = array("q", accumulate(raw_counts, initial=0))  # raw trades before entry i
        self.raw_total = self.raw_before[-1]


class SimulatedTape(Tape):
    """One symbol. `resolution_ns` is 1,000 where the venue has microseconds, 1,000,000 where it has milliseconds."""

    def __init__(
        self, key: str, listing: Listing, rate: float, tables: _Tables, settings: MarketSettings, resolution_ns: int,
        start_us: int,
    ) -> None:  # fmt: skip
        super().__init__()
        random = Random(key)
        self.price_decimals = listing.decimals
        self._tables = tables
        self._salt = int(random.random() * _TABLE) // _BLOCK * _BLOCK
        self._hash_key = int(random.random() * 2**52)
        self._id_base = 1_000 + int(random.random() * 9_000_000)
        self._raw_base = int(self._id_base * (1.2 + random.random()))
        self._base_ticks = listing.start_ticks
        self._bounce_ticks = max(1, self._base_ticks // 40_000)
        self._amount_unit = max(1, int(25_000_000 / float(listing.price)))
        period_s = min(3600, max(10, round(_PATTERN_TRADES / rate)))
        self._period_ns = period_s * _SECOND_NS
        self._offsets = _pattern(random, period_s, max(1, round(rate * period_s)), settings, resolution_ns)
        self._count = len(self._offsets)
        self._level = lru_cache(maxsize=4096)(self._price_level)
        self.first_id = self.id_at(start_us * 1000)

    def id_at(self, ts_ns: int) -> int:
        repetition, offset = divmod(ts_ns - EPOCH_NS, self._period_ns)
        return self._id_base + repetition * self._count + bisect_left(self._offsets, offset)

    def time_ns(self, trade_id: int) -> int:
        repetition, number = divmod(trade_id - self._id_base, self._count)
        return EPOCH_NS + repetition * self._period_ns + self._offsets[number]

    def times_ns(self, start: int, end: int) -> list[int]:
        times: list[int] = []
        while start < end:
            repetition, number = divmod(start - self._id_base, self._count)
            stop = min(self._count, number + end - start)
            origin = EPOCH_NS + repetition * self._period_ns
            times += [origin + offset for offset in self._offsets[number:stop]]
            start += stop - number
        return times

    def ticks(self, start: int, end: int) -> list[int]:
        bounces, bounce = self._tables.bounces, self._bounce_ticks
        ticks: list[int] = []
        while start < end:
            block, inside = divmod(start, _BLOCK)
            count = min(_BLOCK - inside, end - start)
            level, rise = self._level(block), self._level(block + 1) - self._level(block)
            entry = (start + self._salt) % _TABLE
            ticks += [
                level + rise * i // _BLOCK + bounce * b
                for i, b in enumerate(bounces[entry : entry + count], start=inside)
            ]
            start += count
        return ticks

    def amounts(self, start: int, end: int) -> list[int]:
        unit = self._amount_unit
        return [unit * amount for amount in self._slice(self._tables.amounts, start, end)]

    def buys(self, start: int, end: int) -> Sequence[int]:
        return self._slice(self._tables.buys, start, end)

    def limits(self, start: int, end: int) -> Sequence[int]:
        return self._slice(self._tables.limits, start, end)

    def raw_first(self, trade_id: int) -> int:
        turns, entry = divmod(trade_id + self._salt, _TABLE)
        return self._raw_base + turns * self._tables.raw_total + self._tables.raw_before[entry]

    def id_of_raw(self, raw_id: int) -> int:
        turns, rest = divmod(raw_id - self._raw_base, self._tables.raw_total)
        return turns * _TABLE + bisect_right(self._tables.raw_before, rest) - 1 - self._salt

    def _slice(self, table: "array[int]", start: int, end: int) -> "array[int]":
        entry, count = (start + self._salt) % _TABLE, end - start
        if count <= _TABLE:
            return table[entry : entry + count]
        turns, rest = divmod(count, _TABLE)
        return table[entry : entry + _TABLE] * turns + table[entry : entry + rest]

    def _price_level(self, block: int) -> int:
        """Ticks at the start of a block of trades: noise of three wavelengths, never far from the reference price."""
        base = self._base_ticks
        return (
            base
            + self._noise(block, 1, base * 3 // 2000)
            + self._noise(block, 16, base // 100)
            + self._noise(block, 256, base * 6 // 100)
        )

    def _noise(self, x: int, wavelength: int, amplitude: int) -> int:
        """Integers in -amplitude..amplitude, straight lines between random points."""
        point, inside = divmod(x, wavelength)
        here = _hash(point, self._hash_key + wavelength) % (2 * amplitude + 1)
        there = _hash(point + 1, self._hash_key + wavelength) % (2 * amplitude + 1)
        return here + (there - here) * inside // wavelength - amplitude


def _pattern(random: Random, period_s: int, count: int, settings: MarketSettings, resolution_ns: int) -> "array[int]":
    """Sorted times (ns from the start of the period) of `count` trades, some of them at one time."""
    period_ns = period_s * _SECOND_NS
    moments = sorted(int(random.random() * period_ns) // resolution_ns * resolution_ns for _ in range(count))
    for i in range(1, count):
        if random.random() < settings.clustering:
            moments[i] = moments[i - 1]
    if settings.burst:
        middle = count // 2
        moments[middle:middle] = [moments[middle]] * settings.burst
    if resolution_ns < 1_000_000:  # distinct nanoseconds inside a microsecond
        for i in range(1, len(moments)):
            moments[i] = max(moments[i], moments[i - 1] + 1)
        moments = [min(moment, period_ns - len(moments) + i) for i, moment in enumerate(moments)]
    return array("q", moments)


def _hash(x: int, key: int) -> int:
    """splitmix64."""
    x = (x * 0x9E3779B97F4A7C15 + key * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 31)
