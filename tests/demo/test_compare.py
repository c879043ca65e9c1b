"""The demo's verdict must be able to say no."""

import pytest

from ohlcvd.demo.compare import Comparison
from ohlcvd.market import Candle, Trade

SENT = [Trade(1_000_000 + n, str(n), "1.50", "2", "buy") for n in range(5)]
CANDLE = Candle(60_000_000, "1", "2", "1", "2", "3.0", 4, "venue")


def compared(stored: list[Trade], known: list[Trade] | None = None) -> Comparison:
    comparison = Comparison()
    comparison.add_trades("kraken BTC/USD", SENT, stored, known or [])
    return comparison


def test_everything_stored_once_holds() -> None:
    comparison = compared([trade._replace(price="1.5") for trade in SENT])
    assert comparison.holds
    assert comparison.summary() == "sent 5, stored 5, lost 0, duplicated 0"


def test_a_missing_row_is_lost_and_named() -> None:
    comparison = compared(SENT[1:])
    assert comparison.summary() == "sent 5, stored 4, lost 1, duplicated 0"
    assert "kraken BTC/USD trade 0" in comparison.faults[0]


@pytest.mark.parametrize("change", [{"price": "1.51"}, {"amount": "3"}, {"side": "sell"}, {"ts_us": 7}])
def test_any_altered_value_is_named(change: dict[str, str]) -> None:
    comparison = compared([SENT[0]._replace(**change), *SENT[1:]])  # type: ignore[arg-type]
    assert not comparison.holds
    assert comparison.lost == 1


def test_a_second_row_is_a_duplicate() -> None:
    comparison = compared([*SENT, SENT[2]])
    assert comparison.summary() == "sent 5, stored 5, lost 0, duplicated 1"
    assert not comparison.holds


def test_a_row_that_the_exchange_never_had_is_named() -> None:
    stranger = SENT[0]._replace(id="999")
    assert not compared([*SENT, stranger]).holds
    assert compared([*SENT, stranger], known=[stranger]).holds


def test_candles_must_be_there_and_right() -> None:
    comparison = Comparison()
    comparison.add_candles("m", [60_000_000], {60_000_000: CANDLE}, [CANDLE._replace(volume="3")])
    assert comparison.holds
    comparison.add_candles("m", [60_000_000], {60_000_000: CANDLE}, [])
    comparison.add_candles("m", [], {60_000_000: CANDLE}, [CANDLE._replace(close="1")])
    assert (comparison.candles, comparison.candles_equal, len(comparison.faults)) == (3, 1, 2)
