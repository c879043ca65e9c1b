"""The invented market is a function of seed, exchange, symbol and time, and consistent with itself."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohlcvd.errors import UsageError
from ohlcvd.market import MINUTE_US, Candle, Trade, candle_fault, minute_of, trade_fault
from ohlcvd.simulator.market import QUIET_RATE, MarketSettings, SimulatedMarket, SimulatedTape, rates

NOW_US = 1_795_335_723_900_000
DAY_US = 86_400_000_000
EXCHANGES = ("kraken", "binance")


def market(exchange: str = "kraken", **changes: object) -> SimulatedMarket:
    return SimulatedMarket(exchange, MarketSettings(**changes), NOW_US)  # type: ignore[arg-type]


MARKETS = {exchange: market(exchange) for exchange in EXCHANGES}
TAPES: list[SimulatedTape] = [made.tape(symbol) for made in MARKETS.values() for symbol in list(made.listings)[:6]]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_same_seed_same_market_whenever_it_is_made(exchange: str) -> None:
    earlier = SimulatedMarket(exchange, MarketSettings(), NOW_US - DAY_US)
    for symbol in MARKETS[exchange].listings:
        window = (symbol, NOW_US - 600_000_000, NOW_US)
        assert earlier.trades(*window) == MARKETS[exchange].trades(*window)
        assert earlier.candles(*window) == MARKETS[exchange].candles(*window)


def test_another_seed_is_another_market() -> None:
    window = ("BTC/USD", NOW_US - 60_000_000, NOW_US)
    assert market(seed=2).trades(*window) != market(seed=1).trades(*window)


@given(st.sampled_from(TAPES), st.integers(NOW_US * 1000 - 10**18, NOW_US * 1000 + 10**18))
def test_id_and_time_are_two_views_of_one_order(tape: SimulatedTape, ts_ns: int) -> None:
    trade_id = tape.id_at(ts_ns)
    assert tape.time_ns(trade_id - 1) < ts_ns <= tape.time_ns(trade_id)


@given(st.sampled_from(TAPES), st.integers(0, 20_000), st.integers(0, 9_000))
@settings(max_examples=60)
def test_a_range_is_its_single_trades(tape: SimulatedTape, offset: int, count: int) -> None:
    start = tape.first_id + offset
    columns: list[Sequence[int]] = [
        tape.times_ns(start, start + count),
        tape.ticks(start, start + count),
        tape.amounts(start, start + count),
        tape.buys(start, start + count),
        tape.limits(start, start + count),
    ]
    assert {len(column) for column in columns} == {count}
    for at in {0, 1, 63, 64, 65, 4095, 4096, count // 2, count - 1} & set(range(count)):
        one = tape.executions(start + at, start + at + 1)[0]
        assert one.id == start + at
        assert one.ts_ns == columns[0][at] == tape.time_ns(start + at)
        assert Decimal(one.price).scaleb(tape.price_decimals) == columns[1][at]
        assert Decimal(one.amount).scaleb(8) == columns[2][at]
        assert (one.side == "buy", one.is_limit) == (bool(columns[3][at]), bool(columns[4][at]))


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_trades_are_good_in_order_and_without_holes(exchange: str) -> None:
    for symbol in MARKETS[exchange].listings:
        trades = MARKETS[exchange].trades(symbol, NOW_US - 200_000_000, NOW_US)
        if not trades:
            continue  # a quiet market
        assert [int(trade.id) for trade in trades] == list(range(int(trades[0].id), int(trades[0].id) + len(trades)))
        assert all(one.ts_us <= two.ts_us for one, two in pairwise(trades))
        assert not [fault for trade in trades if (fault := trade_fault(trade, NOW_US))]


def test_times_have_the_venues_resolution_and_stand_in_clusters() -> None:
    for exchange, resolution_ns in (("kraken", 1), ("binance", 1_000_000)):
        tape = MARKETS[exchange].tape("BTC/USDT")
        times = tape.times_ns(tape.first_id, tape.first_id + 5000)
        assert all(ts_ns % resolution_ns == 0 for ts_ns in times)
        shown = [ts_ns // 1000 for ts_ns in times]
        assert sum(one == two for one, two in pairwise(shown)) > 300, "trades of one time are wanted"
        if exchange == "kraken":  # its cursor must tell any two trades apart
            assert len(set(times)) == len(times)


def test_a_burst_has_one_time() -> None:
    made = SimulatedMarket("binance", MarketSettings(burst=1200), NOW_US)
    times = [trade.ts_us for trade in made.trades("BTC/USDT", NOW_US - 120_000_000, NOW_US)]
    assert max(map(times.count, set(times))) >= 1200


def test_rates_differ_and_some_are_quiet() -> None:
    shares = rates(100, 20)
    assert shares.count(QUIET_RATE) == 4
    assert sum(shares) == pytest.approx(100)
    assert max(shares) > 4 * sorted(shares)[5]
    for total, count in ((0.0, 5), (10.0, 0)):
        with pytest.raises(UsageError, match="rate above 0"):
            rates(total, count)


def test_a_quiet_symbol_has_minutes_without_trades() -> None:
    made = MARKETS["kraken"]
    candles = made.candles("DOGE/USD", NOW_US - DAY_US, NOW_US)
    assert 100 < len(candles) < 700
    assert made.tape("DOGE/USD").minute(minute_of(NOW_US) + 10**6 * MINUTE_US, 2**62) is not None


def test_the_busiest_market_is_as_busy_as_told() -> None:
    made = market(rate=5000, symbols=1)
    assert len(made.trades("BTC/USD", NOW_US - 10_000_000, NOW_US)) == pytest.approx(50_000, rel=0.05)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_candles_are_what_the_trades_make(exchange: str) -> None:
    made = MARKETS[exchange]
    start_us = minute_of(NOW_US) - 12 * MINUTE_US
    for symbol in list(made.listings)[1:5]:
        candles = made.candles(symbol, start_us, minute_of(NOW_US))
        rebuilt = _rebuilt(made.trades(symbol, start_us, minute_of(NOW_US)))
        assert [candle._replace(trades=None) for candle in candles] == rebuilt
        assert not [fault for candle in candles if (fault := candle_fault(candle, NOW_US))]
        tape = made.tape(symbol)
        for candle in candles:
            executions = tape.executions(tape.id_at(candle.ts_us * 1000), tape.id_at((candle.ts_us + MINUTE_US) * 1000))
            raw = sum(one.raw_last - one.raw_first + 1 for one in executions)
            assert candle.trades == (raw if exchange == "binance" else len(executions))


def test_quote_volumes_and_vwap_are_exact_sums() -> None:
    tape = MARKETS["binance"].tape("BTC/USDT")
    start_us = minute_of(NOW_US) - MINUTE_US
    minute = tape.minute(start_us, 2**62)
    assert minute is not None
    executions = tape.executions(tape.id_at(start_us * 1000), tape.id_at((start_us + MINUTE_US) * 1000))
    quote = sum(Decimal(one.price) * Decimal(one.amount) for one in executions)
    bought = [one for one in executions if one.side == "buy"]
    assert Decimal(minute.quote_volume) == _floored(quote, 8)
    assert Decimal(minute.buy_volume) == sum(Decimal(one.amount) for one in bought)
    assert Decimal(minute.buy_quote_volume) == _floored(
        sum(Decimal(one.price) * Decimal(one.amount) for one in bought), 8
    )
    assert Decimal(minute.vwap) == _floored(quote / Decimal(minute.volume), tape.price_decimals)


def test_the_running_minute_grows_to_the_whole_one() -> None:
    """States taken on the way (and going back) never disturb the final one."""
    fresh, used = (market().tape("BTC/USD") for _ in range(2))
    start_us = minute_of(NOW_US) - MINUTE_US
    first, end = used.id_at(start_us * 1000), used.id_at((start_us + MINUTE_US) * 1000)
    for visible in [*range(first, end, 7), first + 3, end - 1]:
        partial = used.minute(start_us, visible)
        assert partial is not None
        assert partial.trades == visible - first
    assert used.minute(start_us, end) == fresh.minute(start_us, end)


def test_raw_trades_are_another_family_of_ids() -> None:
    tape = MARKETS["binance"].tape("ETH/USDT")
    executions = tape.executions(tape.first_id, tape.first_id + 9000)
    assert all(two.raw_first == one.raw_last + 1 for one, two in pairwise(executions))
    assert {one.raw_last - one.raw_first + 1 for one in executions} >= {1, 2, 3}
    assert not {one.id for one in executions} & {one.raw_first for one in executions}
    for one in executions[:5000]:
        assert tape.id_of_raw(one.raw_first) == tape.id_of_raw(one.raw_last) == one.id


def test_the_price_moves_but_stays_where_it_belongs() -> None:
    tape = MARKETS["kraken"].tape("BTC/USD")
    prices = [
        tape.ticks(trade_id, trade_id + 1)[0] / 10 for trade_id in range(tape.first_id, tape.first_id + 10**6, 1009)
    ]
    assert 97000 * 0.9 < min(prices) < max(prices) < 97000 * 1.1
    assert max(prices) - min(prices) > 97000 * 0.01


def _rebuilt(trades: list[Trade]) -> list[Candle]:
    """Candles by an implementation that shares nothing with the tape's."""
    minutes: dict[int, list[Trade]] = {}
    for trade in trades:
        minutes.setdefault(minute_of(trade.ts_us), []).append(trade)
    return [
        Candle(
            ts_us,
            inside[0].price,
            max((trade.price for trade in inside), key=Decimal),
            min((trade.price for trade in inside), key=Decimal),
            inside[-1].price,
            str(sum(Decimal(trade.amount) for trade in inside)),
            None,
            "venue",
        )
        for ts_us, inside in minutes.items()
    ]


def _floored(value: Decimal | int, decimals: int) -> Decimal:
    return Decimal(int(Decimal(value).scaleb(decimals))).scaleb(-decimals)
