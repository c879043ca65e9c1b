"""`ohlcvd verify`: candles built anew from the stored trades, against the stored candles and the venue's.

Only minutes of which every trade is stored are compared: those wholly inside the coverage of trades. The stored side
may lack a candle that was not fetched yet, the venue may not answer for that long ago: such a minute is not compared
with that side, and counted. A minute without trades must have no candle on any side.
"""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ohlcvd import coverage
from ohlcvd.config import Config
from ohlcvd.coverage import Range
from ohlcvd.database import Database, candles_of
from ohlcvd.database.batch import differs
from ohlcvd.database.inventory import markets_of
from ohlcvd.database.repairs import built_candles, whole_minutes
from ohlcvd.errors import ExchangeError
from ohlcvd.exchange.limits import rules_of
from ohlcvd.market import MINUTE_US, Candle, Instrument
from ohlcvd.report.access import ask_database, check_market
from ohlcvd.report.times import minute
from ohlcvd.report.venue import Side, VenueMinutes
from ohlcvd.terminal import table

# Compared at once: what is held in memory.
STRETCH_US: Final = 1440 * MINUTE_US
_FAR_FUTURE_US: Final = 250_000_000_000_000_000


class Difference(NamedTuple):
    """A minute in which not all sides agree; a side that does not know it is not among `sides`."""

    ts_us: int
    built: Candle | None
    sides: dict[str, Candle | None]


@dataclass(slots=True)
class Tally:
    """How one side compares with the candles built from trades, in minutes."""

    equal: int = 0
    different: int = 0
    unknown: int = 0


@dataclass(slots=True)
class Verification:
    """What came out. `minutes` are those compared with at least one side; `trades` are those of all minutes in `bounds`
    that are covered, `empty` how many of these have none."""

    market: str
    minutes: int = 0
    equal: int = 0
    empty: int = 0
    trades: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    bounds: Range | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether something was compared, and all of it is equal."""
        return self.minutes > 0 and not self.differences

    def add(self, covered: Iterable[Range], built: Iterable[Candle], sides: dict[str, Side], *, counts: bool) -> None:
        """Compare the minutes of `covered`. `counts`: a venue's candle counts the same trades that are stored."""
        rows = {candle.ts_us: candle for candle in built}
        for name in sides:
            self.tallies.setdefault(name, Tally())
        for lower_us, upper_us in covered:
            self.bounds = (self.bounds[0] if self.bounds else lower_us, upper_us)
            for ts_us in range(lower_us, upper_us, MINUTE_US):
                self._add_minute(ts_us, rows.get(ts_us), sides, counts)

    def _add_minute(self, ts_us: int, built: Candle | None, sides: dict[str, Side], counts: bool) -> None:
        self.trades += built.trades or 0 if built else 0
        self.empty += built is None
        known: dict[str, Candle | None] = {}
        agree = True
        for name, side in sides.items():
            row = side.rows.get(ts_us)
            if row is None and not coverage.contains(side.known, ts_us, ts_us + MINUTE_US):
                self.tallies[name].unknown += 1
                continue
            known[name] = row
            if same(built, row, counts=counts):
                self.tallies[name].equal += 1
            else:
                self.tallies[name].different += 1
                agree = False
        self.minutes += bool(known)
        self.equal += bool(known) and agree
        if not agree:
            self.differences.append(Difference(ts_us, built, known))


def same(built: Candle | None, other: Candle | None, *, counts: bool) -> bool:
    """Whether two candles of one minute say the same. Trades are counted by the venue's rules: see VenueRules."""
    if built is None or other is None:
        return built is other
    if other.source == "venue" and not counts:
        other = other._replace(trades=None)
    return not differs(built, other)


# --- reading


def read(
    config: Config, exchange: str, symbol: str, *, since_us: int | None = None, until_us: int | None = None
) -> Verification:
    """Verify one market of the configured database, all of it or what lies in [since, until)."""

    async def question(database: Database) -> Verification:
        async with _venue(config, exchange, symbol) as (venue, why_not):
            result = await verify(database, exchange, symbol, venue, since_us=since_us, until_us=until_us)
        if why_not is not None:
            result.notes.append(why_not)
        result.notes += config.not_kept(time.time_ns() // 1000)
        return result

    return ask_database(config, question)


async def verify(
    database: Database,
    exchange: str,
    symbol: str,
    venue: VenueMinutes | None,
    *,
    since_us: int | None = None,
    until_us: int | None = None,
) -> Verification:
    """The same, from a database and, where there is one, a venue."""
    instrument = await market_of(database, exchange, symbol)
    result = Verification(f"{exchange} {symbol}", tallies={"stored": Tally()})
    wanted = [(since_us or 0, max(since_us or 0, _FAR_FUTURE_US if until_us is None else until_us))]
    trades = coverage.intersect(await database.coverage(instrument.id, "trades"), coverage.normalise(wanted))
    minutes = whole_minutes(trades)
    candles = await database.coverage(instrument.id, "candles")
    counts = rules_of(exchange).counts_stream_trades
    for stretch in _stretches(minutes):
        lower_us, upper_us = stretch[0][0], stretch[-1][1]
        built = [row for part in stretch for row in await built_candles(database, instrument, *part)]
        stored = candles_of(database, exchange, symbol, since_us=lower_us, until_us=upper_us)
        sides = {"stored": Side({row.ts_us: row async for row in stored}, candles)}
        if venue is not None:
            sides["venue"] = await venue.within(lower_us, upper_us)
        result.add(stretch, built, sides, counts=counts)
    if venue is not None and venue.fault is not None:
        result.notes.append(f"not all of the venue's candles could be had: {venue.fault}")
    return result


async def market_of(database: Database, exchange: str, symbol: str) -> Instrument:
    """The market, or a UsageError with the nearest names."""
    markets = await markets_of(database)
    check_market(markets, exchange, symbol)
    return next(market for market in markets if market[1:] == (exchange, symbol))


@asynccontextmanager
async def _venue(config: Config, exchange: str, symbol: str) -> AsyncIterator[tuple[VenueMinutes | None, str | None]]:
    """The venue, or why it cannot be asked, which is no reason not to compare the rest."""
    from ohlcvd.exchange import ExchangeHandler  # with it comes ccxt

    if exchange not in (configured.name for configured in config.exchanges):
        yield None, f"the venue's candles are not compared: {exchange} is not configured"
        return
    handler = ExchangeHandler(config.exchange(exchange))
    try:
        await handler.connect()
    except ExchangeError as error:
        await handler.close()
        yield None, f"the venue's candles are not compared: {error}"
        return
    try:
        yield VenueMinutes(symbol, handler.get_ohlcv, sends_empty=rules_of(exchange).sends_empty_minutes), None
    finally:
        await handler.close()


def _stretches(minutes: Iterable[Range]) -> Iterable[list[Range]]:
    """The minutes, day by day."""
    day: list[Range] = []
    for lower_us, upper_us in minutes:
        for start_us in range(lower_us // STRETCH_US * STRETCH_US, upper_us, STRETCH_US):
            part = max(lower_us, start_us), min(upper_us, start_us + STRETCH_US)
            if day and day[0][0] // STRETCH_US != part[0] // STRETCH_US:
                yield day
                day = []
            day.append(part)
    if day:
        yield day


# --- telling


def render(result: Verification) -> str:
    """Every difference with the rows of both sides, then the counts. Times are UTC."""
    blocks = [[_headline(result)], *(_difference(one) for one in result.differences)]
    if result.bounds is not None:
        rows = [
            [
                f"with {_SIDES[name]}",
                *map(str, (tally.equal + tally.different, tally.equal, tally.different, tally.unknown)),
            ]
            for name, tally in result.tallies.items()
        ]
        blocks.append(table(["COMPARED", ">MINUTES", ">EQUAL", ">DIFFERENT", ">NOT KNOWN"], rows))
    last = [f"minutes compared {result.minutes}, equal {result.equal}, different {len(result.differences)}"]
    blocks.append([*result.notes, *last])
    return "\n\n".join("\n".join(block) for block in blocks)


_SIDES: Final = {"stored": "the stored candles", "venue": "the venue's candles"}


def _headline(result: Verification) -> str:
    if result.bounds is None:
        return f"{result.market}: in this time no minute is wholly covered by trades, so there is nothing to compare"
    lower_us, upper_us = result.bounds
    empty = f", {result.empty} minutes without a trade" if result.empty else ""
    return f"{result.market}: {result.trades} trades of {minute(lower_us)} to {minute(upper_us)} (UTC){empty}"


def _difference(difference: Difference) -> list[str]:
    header = ["SOURCE", ">OPEN", ">HIGH", ">LOW", ">CLOSE", ">VOLUME", ">TRADES"]
    rows = [["trades", *_cells(difference.built)]]
    rows += [[_name(side, row), *_cells(row)] for side, row in difference.sides.items()]
    return [f"{minute(difference.ts_us)} differs", *(f"  {line}" for line in table(header, rows))]


def _name(side: str, row: Candle | None) -> str:
    return f"stored ({row.source})" if side == "stored" and row is not None else side


def _cells(row: Candle | None) -> list[str]:
    if row is None:
        return ["none", *[""] * 5]
    return [row.open, row.high, row.low, row.close, row.volume, "-" if row.trades is None else str(row.trades)]
