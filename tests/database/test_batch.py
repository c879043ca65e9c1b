"""A batch before it is stored, and which of its rows are certainly new."""

from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.database.batch import SAME_TRADE_US, Ordinals, Pending, differs
from ohlcvd.database.encode import TradeRow
from ohlcvd.database.freshness import LOOK_BACK_US, HighWater, Mark, extents
from ohlcvd.market import SECOND_US, Candles, Instrument, Trade
from tests.database.support import NOON_US, candle, trade, trades

BTC = Instrument(1, "kraken", "BTC/USD")
ETH = Instrument(2, "kraken", "ETH/USD")


def filled(instrument: Instrument, *several: list[Trade]) -> Pending:
    pending, ordinals = Pending(), Ordinals()
    for some in several:
        pending.add_trades(instrument, some, ordinals)
    return pending


def test_a_trade_occurs_once_in_a_batch_also_when_its_time_is_a_little_off() -> None:
    first = trade(1)
    again = first._replace(ts_us=first.ts_us + 1)
    pending = filled(BTC, [first, again, first], [again, trade(2)])
    assert [row[3] for row in pending.rows] == [first, trade(2)]
    assert pending.duplicates == 3
    pending.add_trades(ETH, [first], Ordinals())
    assert pending.batch().trades == {BTC: [first, trade(2)], ETH: [first]}


@given(st.lists(st.tuples(st.sampled_from([BTC, ETH]), st.lists(st.integers(0, 9), max_size=4), st.booleans())))
def test_keys_given_to_all_at_once_are_those_given_one_after_the_other(
    several: list[tuple[Instrument, list[int], bool]],
) -> None:
    at_once, in_turn = (Pending(), Ordinals()), (Pending(), Ordinals())
    for instrument, numbers, are_texts in several:
        own = [trade(n)._replace(id=f"a-{n}") if are_texts and n > 7 else trade(n) for n in numbers]
        for pending, ordinals in (at_once, in_turn):
            pending.add_trades(instrument, own, ordinals)
        assert len(in_turn[0].rows) == len(in_turn[0])
    for pending, _ in (at_once, in_turn):
        pending.seal()
    assert at_once[0].rows == in_turn[0].rows
    assert at_once[0].duplicates == in_turn[0].duplicates
    assert at_once[0].instruments() == in_turn[0].instruments()


def test_text_ids_are_the_same_only_at_the_same_time() -> None:
    first = trade(1)._replace(id="a-1")
    later = first._replace(ts_us=first.ts_us + 1)
    assert [row[3] for row in filled(BTC, [first, later, first]).rows][:2] == [first, later]


def test_ordinals_count_trades_of_one_time_across_batches() -> None:
    ordinals = Ordinals()
    numbers = []
    for names in ("ab", "c"):
        pending = Pending()
        pending.add_trades(BTC, [trade(0)._replace(id=name) for name in names], ordinals)
        numbers += [row[2] for row in pending.rows]
    pending = Pending()
    pending.add_trades(BTC, [trade(1)._replace(id="d"), trade(2)], ordinals)
    assert [*numbers, *(row[2] for row in pending.rows)] == [0, 1, 2, 0, None]


def test_of_two_candles_of_one_minute_the_venues_later_one_counts() -> None:
    built = candle(close="102", source="trades")
    for given_, kept, corrections in (
        ([candle(), candle(close="103")], candle(close="103"), 1),
        ([candle(), candle(close="101.0")], candle(close="101.0"), 0),
        ([candle(), built], candle(), 0),
        ([built, candle()], candle(), 0),
        ([built, built._replace(close="99")], built._replace(close="99"), 0),
        ([candle(), candle(trades=None)], candle(), 0),
        ([candle(trades=None), candle()], candle(), 0),
    ):
        single, together = [[one] for one in given_], [given_]
        for pages in (single, together, [*map(Candles.of, single)], [*map(Candles.of, together)]):
            pending = Pending()
            for page in pages:
                pending.add_candles(BTC, page)
            assert pending.batch().candles == {BTC: [kept]}
            assert pending.corrections == corrections
            assert len(pending) == 1


def test_pages_of_candles_meet_in_a_batch() -> None:
    pages = [Candles.of([candle(minute) for minute in part]) for part in (range(4), range(4, 6), range(5, 9))]
    pending = Pending()
    for page in pages:
        pending.add_candles(BTC, page)
        pending.add_candles(ETH, page)
    pending.add_candle(ETH, candle(2, close="102"))
    assert len(pending) == 18
    assert [one for market, own in pending.candles if market == BTC for one in own] == [candle(n) for n in range(9)]
    pending.without([], [(BTC.id, candle(0))])
    told = pending.batch().candles
    assert told[BTC] == [candle(n) for n in range(1, 9)]
    assert told[ETH] == [candle(n, close="102" if n == 2 else "101") for n in range(9)]
    assert pending.corrections == 1


def test_candles_differ_by_value_not_by_digits() -> None:
    assert not differs(candle(), candle(close="101.00"))
    assert not differs(candle(), candle(trades=None))
    assert differs(candle(), candle(trades=8))
    assert differs(candle(), candle(close="101.01"))


def test_claims_of_one_market_are_joined() -> None:
    pending = Pending()
    pending.cover(BTC, "trades", 10, 20)
    pending.cover(BTC, "trades", 20, 30)
    pending.cover(BTC, "candles", 0, 5)
    assert pending.batch().covered == {(BTC, "trades"): [(10, 30)], (BTC, "candles"): [(0, 5)]}


def test_live_trades_are_certainly_new_and_resent_ones_are_not() -> None:
    high_water = HighWater()
    live = filled(BTC, trades(range(100, 110))).rows
    assert high_water.unknown(extents(live)) == {BTC.id: live[0][3].ts_us}
    high_water.found(BTC.id, Mark(live[0][3].ts_us - LOOK_BACK_US, -1))
    assert high_water.split(live, extents(live)) == (live, ())
    high_water.advance(extents(live))
    assert high_water.unknown(extents(live)) == {}

    resent = [trade(n)._replace(ts_us=trade(n).ts_us + 1) for n in range(105, 110)]
    same_moment = trade(110, ts_us=live[-1][3].ts_us)
    rows = filled(BTC, resent, [same_moment, trade(111)]).rows
    fresh, doubtful = high_water.split(rows, extents(rows))
    assert [row[3] for row in doubtful] == resent
    assert [row[3] for row in fresh] == [same_moment, trade(111)]


stored_and_new = st.lists(
    st.tuples(st.integers(0, 30), st.integers(-90 * SECOND_US, 90 * SECOND_US) | st.integers(-3_000, 3_000)),
    max_size=12,
)


@given(stored_and_new, st.lists(stored_and_new, max_size=4))
def test_no_row_called_new_is_the_same_as_a_stored_one(
    at_start: list[tuple[int, int]], batches: list[list[tuple[int, int]]]
) -> None:
    """Whatever was stored before this process began and whatever comes, in any order."""
    stored = [(number, NOON_US + offset) for number, offset in at_start]
    high_water = HighWater()
    for batch in batches:
        rows: list[TradeRow] = filled(BTC, [trade(number, ts_us=NOON_US + offset) for number, offset in batch]).rows
        for instrument_id, earliest_us in high_water.unknown(extents(rows)).items():
            since_us = earliest_us - LOOK_BACK_US
            newest_us = max((ts for _, ts in stored if ts >= since_us), default=None)
            if newest_us is None:
                high_water.found(instrument_id, Mark(since_us, -1))
            else:
                window_us = max(since_us, newest_us - LOOK_BACK_US)
                high_water.found(instrument_id, Mark(newest_us, max(n for n, ts in stored if ts >= window_us)))
        fresh, doubtful = high_water.split(rows, extents(rows))
        assert sorted([*fresh, *doubtful]) == sorted(rows)
        for _, number, _, new in fresh:
            assert not [1 for n, ts in stored if n == number and abs(ts - new.ts_us) <= SAME_TRADE_US]
        stored += [(number, new.ts_us) for _, number, _, new in rows]
        high_water.advance(extents(rows))
