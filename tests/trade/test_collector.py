"""One market's live trades: nothing twice, and no claim about time that was not watched."""

from ohlcvd.market import MINUTE_US, SECOND_US, Trade
from ohlcvd.trade.collector import COVERAGE_LAG_US, TradeCollector
from tests.ledger import INSTRUMENT, Ledger

T0 = 1_700_000_040_000_000


def collector(ledger: Ledger, *, stores_candles: bool = False) -> TradeCollector:
    return TradeCollector(
        "BTC/USD",
        "kraken",
        instrument=INSTRUMENT,
        store=ledger,
        stores_candles=stores_candles,
        sequential_ids=True,
    )


def trade(number: int, ts_us: int) -> Trade:
    return Trade(ts_us, str(number), "10", "1", "buy")


def test_a_trade_sent_again_is_added_once() -> None:
    ledger = Ledger()
    made = collector(ledger)
    trades = [trade(n, T0 + n) for n in range(300)]
    made.on_trades(trades, False)
    made.on_trades(trades[-200:], False)
    assert ledger.trades == trades
    assert made.received == 300


def test_coverage_trails_the_present_and_stops_at_an_interruption() -> None:
    ledger = Ledger()
    made = collector(ledger)
    made.tick(T0)
    made.subscribed(T0)
    made.tick(T0 + COVERAGE_LAG_US)
    assert ledger.covered == []
    made.tick(T0 + COVERAGE_LAG_US + 5 * SECOND_US)
    made.interrupted("cut")
    made.tick(T0 + 60 * SECOND_US)
    made.subscribed(T0 + 50 * SECOND_US)
    made.tick(T0 + 70 * SECOND_US)
    assert ledger.covered == [
        ("trades", T0, T0 + 5 * SECOND_US),
        ("trades", T0 + 50 * SECOND_US, T0 + 70 * SECOND_US - COVERAGE_LAG_US),
    ]


def test_claims_are_made_every_few_seconds_and_an_interruption_claims_what_could_have_been() -> None:
    ledger = Ledger()
    made = collector(ledger)
    made.subscribed(T0)
    for half_s in range(1, 25):
        made.tick(T0 + COVERAGE_LAG_US + half_s * SECOND_US // 2)
    assert ledger.covered == [  # 3 s after the minute, when its candles are decided, and every 6 s from there
        ("trades", T0, T0 + 5 * SECOND_US),
        ("trades", T0 + 5 * SECOND_US, T0 + 11 * SECOND_US),
    ]
    made.interrupted("cut")
    assert ledger.covered[2:] == [("trades", T0 + 11 * SECOND_US, T0 + 12 * SECOND_US)]


def test_what_is_claimed_of_a_quiet_market_trails_by_less_than_20_s() -> None:
    ledger = Ledger()
    made = collector(ledger)
    made.subscribed(T0)
    for tick_us in range(T0, T0 + 300 * SECOND_US, SECOND_US + SECOND_US // 10):
        claimed_us = ledger.covered[-1][2] if ledger.covered else T0
        assert tick_us - claimed_us < 17.5 * SECOND_US
        made.tick(tick_us)
    assert len(ledger.covered) <= 300 / 6


def test_a_doubt_leaves_no_claim_after_the_last_trade() -> None:
    ledger = Ledger()
    made = collector(ledger)
    made.subscribed(T0)
    made.on_trades([trade(1, T0 + 3 * SECOND_US)], False)
    made.tick(T0 + COVERAGE_LAG_US + 7 * SECOND_US)
    made.tick(T0 + COVERAGE_LAG_US + 9 * SECOND_US)
    made.doubted("silent")
    assert ledger.covered[-1] == ("trades", T0 + 7 * SECOND_US, T0 + 9 * SECOND_US)
    assert ledger.uncovered == [("trades", T0 + 3 * SECOND_US, T0 + 9 * SECOND_US)]


def test_a_snapshot_adds_rows_but_no_coverage_and_no_forming_candle() -> None:
    ledger = Ledger()
    made = collector(ledger, stores_candles=True)
    made.on_trades([trade(1, T0 - 3600 * SECOND_US), trade(2, T0 - SECOND_US)], True)
    made.subscribed(T0)
    made.tick(T0 + 9 * SECOND_US)
    assert len(ledger.trades) == 2
    assert (ledger.covered, ledger.candles, made.forming()) == ([], [], None)


def test_alone_it_stores_the_candles_of_whole_minutes_and_covers_them() -> None:
    ledger = Ledger()
    made = collector(ledger, stores_candles=True)
    made.subscribed(T0 - SECOND_US)
    made.on_trades([trade(1, T0 - 1), trade(2, T0 + 1), trade(3, T0 + MINUTE_US)], False)
    made.tick(T0 + MINUTE_US + COVERAGE_LAG_US)
    assert [(candle.ts_us, candle.trades) for candle in ledger.candles] == [(T0, 1)]
    assert ("candles", T0, T0 + MINUTE_US) in ledger.covered


def test_beside_the_candle_service_it_stores_none() -> None:
    ledger = Ledger()
    made = collector(ledger)
    made.subscribed(T0)
    made.on_trades([trade(2, T0 + 1)], False)
    assert len(made.tick(T0 + MINUTE_US + COVERAGE_LAG_US)) == 1
    assert ledger.candles == []
    assert [kind for kind, _, _ in ledger.covered] == ["trades"]


def test_a_jump_in_the_live_ids_takes_the_claim_back_and_spoils_the_minute() -> None:
    ledger = Ledger()
    made = collector(ledger, stores_candles=True)
    made.subscribed(T0)
    made.on_trades([trade(1, T0 + 5 * SECOND_US)], False)
    made.tick(T0 + 25 * SECOND_US)
    made.on_trades([trade(4, T0 + 20 * SECOND_US), trade(5, T0 + 70 * SECOND_US)], False)
    made.tick(T0 + 2 * MINUTE_US + COVERAGE_LAG_US)
    hole = (T0 + 5 * SECOND_US, T0 + 20 * SECOND_US + 1)
    assert ("trades", *hole) in ledger.uncovered
    after = [one for one in ledger.covered if one[0] == "trades" and one[2] > hole[1]]
    assert after == [("trades", hole[1], T0 + 2 * MINUTE_US)]
    assert [candle.ts_us for candle in ledger.candles] == [T0 + MINUTE_US]
    assert ("candles", T0, T0 + MINUTE_US) not in ledger.covered


def test_a_snapshot_or_an_interruption_is_no_jump() -> None:
    ledger = Ledger()
    made = collector(ledger)
    made.subscribed(T0)
    made.on_trades([trade(1, T0 + 1)], False)
    made.interrupted("cut")
    made.on_trades([trade(7, T0 + 2), trade(8, T0 + 3)], True)
    made.subscribed(T0 + 5)
    made.on_trades([trade(12, T0 + 6)], False)
    assert ledger.uncovered == []
