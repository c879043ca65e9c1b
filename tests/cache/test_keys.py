"""The forms of what is kept in Redis, which other programs read."""

import json

import pytest

from ohlcvd.cache import keys
from ohlcvd.market import MINUTE_US
from tests.cache.samples import BTC, ETH, NOW_US, Commit, candle, trade


def entries(commit: Commit, now_us: int = NOW_US) -> list[keys.Command]:
    return list(keys.stream_entries(commit, now_us))


def trade_row(number: int) -> str:
    return f'["{number}",1763798400000000,"86000.10","0.00010000","buy"]'


def test_a_commit_becomes_one_entry_per_market_and_kind_in_the_documented_form() -> None:
    commit = Commit({BTC: [trade(7), trade(8)], ETH: [trade(1)]}, {BTC: [candle(0)]})
    candle_rows = '[[1763798400000000,"1.10","1.30","1.00","1.20","12.500",null,"venue"]]'
    assert entries(commit) == [
        ("XADD", "ohlcvd:trades:kraken:BTC/USD", "MAXLEN", "~", 1000, "*", "rows", f"[{trade_row(7)},{trade_row(8)}]"),
        ("XADD", "ohlcvd:trades:kraken:ETH/USD", "MAXLEN", "~", 1000, "*", "rows", f"[{trade_row(1)}]"),
        ("XADD", "ohlcvd:candles:kraken:BTC/USD", "MAXLEN", "~", 1500, "*", "rows", candle_rows),
    ]


def test_entries_are_read_back_as_they_were() -> None:
    commit = Commit({BTC: [trade(n) for n in range(3)]}, {BTC: [candle(0), candle(1)]})
    trades, candles = (str(command[-1]) for command in entries(commit))
    assert keys.parse_trades(trades) == commit.trades[BTC]
    assert keys.parse_candles(candles) == commit.candles[BTC]


@pytest.mark.parametrize("text", ["", "{}", "7", '["x"]', "[[1]]", "[null]"])
def test_foreign_entries_are_refused(text: str) -> None:
    for parse in (keys.parse_trades, keys.parse_candles):
        with pytest.raises((ValueError, TypeError)):
            parse(text)


def test_a_large_commit_becomes_several_entries_in_order() -> None:
    commit = Commit({BTC: [trade(n) for n in range(2 * keys.ENTRY_ROWS + 1)]})
    parts = [keys.parse_trades(str(command[-1])) for command in entries(commit)]
    assert [len(part) for part in parts] == [500, 500, 1]
    assert [row for part in parts for row in part] == commit.trades[BTC]


def test_history_is_not_published() -> None:
    hour, day = 3_600_000_000, 86_400_000_000
    commit = Commit(
        {BTC: [trade(1, NOW_US - hour - 1), trade(2, NOW_US - hour)], ETH: [trade(3, NOW_US - 2 * hour)]},
        {BTC: [candle(-1441), candle(-1440)], ETH: [candle(-2000)]},
    )
    assert [(command[1], len(json.loads(str(command[-1])))) for command in entries(commit)] == [
        ("ohlcvd:trades:kraken:BTC/USD", 1),
        ("ohlcvd:candles:kraken:BTC/USD", 1),
    ]
    assert hour == keys.TRADE_WINDOW_US
    assert day == keys.CANDLE_WINDOW_US


def test_the_newest_venue_time_comes_from_rows_and_from_coverage() -> None:
    assert keys.newest_us(Commit()) == 0
    assert keys.newest_us(Commit({BTC: [trade(1, 5), trade(2, 9), trade(3, 7)], ETH: []})) == 9
    assert keys.newest_us(Commit(candles={BTC: [candle(0)]})) == NOW_US + MINUTE_US
    assert keys.newest_us(Commit({BTC: [trade(1, 5)]}, covered={(BTC, "trades"): [(1, 3), (4, 11)]})) == 11


def test_names_of_children_and_keys() -> None:
    assert keys.exchange_of("kraken") == "kraken"
    assert keys.exchange_of("binance/2") == "binance"
    assert keys.forming_key("binance", "BTC/USDT:USDT") == "ohlcvd:candle:binance:BTC/USDT:USDT"


def test_a_document_with_something_json_does_not_know_is_written_all_the_same() -> None:
    assert keys.compact({"since": {1}, "text": "é"}) == '{"since":"{1}","text":"\\u00e9"}'
