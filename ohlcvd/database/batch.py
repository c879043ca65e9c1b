"""What goes into the database in one transaction: rows and the coverage that speaks of them. Pure.

A batch is filled, sealed, stored, and given to `on_commit`. Within one batch a trade occurs once: PostgreSQL would
refuse the whole of it otherwise. The same trade can reach us with times that differ in the last microseconds (a venue's
float in one protocol, a text in another), so a numeric id within 1 ms counts as the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, groupby, islice, repeat
from operator import itemgetter, lt, ne, or_

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.database.encode import TradeRow, split_id, whole_numbers
from ohlcvd.database.lag import Arrivals
from ohlcvd.market import Candle, Candles, Instrument, Kind, Trade, ascend
from ohlcvd.store import Added

# Two times of one trade may differ by this much (numeric ids only).
SAME_TRADE_US = 1_000

Claim = tuple[Instrument, Kind]

_market, _key = itemgetter(0), itemgetter(1)  # of a row
_own = itemgetter(1)  # of what was added
_ts_us, _venue_id = itemgetter(0), itemgetter(1)  # of a trade, the first of a candle, too


@dataclass
class Batch:
    """What was committed, in the order it was given. Trades that the database had already are among them.

    Coverage became what it was, without `uncovered`, and then with `covered`.
    """

    trades: dict[Instrument, list[Trade]] = field(default_factory=dict)
    candles: dict[Instrument, Sequence[Candle]] = field(default_factory=dict)
    covered: dict[Claim, list[Range]] = field(default_factory=dict)
    uncovered: dict[Claim, list[Range]] = field(default_factory=dict)


class Ordinals:
    """Order of execution among trades of one time, for venues whose ids do not tell it. Outlives batches."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, int]] = {}

    def next(self, instrument_id: int, ts_us: int) -> int:
        last_us, count = self._last.get(instrument_id, (-1, 0))
        ordinal = count + 1 if ts_us == last_us else 0
        self._last[instrument_id] = (ts_us, ordinal)
        return ordinal


class Pending:
    """A batch being filled or stored, in the form that storing wants.

    Trades get their keys when `rows` is first asked for: for all markets at once that takes a fraction of the time.
    """

    def __init__(self) -> None:
        self._rows: list[TradeRow] = []
        self._added: list[Added] = []  # without keys yet
        self._added_rows = 0
        self._ordinals = Ordinals()  # for these
        self._pages: list[tuple[Instrument, Candles]] = []  # of candles that are nowhere else in the batch
        self._candles: dict[tuple[int, int], tuple[Instrument, Candle]] = {}  # all others
        self.covered: dict[Claim, list[Range]] = {}
        self.uncovered: dict[Claim, list[Range]] = {}  # taken away before `covered` is added
        self.frames = 0  # so many frames of the spool hold it; 0: it is in memory only
        self.arrivals = Arrivals()
        self.duplicates = 0  # resent within the batch
        self.corrections = 0  # candles that the venue changed within the batch
        self._instruments: dict[int, Instrument] = {}
        self._seen: dict[int, dict[int, int]] = {}  # instrument: trade: its time; of the first `_seen_rows` rows
        self._seen_rows = 0

    def __len__(self) -> int:
        """Those that turn out to be resent count until they are known to be."""
        return len(self._rows) + self._added_rows + len(self._candles) + sum(len(page) for _, page in self._pages)

    @property
    def rows(self) -> list[TradeRow]:
        """Each trade once; those of one market in the order added."""
        self._give_keys()
        return self._rows

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade], ordinals: Ordinals) -> None:
        self.add_many([(instrument, trades)], len(trades), ordinals)

    def add_many(self, added: Sequence[Added], rows: int, ordinals: Ordinals) -> None:
        """Trades of many markets, `rows` in all. They must not change any more."""
        if ordinals is not self._ordinals:
            self._give_keys()
            self._ordinals = ordinals
        self._added += added
        self._added_rows += rows

    def _give_keys(self) -> None:
        if not self._added:
            return
        added, self._added, self._added_rows = self._added, [], 0
        self._instruments |= {instrument.id: instrument for instrument, _ in added}
        if self._rows or not self._give_numbers(added):
            self._see_rows()
            for instrument, trades in added:
                self._give_own_keys(instrument.id, trades, self._ordinals)

    def _give_numbers(self, added: Sequence[Added]) -> bool:
        """The way that nearly all go: ids are whole numbers, which ascend in each market. Whether it was possible."""
        trades = [*chain.from_iterable(map(_own, added))]
        numbers = whole_numbers([*map(_venue_id, trades)])
        if numbers is None:
            return False
        markets = [instrument.id for instrument, own in added for _ in own]
        rows: list[TradeRow] = [*zip(markets, numbers, repeat(None), trades, strict=False)]
        rows.sort(key=_market)
        ascends = _with_next(lt, [*map(_key, rows)])
        changes = _with_next(ne, [*map(_market, rows)])
        if not all(map(or_, ascends, changes)):
            return False
        self._rows = rows
        return True

    def _give_own_keys(self, instrument_id: int, trades: Sequence[Trade], ordinals: Ordinals) -> None:
        """Of one market."""
        numbers = whole_numbers([*map(_venue_id, trades)])
        if numbers is not None and self._are_first(instrument_id, numbers, trades):
            self._rows += zip(repeat(instrument_id), numbers, repeat(None), trades, strict=False)
        else:
            for trade in trades:
                trade_id, is_number = split_id(trade.id)
                if self._is_first(instrument_id, trade_id, trade.ts_us):
                    ordinal = None if is_number else ordinals.next(instrument_id, trade.ts_us)
                    self._rows.append((instrument_id, trade_id, ordinal, trade))
        self._seen_rows = len(self._rows)

    def _see_rows(self) -> None:
        """Remember those that nobody has compared with others by now."""
        for instrument_id, trade_id, _, trade in self._rows[self._seen_rows :]:
            self._seen.setdefault(instrument_id, {})[trade_id] = trade.ts_us
        self._seen_rows = len(self._rows)

    @property
    def candles(self) -> list[tuple[Instrument, Candles]]:
        """Each candle once, of one market side by side where they were added together."""
        single = groupby(self._candles.values(), _market)
        return [*self._pages, *((instrument, Candles.of([one[1] for one in own])) for instrument, own in single)]

    def add_candle(self, instrument: Instrument, candle: Candle) -> None:
        self._instruments[instrument.id] = instrument
        self._take_apart(instrument.id)
        key = (instrument.id, candle.ts_us)
        before = self._candles.get(key)
        if before is not None and before[1].source == "venue":
            if candle.source != "venue":
                return  # the venue's own word stands
            self.corrections += differs(before[1], candle)
            if candle.trades is None:
                candle = candle._replace(trades=before[1].trades)
        self._candles[key] = (instrument, candle)

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        self._instruments[instrument.id] = instrument
        if isinstance(candles, Candles) and self._is_apart(instrument.id, candles.times_us):
            self._pages.append((instrument, candles))
            return
        for candle in candles:
            self.add_candle(instrument, candle)

    def _is_apart(self, instrument_id: int, times_us: Sequence[int]) -> bool:
        """Whether these are of minutes that nothing else in the batch is of: history nearly always is."""
        if not times_us or not ascend(times_us) or any(key[0] == instrument_id for key in self._candles):
            return False
        others = [page.times_us for instrument, page in self._pages if instrument.id == instrument_id]
        return all(other[-1] < times_us[0] or times_us[-1] < other[0] for other in others)

    def _take_apart(self, instrument_id: int) -> None:
        """Its pages are single candles from now on."""
        pages, self._pages = self._pages, []
        for instrument, page in pages:
            if instrument.id == instrument_id:
                self._candles.update(((instrument_id, candle.ts_us), (instrument, candle)) for candle in page)
            else:
                self._pages.append((instrument, page))

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        claim = (instrument, kind)
        self.covered[claim] = coverage.add(self.covered.get(claim, []), (lower_us, upper_us))

    def uncover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        claim = (instrument, kind)
        taken = coverage.normalise([(lower_us, upper_us)])
        self.uncovered[claim] = coverage.add(self.uncovered.get(claim, []), *taken)
        if claim in self.covered:  # claims made before this call; those that follow stand
            self.covered[claim] = coverage.subtract(self.covered[claim], taken)

    def absorb(
        self,
        instruments: Iterable[Instrument],
        rows: Iterable[TradeRow],
        candles: Iterable[tuple[Instrument, Candle]],
        *,
        uncovered: Mapping[Claim, Sequence[Range]],
        covered: Mapping[Claim, Sequence[Range]],
    ) -> None:
        """Add another batch behind this one: as if its claims were taken back and made after all of these."""
        self._instruments.update((instrument.id, instrument) for instrument in instruments)
        own = self.rows
        self._see_rows()
        own += [row for row in rows if self._is_first(row[0], row[1], row[3].ts_us)]
        self._seen_rows = len(own)
        for instrument, candle in candles:
            self.add_candle(instrument, candle)
        for (instrument, kind), ranges in uncovered.items():
            for lower_us, upper_us in ranges:
                self.uncover(instrument, kind, lower_us, upper_us)
        for (instrument, kind), ranges in covered.items():
            for lower_us, upper_us in ranges:
                self.cover(instrument, kind, lower_us, upper_us)

    def _are_first(self, instrument_id: int, trade_ids: Sequence[int], trades: Sequence[Trade]) -> bool:
        """Whether none of these is in the batch yet, nor twice among them; if so they now are."""
        seen = self._seen.setdefault(instrument_id, {})
        new = dict(zip(trade_ids, map(_ts_us, trades), strict=True))
        if len(new) < len(trades) or not seen.keys().isdisjoint(new):
            return False
        seen.update(new)
        return True

    def _is_first(self, instrument_id: int, trade_id: int, ts_us: int) -> bool:
        """Whether this trade is not in the batch yet; counted if it is."""
        seen = self._seen.setdefault(instrument_id, {})
        before_us = seen.get(trade_id)
        if before_us is not None and abs(ts_us - before_us) <= (SAME_TRADE_US if trade_id >= 0 else 0):
            self.duplicates += 1
            return False
        seen[trade_id] = ts_us
        return True

    def seal(self) -> None:
        """It is full: the rows of each market side by side, in their order; much is then done once for all of them."""
        self.rows.sort(key=_market)

    def without(self, trades: Sequence[TradeRow], candles: Iterable[tuple[int, Candle]]) -> None:
        """Take out what PostgreSQL refuses; candles with the instrument's id."""
        refused = {id(row) for row in trades}
        self._rows = [row for row in self.rows if id(row) not in refused]
        for instrument_id, candle in candles:
            self._take_apart(instrument_id)
            del self._candles[instrument_id, candle.ts_us]

    def instrument(self, instrument_id: int) -> Instrument:
        return self._instruments[instrument_id]

    def instruments(self) -> set[Instrument]:
        """All that rows or claims speak of."""
        self._give_keys()
        return {*self._instruments.values(), *(claim[0] for claim in (*self.covered, *self.uncovered))}

    def batch(self) -> Batch:
        """What is told when it is committed."""
        batch = Batch(covered=dict(self.covered), uncovered=dict(self.uncovered))
        for instrument_id, rows in groupby(self.rows, _market):
            batch.trades.setdefault(self._instruments[instrument_id], []).extend([row[3] for row in rows])
        for instrument, candles in self.candles:
            before = batch.candles.get(instrument)
            batch.candles[instrument] = candles if before is None else [*before, *candles]
        return batch


def _with_next(compare: Callable[[int, int], bool], values: Sequence[int]) -> Iterator[bool]:
    return map(compare, values, islice(values, 1, None))


def differs(one: Candle, other: Candle) -> bool:
    """Whether the values differ (0.5 and 0.50 do not; a count that one of them lacks does not)."""
    if one.trades != other.trades and None not in (one.trades, other.trades):
        return True
    return any(a != b and Decimal(a) != Decimal(b) for a, b in zip(one[1:6], other[1:6], strict=True))
