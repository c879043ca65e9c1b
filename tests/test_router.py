"""Events of a stream reach the collector of their symbol and kind, and no other."""

from collections.abc import Sequence

import pytest

from ohlcvd.market import MINUTE_US, Candle, Instrument, Kind, Trade
from ohlcvd.ohlcv.manager import OhlcvManager
from ohlcvd.router import StreamRouter
from ohlcvd.trade.manager import TradeManager
from tests.ledger import Ledger

T0 = 1_700_000_040_000_000
INSTRUMENTS = {symbol: Instrument(n, "kraken", symbol) for n, symbol in enumerate(("BTC/USD", "ETH/USD"))}


async def no_answer(symbol: str, since_us: int | None = None, limit: int | None = None) -> list[Candle]:
    return []


def router(ledger: Ledger) -> StreamRouter:
    candles = OhlcvManager(
        "kraken", INSTRUMENTS, ledger, finality="stream", sends_empty=True, fetch=no_answer, venue_now_us=lambda: None
    )
    trades = TradeManager("kraken", INSTRUMENTS, ledger, stores_candles=False, sequential_ids=True)
    return StreamRouter("kraken", trades, candles, counts_agree=True)


def stream_one_minute(made: StreamRouter, close: str) -> None:
    for symbol in INSTRUMENTS:
        made.on_subscribed(symbol, "trades", T0)
        made.on_subscribed(symbol, "candles", T0)
    made.on_trades("BTC/USD", [Trade(T0 + 5, "1", "10", "1", "buy")], False)
    made.on_candle("BTC/USD", Candle(T0, "10", "10", "10", close, "1", 1, "venue"), False, False)
    made.tick(T0 + 2 * MINUTE_US)


def test_rows_reach_the_store_and_equal_candles_are_no_difference() -> None:
    ledger = Ledger()
    made = router(ledger)
    stream_one_minute(made, close="10")
    assert [row.id for row in ledger.trades] == ["1"]
    assert [row.source for row in ledger.candles] == ["venue"]
    assert made.differences == 0


def test_a_venue_candle_that_its_trades_do_not_make_is_counted() -> None:
    made = router(Ledger())
    stream_one_minute(made, close="9")
    assert made.differences == 1


def test_markets_tell_what_each_collector_is_doing() -> None:
    made = router(Ledger())
    stream_one_minute(made, close="10")
    made.on_interrupted("ETH/USD", "trades", "cut")
    made.on_refused("ETH/USD", "candles", "no such pair")
    rows = made.markets()
    assert rows["BTC/USD"]["last_trade_us"] == T0 + 5
    assert rows["BTC/USD"]["last_candle_us"] == T0
    assert (rows["BTC/USD"]["trades_live"], rows["ETH/USD"]["trades_live"]) == (True, False)
    assert rows["ETH/USD"]["refused"] == "no such pair"


def test_one_service_alone_ignores_the_other_kind() -> None:
    ledger = Ledger()
    trades = TradeManager("kraken", INSTRUMENTS, ledger, stores_candles=True, sequential_ids=True)
    made = StreamRouter("kraken", trades, None, counts_agree=True)
    made.on_candle("BTC/USD", Candle(T0, "10", "10", "10", "10", "1", 1, "venue"), True, False)
    made.on_subscribed("BTC/USD", "candles", T0)
    made.tick(T0 + 2 * MINUTE_US)
    assert ledger.candles == []
    assert not made.is_live


def test_symbols_join_and_leave() -> None:
    ledger = Ledger()
    made = router(ledger)
    stream_one_minute(made, close="9")
    made.remove("BTC/USD")
    made.on_trades("BTC/USD", [Trade(T0 + 6, "2", "10", "1", "buy")], False)
    made.on_candle("BTC/USD", Candle(T0, "10", "10", "10", "10", "1", 1, "venue"), False, False)
    made.on_interrupted("BTC/USD", "trades", "cut")
    assert [row.id for row in ledger.trades] == ["1"]
    assert set(made.markets()) == {"ETH/USD"}
    assert made.live_from_us(INSTRUMENTS["BTC/USD"], "trades") is None
    assert made.differences == 1, "what was counted stays counted"
    made.add(INSTRUMENTS["BTC/USD"])
    made.on_subscribed("BTC/USD", "trades", T0 + MINUTE_US)
    made.on_trades("BTC/USD", [Trade(T0 + MINUTE_US + 6, "3", "10", "1", "buy")], False)
    assert [row.id for row in ledger.trades] == ["1", "3"]
    assert made.live_from_us(INSTRUMENTS["BTC/USD"], "trades") == T0 + MINUTE_US


class Failing(Ledger):
    """Refuses everything of one instrument, as a bug in its collector would."""

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        self.fail(instrument)
        super().add_trades(instrument, trades)

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        self.fail(instrument)
        super().cover(instrument, kind, lower_us, upper_us)

    def fail(self, instrument: Instrument) -> None:
        if instrument.symbol == "BTC/USD":
            raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("where", ["trade", "tick"])
def test_a_collector_that_raises_is_taken_out_and_the_others_go_on(where: str) -> None:
    ledger = Failing()
    made = router(ledger)
    failed: list[str] = []
    made.on_failed = failed.append
    for symbol in INSTRUMENTS:
        made.on_subscribed(symbol, "trades", T0)
    if where == "trade":
        made.on_trades("BTC/USD", [Trade(T0 + 5, "1", "10", "1", "buy")], False)
    made.on_trades("ETH/USD", [Trade(T0 + 5, "1", "10", "1", "buy")], False)
    made.tick(T0 + 2 * MINUTE_US)
    assert failed == ["BTC/USD"]
    assert ledger.covered == [("trades", T0, T0 + 2 * MINUTE_US - 10_000_000)]
    made.on_trades("BTC/USD", [Trade(T0 + 6, "2", "10", "1", "buy")], False)
    made.tick(T0 + 3 * MINUTE_US)
    assert failed == ["BTC/USD"]
    assert [row.id for row in ledger.trades] == ["1"]


def test_a_doubted_stream_takes_back_what_was_claimed_since_its_last_trade() -> None:
    ledger = Ledger()
    made = router(ledger)
    made.on_subscribed("BTC/USD", "trades", T0)
    made.on_trades("BTC/USD", [Trade(T0 + 5, "1", "10", "1", "buy")], False)
    made.tick(T0 + 2 * MINUTE_US)
    assert ledger.covered == [("trades", T0, T0 + 2 * MINUTE_US - 10_000_000)]
    made.on_doubted("BTC/USD", "trades", "no data")
    assert ledger.uncovered == [("trades", T0 + 5, T0 + 2 * MINUTE_US - 10_000_000)]
    assert made.live_from_us(INSTRUMENTS["BTC/USD"], "trades") is None
