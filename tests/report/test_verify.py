"""What `ohlcvd verify` compares: three sides, minute by minute, with a real database and a local exchange."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.coverage import Range
from ohlcvd.database import Database
from ohlcvd.database.repairs import whole_minutes
from ohlcvd.errors import ExchangeUnavailable, UsageError
from ohlcvd.exchange.limits import rules_of
from ohlcvd.market import MINUTE_US, SECOND_US, Candle, Instrument, minute_of
from ohlcvd.report.venue import Side, VenueMinutes
from ohlcvd.report.verify import Difference, Tally, Verification, render, same, verify
from ohlcvd.simulator.server import Simulator
from tests.database.support import NOON_US, candle, query, trade, writing
from tests.exchange.support import connected, simulator


def built(minute: int, close: str = "101", **changes: object) -> Candle:
    return candle(minute, close, source="trades", **changes)


def minutes(count: int) -> Range:
    return NOON_US, NOON_US + count * MINUTE_US


# --- the comparison


def test_minutes_are_told_apart_as_equal_different_and_not_known() -> None:
    result = Verification("kraken BTC/USD")
    stored = Side({c.ts_us: c for c in (candle(0), candle(1, "102"), candle(3))}, [minutes(5)])
    venue = Side({c.ts_us: c for c in (candle(0, "101.0"), candle(1))}, [minutes(2)])
    result.add([minutes(6)], [built(0), built(1), built(2)], {"stored": stored, "venue": venue}, counts=True)
    # minute 0 equal, 1 stored wrong, 2 not stored, 3 stored without trades, 4 empty on both sides, 5 known to nobody
    assert (result.minutes, result.equal, result.empty, result.trades) == (5, 2, 3, 21)
    assert result.tallies == {"stored": Tally(2, 3, 1), "venue": Tally(2, 0, 4)}
    assert result.differences == [
        Difference(candle(1).ts_us, built(1), {"stored": candle(1, "102"), "venue": candle(1)}),
        Difference(candle(2).ts_us, built(2), {"stored": None}),
        Difference(candle(3).ts_us, None, {"stored": candle(3)}),
    ]
    assert not result.holds
    assert not Verification("nothing compared").holds


def test_trades_are_counted_only_where_the_venue_counts_the_same() -> None:
    assert not same(built(0), candle(0, trades=9), counts=True)
    assert same(built(0), candle(0, trades=9), counts=False)
    assert not same(built(0), built(0, trades=9), counts=False), "built from the same trades"
    assert same(built(0), candle(0, trades=None, volume="12.50"), counts=True)
    assert same(None, None, counts=True)
    assert not same(None, candle(0), counts=True)


@given(
    st.dictionaries(st.integers(0, 9), st.sampled_from("ab")),
    st.dictionaries(st.integers(0, 9), st.sampled_from("ab")),
    st.sets(st.integers(0, 9)),
)
def test_every_covered_minute_is_counted_once(left: dict[int, str], right: dict[int, str], known: set[int]) -> None:
    closes = {"a": "101", "b": "102"}
    rows = {NOON_US + n * MINUTE_US: candle(n, closes[c]) for n, c in right.items()}
    ranges = [(NOON_US + n * MINUTE_US, NOON_US + (n + 1) * MINUTE_US) for n in sorted(known)]
    result = Verification("")
    sides = {"stored": Side(rows, whole_minutes(ranges))}
    result.add([minutes(10)], [built(n, closes[c]) for n, c in left.items()], sides, counts=True)
    compared = {n for n in range(10) if n in right or n in known}
    different = {n for n in compared if left.get(n) != right.get(n)}
    assert {(one.ts_us - NOON_US) // MINUTE_US for one in result.differences} == different
    assert (result.minutes, result.equal) == (len(compared), len(compared - different))
    assert result.tallies["stored"] == Tally(len(compared - different), len(different), 10 - len(compared))


def test_both_rows_of_every_difference_are_shown() -> None:
    result = Verification("kraken BTC/USD", notes=["a note"])
    stored = Side({candle(0).ts_us: candle(0, "102", trades=None)}, [minutes(2)])
    result.add([minutes(2)], [built(0), built(1)], {"stored": stored}, counts=True)
    assert render(result).splitlines() == [
        "kraken BTC/USD: 14 trades of 2026-03-01 12:00 to 2026-03-01 12:02 (UTC)",
        "",
        "2026-03-01 12:00 differs",
        "  SOURCE          OPEN  HIGH  LOW  CLOSE  VOLUME  TRADES",
        "  trades           100   110   90    101    12.5       7",
        "  stored (venue)   100   110   90    102    12.5       -",
        "",
        "2026-03-01 12:01 differs",
        "  SOURCE  OPEN  HIGH  LOW  CLOSE  VOLUME  TRADES",
        "  trades   100   110   90    101    12.5       7",
        "  stored  none",
        "",
        "COMPARED                 MINUTES  EQUAL  DIFFERENT  NOT KNOWN",
        "with the stored candles        2      0          2          0",
        "",
        "a note",
        "minutes compared 2, equal 0, different 2",
    ]
    nothing = render(Verification("kraken BTC/USD"))
    assert nothing.splitlines()[0].startswith("kraken BTC/USD: in this time no minute is wholly covered by trades")
    assert nothing.endswith("minutes compared 0, equal 0, different 0")


# --- the venue's side


class Pages:
    """Answers like a venue: `page` rows from `since` on, of those it still has."""

    def __init__(self, have: list[int], page: int, *, faults_after: int = 1_000, ignores_since: bool = False) -> None:
        self.rows = [candle(n) for n in have]
        self.page = page
        self.asked: list[int] = []
        self.faults_after = faults_after
        self.ignores_since = ignores_since

    async def __call__(self, symbol: str, since_us: int | None = None, limit: int | None = None) -> list[Candle]:
        assert (symbol, limit) == ("BTC/USD", None)
        assert since_us is not None
        self.asked.append((since_us - NOON_US) // MINUTE_US)
        if len(self.asked) > self.faults_after:
            raise ExchangeUnavailable("the venue is away")
        return [row for row in self.rows if self.ignores_since or row.ts_us >= since_us][: self.page]


def answered(side: Side) -> set[int]:
    """The minutes that the venue speaks of."""
    known = {ts_us for lower, upper in side.known for ts_us in range(lower, upper, MINUTE_US)}
    return {(ts_us - NOON_US) // MINUTE_US for ts_us in known}


async def test_a_page_speaks_from_its_first_row_to_its_last() -> None:
    pages = Pages([5, 6, 9, 14, 15, 30], 3)
    venue = VenueMinutes("BTC/USD", pages, sends_empty=False)
    side = await venue.within(*minutes(20))
    assert pages.asked == [0, 10]
    assert answered(side) == set(range(5, 20)), "before its first row: empty, or too long ago for it"
    assert {(ts_us - NOON_US) // MINUTE_US for ts_us in side.rows} == {5, 6, 9, 14, 15}
    side = await venue.within(NOON_US + 20 * MINUTE_US, NOON_US + 40 * MINUTE_US)
    assert (answered(side), pages.asked, venue.fault) == (set(range(20, 31)), [0, 10, 31], None)


async def test_where_every_minute_has_a_row_one_without_is_not_known() -> None:
    pages = Pages([0, 1, 3], 10)
    pages.rows[1] = candle(1, trades=0, volume="0.000")
    venue = VenueMinutes("BTC/USD", pages, sends_empty=True)
    side = await venue.within(*minutes(4))
    assert (answered(side), len(side.rows)) == ({0, 1, 3}, 2)


async def test_a_venue_that_gives_only_the_latest_is_asked_once() -> None:
    pages = Pages(list(range(100, 160)), 60, ignores_since=True)
    venue = VenueMinutes("BTC/USD", pages, sends_empty=True)
    for start in range(0, 150, 50):
        side = await venue.within(NOON_US + start * MINUTE_US, NOON_US + (start + 50) * MINUTE_US)
    assert (pages.asked, answered(side)) == ([0], set(range(100, 150)))


async def test_a_stretch_after_a_pause_is_asked_for_anew() -> None:
    pages = Pages([0, 1, 50, 51], 2)
    venue = VenueMinutes("BTC/USD", pages, sends_empty=False)
    await venue.within(*minutes(2))
    side = await venue.within(NOON_US + 40 * MINUTE_US, NOON_US + 52 * MINUTE_US)
    assert (pages.asked, answered(side)) == ([0, 40], {50, 51})


async def test_what_came_before_a_fault_still_counts() -> None:
    pages = Pages(list(range(10)), 3, faults_after=2)
    venue = VenueMinutes("BTC/USD", pages, sends_empty=False)
    side = await venue.within(*minutes(10))
    assert (answered(side), venue.fault, len(pages.asked)) == (set(range(6)), "the venue is away", 3)
    assert answered(await venue.within(NOON_US + 10 * MINUTE_US, NOON_US + 20 * MINUTE_US)) == set()
    assert len(pages.asked) == 3, "it is left alone"


# --- all three sides, for real

Alter = Callable[[str, int], str]


async def fill(database: Database, simulator: Simulator, instrument: Instrument, *, span: int = 30) -> Range:
    """Store what happened in the last `span` minutes, as a perfect collector would have; the covered range."""
    venue = simulator.venues[instrument.exchange]
    upper_us = time.time_ns() // 1000 - 11 * SECOND_US
    lower_us = upper_us - span * MINUTE_US
    first_us, end_us = minute_of(lower_us) + MINUTE_US, minute_of(upper_us)
    async with writing(database) as writer:
        writer.add_trades(instrument, venue.true_trades(instrument.symbol, lower_us, upper_us))
        writer.cover(instrument, "trades", lower_us, upper_us)
        writer.add_candles(instrument, venue.true_candles(instrument.symbol, first_us, end_us))
        writer.cover(instrument, "candles", first_us, end_us)
        assert await writer.drain(30)
    return first_us, end_us


@pytest.mark.parametrize("exchange", ["kraken", "binance"])
async def test_an_altered_trade_names_its_minute(database: Database, exchange: str) -> None:
    async with simulator(symbols=5, rate=8) as running, connected(running, exchange) as handler:
        for symbol in list(running.venues[exchange].listings)[::4]:  # a busy one and one with empty minutes
            instrument = (await database.instruments(exchange, [symbol]))[symbol]
            first_us, end_us = await fill(database, running, instrument)
            count = (end_us - first_us) // MINUTE_US

            def venue(symbol: str = symbol) -> VenueMinutes:
                return VenueMinutes(symbol, handler.get_ohlcv, sends_empty=rules_of(exchange).sends_empty_minutes)

            result = await verify(database, exchange, symbol, venue())
            assert (result.minutes, result.equal, result.bounds) == (count, count, (first_us, end_us))
            assert result.tallies == {"stored": Tally(count), "venue": Tally(count)}
            assert result.holds
            assert result.notes == []

            altered = query(
                database.conninfo,
                """UPDATE ohlcvd.trades t SET amount = amount * 2 FROM (
                       SELECT ts, trade_id FROM ohlcvd.trades WHERE instrument_id = %s
                          AND ts >= 'epoch'::timestamptz + %s * interval '1 us' ORDER BY ts LIMIT 1) AS one
                    WHERE (t.ts, t.trade_id) = (one.ts, one.trade_id) AND instrument_id = %s
                RETURNING (extract(epoch FROM t.ts) * 1000000)::bigint""",
                [instrument.id, first_us, instrument.id],
            )
            result = await verify(database, exchange, symbol, venue())
            assert [one.ts_us for one in result.differences] == [minute_of(altered[0][0])]
            assert set(result.differences[0].sides) == {"stored", "venue"}
            assert (result.minutes, result.equal) == (count, count - 1)
            later = await verify(database, exchange, symbol, None, since_us=minute_of(altered[0][0]) + MINUTE_US)
            assert later.holds


async def test_only_minutes_of_which_every_trade_is_stored_are_compared(
    database: Database, instrument: Instrument
) -> None:
    async with writing(database) as writer:
        writer.add_trades(instrument, [trade(n, ts_us=NOON_US + n * 20 * SECOND_US) for n in range(30)])
        writer.add_candles(instrument, [candle(n) for n in (0, 2, 9)])
        writer.cover(instrument, "trades", NOON_US + 1, NOON_US + 4 * MINUTE_US + 1)
        writer.cover(instrument, "candles", NOON_US, NOON_US + 3 * MINUTE_US)
        assert await writer.drain(10)
    result = await verify(database, "kraken", "BTC/USD", None)
    assert result.bounds == (NOON_US + MINUTE_US, NOON_US + 4 * MINUTE_US)
    assert result.tallies == {"stored": Tally(equal=0, different=2, unknown=1)}
    assert [one.sides["stored"] for one in result.differences] == [None, candle(2)]
    only = await verify(
        database, "kraken", "BTC/USD", None, since_us=NOON_US + 90 * SECOND_US, until_us=NOON_US + 200 * SECOND_US
    )
    assert only.bounds == (NOON_US + 2 * MINUTE_US, NOON_US + 3 * MINUTE_US)
    nothing = await verify(database, "kraken", "BTC/USD", None, since_us=NOON_US + 2, until_us=NOON_US)
    assert (nothing.minutes, nothing.bounds, nothing.holds) == (0, None, False)


async def test_days_are_compared_one_after_the_other(database: Database, instrument: Instrument) -> None:
    day_us = 1440 * MINUTE_US
    given_ = [trade(n, ts_us=NOON_US + n * day_us // 2, price="100") for n in range(6)]
    row = candle(0, "100", open="100", high="100", low="100", trades=1)
    async with writing(database) as writer:
        writer.add_trades(instrument, given_)
        writer.add_candles(instrument, [row._replace(ts_us=t.ts_us, volume=t.amount) for t in given_])
        for start in (0, 2):
            for kind in ("trades", "candles"):
                lower_us = NOON_US + start * day_us
                writer.cover(instrument, kind, lower_us, lower_us + day_us)
        assert await writer.drain(10)
    result = await verify(database, "kraken", "BTC/USD", None)
    assert (result.minutes, result.empty, result.trades, result.equal) == (2880, 2876, 4, 2880)


async def test_an_unknown_market_is_a_usage_error(database: Database, instrument: Instrument) -> None:
    with pytest.raises(UsageError, match="did you mean BTC/USD"):
        await verify(database, "kraken", "BTC/USDT", None)
