"""REST: each venue's paging leads to exactly what happened, and its limits and refusals are its own."""

import re
import time
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from ohlcvd.market import MINUTE_US, Trade, minute_of, plain_digits
from ohlcvd.simulator.kraken_rest import seconds_text
from ohlcvd.simulator.market import MarketSettings
from ohlcvd.simulator.server import Simulator, SimulatorSettings
from tests.simulator.clients import control, eventually, get, get_raw, post


def kraken_url(simulator: Simulator, name: str) -> str:
    return f"{simulator.rest_url('kraken')}/0/public/{name}"


def binance_url(simulator: Simulator, name: str) -> str:
    return f"{simulator.rest_url('binance')}/api/v3/{name}"


def of_kraken(row: list[Any]) -> Trade:
    side = {"b": "buy", "s": "sell"}[row[3]]
    return Trade(int(Decimal(row[2]) * 10**6), str(row[6]), short(row[0]), row[1], side)  # type: ignore[arg-type]


def of_binance(row: dict[str, Any]) -> Trade:
    return Trade(row["T"] * 1000, str(row["a"]), short(row["p"]), row["q"], "sell" if row["m"] else "buy")


def short(price: str) -> str:
    """Without zeros at the end: Kraken's REST shows more of them than its WebSocket."""
    return f"{Decimal(price).normalize():f}"


def plain(trades: list[Trade]) -> list[Trade]:
    return [trade._replace(price=short(trade.price)) for trade in trades]


async def frozen(simulator: Simulator) -> int:
    """Ends the market, so that it can be compared at leisure; the moment of its end."""
    end_us, complete = await simulator.freeze()
    assert complete
    return end_us


@pytest.mark.parametrize("symbol", ["BTC/USD", "DOGE/USD"])
async def test_krakens_cursor_leads_through_the_whole_history(symbol: str, simulator: Simulator) -> None:
    end_us = await frozen(simulator)
    venue = simulator.venue("kraken")
    url, market_id = kraken_url(simulator, "Trades"), venue.listings[symbol].id
    since, found, pages = str((end_us - 120_000_000) * 1000), [], 0
    while True:
        result = (await get(url, pair=market_id, since=since))["result"]
        rows = result[market_id]
        assert len(rows) <= 1000
        if not rows:
            assert result["last"] == since
            break
        found += [of_kraken(row) for row in rows]
        since, pages = result["last"], pages + 1
    assert found == plain(venue.true_trades(symbol, end_us - 120_000_000, end_us + 1))
    assert pages > 3 or symbol == "DOGE/USD"


async def test_krakens_cursor_parts_the_trades_of_one_moment(simulator: Simulator) -> None:
    """A page of any size may end inside a cluster: what follows the cursor is what was not there yet."""
    end_us = await frozen(simulator)
    venue = simulator.venue("kraken")
    truth = plain(venue.true_trades("BTC/USD", end_us - 60_000_000, end_us))
    assert any(one.ts_us == two.ts_us for one, two in pairwise(truth))
    since, found = str((end_us - 60_000_000) * 1000 - 1), list[Trade]()
    while len(found) < min(60, len(truth)):
        result = (await get(kraken_url(simulator, "Trades"), pair="XBTUSD", since=since, count=3))["result"]
        found += [of_kraken(row) for row in result["XXBTZUSD"]]
        since = result["last"]
    assert found == truth[: len(found)]


async def test_kraken_takes_seconds_too_and_gives_the_latest_without_a_cursor(simulator: Simulator) -> None:
    end_us = await frozen(simulator)
    venue, url = simulator.venue("kraken"), kraken_url(simulator, "Trades")
    latest = (await get(url, pair="XBT/USD", count=20))["result"]["XXBTZUSD"]
    assert [of_kraken(row) for row in latest] == plain(venue.true_trades("BTC/USD", end_us - 30_000_000, end_us))[-20:]
    since_s = end_us // 1_000_000 - 5
    rows = (await get(url, pair="XXBTZUSD", since=since_s))["result"]["XXBTZUSD"]
    assert [of_kraken(row) for row in rows] == plain(venue.true_trades("BTC/USD", since_s * 1_000_000 + 1, end_us))


async def test_krakens_time_text_and_prices_have_the_venues_form(simulator: Simulator) -> None:
    assert seconds_text(1_762_802_628_052_411_600) == "1762802628.0524116"
    assert seconds_text(1_762_802_628_000_000_000) == "1762802628.0000"
    _, text, _ = await get_raw(kraken_url(simulator, "Trades"), pair="XXBTZUSD", count=1)
    assert re.search(r'\[\["[0-9]+\.[0-9]0000","0\.[0-9]{8}",[0-9]+\.[0-9]{4,7},"[bs]","[ml]","",[0-9]+\]\]', text), (
        text
    )


async def test_kraken_gives_720_candles_whatever_since(simulator: Simulator) -> None:
    url = kraken_url(simulator, "OHLC")
    result = (await get(url, pair="XBTUSD", interval=1, since=0))["result"]
    assert len(result["XXBTZUSD"]) == min(720, 2 * 60 + 1), "history is 2 h here"
    assert all(two[0] - one[0] == 60 for one, two in pairwise(result["XXBTZUSD"]))
    newest = result["XXBTZUSD"][-1][0]
    assert newest * 1_000_000 in (minute_of(time.time_ns() // 1000), minute_of(time.time_ns() // 1000) - MINUTE_US)
    assert result["last"] == newest - 60
    later = (await get(url, pair="XBTUSD", interval=1, since=newest - 300))["result"]["XXBTZUSD"]
    assert later[0][0] == newest - 240


async def test_720_candles_even_where_there_are_more() -> None:
    async with Simulator(SimulatorSettings(MarketSettings(rate=5, symbols=5, history_s=86_400))) as simulator:
        result = (await get(kraken_url(simulator, "OHLC"), pair="DOGEUSD"))["error"]
        assert result == ["EQuery:Unknown asset pair"], "Kraken calls it XDG"
        rows = (await get(kraken_url(simulator, "OHLC"), pair="XDGUSD"))["result"]["XDGUSD"]
        assert len(rows) == 720
        empty = [(before, row) for before, row in pairwise(rows) if row[7] == 0]
        assert len(empty) > 300, "a quiet market"
        assert all(row[1:5] == [before[4]] * 4 and row[5:] == ["0.0", "0.00000000", 0] for before, row in empty)


async def test_krakens_candles_are_the_trades(simulator: Simulator) -> None:
    end_us = await frozen(simulator)
    truth = simulator.venue("kraken").true_candles("ETH/USD", end_us - 20 * MINUTE_US, end_us)
    rows = (await get(kraken_url(simulator, "OHLC"), pair="ETHUSD"))["result"]["XETHZUSD"]
    stated = {row[0] * 1_000_000: (*row[1:5], row[6], row[7]) for row in rows}
    assert len(truth) >= 19
    assert [stated[candle.ts_us] for candle in truth] == [candle[1:7] for candle in truth]


@pytest.mark.parametrize(
    ("name", "query", "error"),
    [
        ("Trades", {"pair": "NOPE"}, "EQuery:Unknown asset pair"),
        ("OHLC", {"pair": ""}, "EQuery:Unknown asset pair"),
        ("AssetPairs", {"pair": "NOPE"}, "EQuery:Unknown asset pair"),
        ("OHLC", {"pair": "XBTUSD", "interval": 7}, "EGeneral:Invalid arguments:interval"),
        ("Trades", {"pair": "XBTUSD", "count": 1001}, "EGeneral:Invalid arguments:count"),
        ("Trades", {"pair": "XBTUSD", "since": "yesterday"}, "EGeneral:Invalid arguments:since"),
        ("Trades", {"pair": "XBTUSD", "since": "NaN"}, "EGeneral:Invalid arguments:since"),
    ],
)
async def test_krakens_refusals(name: str, query: dict[str, object], error: str, simulator: Simulator) -> None:
    assert await get(kraken_url(simulator, name), **query) == {"error": [error]}


async def test_both_venues_tell_their_time(simulator: Simulator) -> None:
    kraken = (await get(kraken_url(simulator, "Time")))["result"]["unixtime"]
    assert abs(kraken - time.time()) < 5
    assert (await get(kraken_url(simulator, "SystemStatus")))["result"]["status"] == "online"
    assert abs((await get(binance_url(simulator, "time")))["serverTime"] / 1000 - time.time()) < 5
    assert await get(binance_url(simulator, "ping")) == {}


@pytest.mark.parametrize("symbol", ["BTC/USDT", "DOGE/USDT"])
async def test_binances_ids_lead_through_the_whole_history(symbol: str, simulator: Simulator) -> None:
    end_us = await frozen(simulator)
    venue = simulator.venue("binance")
    span_us = 120_000_000 if symbol == "BTC/USDT" else 3_600_000_000
    truth = plain(venue.true_trades(symbol, end_us - span_us, end_us))
    next_id, found = truth[0].id, []
    while True:
        rows = await get(
            binance_url(simulator, "aggTrades"), symbol=venue.listings[symbol].id, fromId=next_id, limit=1000
        )
        assert len(rows) <= 1000
        if not rows:
            break
        found += [of_binance(row) for row in rows]
        next_id = str(rows[-1]["a"] + 1)
    assert found == truth


async def test_binances_times_are_inclusive(simulator: Simulator) -> None:
    end_us = await frozen(simulator)
    venue, url = simulator.venue("binance"), binance_url(simulator, "aggTrades")
    truth = plain(venue.true_trades("BTC/USDT", end_us - 60_000_000, end_us))
    first, last = truth[10].ts_us // 1000, truth[60].ts_us // 1000
    rows = await get(url, symbol="BTCUSDT", startTime=first, endTime=last, limit=1000)
    assert [of_binance(row) for row in rows] == [one for one in truth if first <= one.ts_us // 1000 <= last]
    rows = await get(url, symbol="BTCUSDT", startTime=first, endTime=last, limit=7)
    assert [of_binance(row) for row in rows] == [one for one in truth if first <= one.ts_us // 1000][:7]
    assert [of_binance(row) for row in await get(url, symbol="BTCUSDT", endTime=last, limit=7)] == [
        one for one in truth if one.ts_us // 1000 <= last
    ][-7:]
    assert [of_binance(row) for row in await get(url, symbol="BTCUSDT")] == plain(
        venue.true_trades("BTC/USDT", end_us - 60_000_000, end_us)
    )[-500:]


async def test_history_begins_where_it_was_told_to(simulator: Simulator) -> None:
    venue = simulator.venue("binance")
    (row,) = await get(binance_url(simulator, "aggTrades"), symbol="BTCUSDT", fromId=0, limit=1)
    assert 0 <= row["T"] * 1000 - venue.start_us < 10_000_000
    (kline,) = await get(binance_url(simulator, "klines"), symbol="BTCUSDT", interval="1m", startTime=0, limit=1)
    assert kline[0] * 1000 == venue.start_us
    rows = (await get(kraken_url(simulator, "Trades"), pair="XBTUSD", since=0, count=1))["result"]["XXBTZUSD"]
    assert 0 <= of_kraken(rows[0]).ts_us - venue.start_us < 10_000_000


async def test_binances_klines_page_by_time_and_fill_empty_minutes(simulator: Simulator) -> None:
    end_us = await frozen(simulator)
    venue, url = simulator.venue("binance"), binance_url(simulator, "klines")
    for symbol in ("BTC/USDT", "DOGE/USDT"):
        since, rows = venue.start_us // 1000, []
        while page := await get(url, symbol=venue.listings[symbol].id, interval="1m", startTime=since, limit=100):
            rows += page
            since = page[-1][0] + 1
        assert all(two[0] - one[0] == 60_000 and one[6] == one[0] + 59_999 for one, two in pairwise(rows))
        truth = {candle.ts_us: candle for candle in venue.true_candles(symbol, 0, end_us)}
        closed = [row for row in rows if (row[0] + 60_000) * 1000 <= end_us]
        assert {row[0] * 1000 for row in closed if row[8]} == truth.keys()
        assert all(truth[row[0] * 1000][1:7] == (*row[1:6], row[8]) for row in closed if row[8])
        assert all(len(set(row[1:5])) == 1 and row[5] == "0.00000000" for row in closed if not row[8])
    latest = await get(url, symbol="BTCUSDT", interval="1m", limit=2000)
    assert len(latest) == (end_us - 1) // 60_000_000 - venue.start_us // 60_000_000 + 1
    bounded = await get(url, symbol="BTCUSDT", interval="1m", endTime=latest[100][0] + 59_999, limit=10)
    assert [row[0] for row in bounded] == [row[0] for row in latest[91:101]]


async def test_binances_raw_trades_are_the_parts_of_the_aggregates(simulator: Simulator) -> None:
    await frozen(simulator)
    aggregates = await get(binance_url(simulator, "aggTrades"), symbol="BTCUSDT", limit=100)
    first, last = aggregates[0]["f"], aggregates[-1]["l"]
    raw = await get(binance_url(simulator, "historicalTrades"), symbol="BTCUSDT", fromId=first, limit=1000)
    raw = [row for row in raw if row["id"] <= last]
    assert [row["id"] for row in raw] == list(range(first, last + 1))
    for one in aggregates:
        parts = [row for row in raw if one["f"] <= row["id"] <= one["l"]]
        assert sum(Decimal(row["qty"]) for row in parts) == Decimal(one["q"])
        assert {(row["price"], row["time"], row["isBuyerMaker"]) for row in parts} == {(one["p"], one["T"], one["m"])}
    recent = await get(binance_url(simulator, "trades"), symbol="BTCUSDT", limit=5)
    assert [row["id"] for row in recent] == list(range(last - 4, last + 1))
    assert await get(binance_url(simulator, "historicalTrades"), symbol="BTCUSDT", fromId=last + 1) == []


@pytest.mark.parametrize(
    ("name", "query", "code"),
    [
        ("aggTrades", {"symbol": "NOPE"}, -1121),
        ("klines", {"interval": "1m"}, -1121),
        ("exchangeInfo", {"symbol": "NOPE"}, -1121),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": 5, "startTime": 5}, -1128),
        ("aggTrades", {"symbol": "BTCUSDT", "limit": 0}, -1130),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": "x"}, -1100),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": -1}, -1100),
    ],
)
async def test_binances_refusals(name: str, query: dict[str, object], code: int, simulator: Simulator) -> None:
    status, text, _ = await get_raw(binance_url(simulator, name), **query)
    assert status == 400
    assert f'"code": {code}' in text


async def test_withheld_trades_are_nowhere(simulator: Simulator) -> None:
    await post(control(simulator, "fault"), {"fault": "withhold", "symbol": "BTC/USDT", "value": 4})
    for name in ("kraken", "binance"):
        ((start, end),) = simulator.venue(name).faults.withheld["BTC/USDT"]
        await eventually(lambda: simulator.venue(name).visible("BTC/USDT") > end)  # noqa: B023
        if name == "kraken":
            rows = (await get(kraken_url(simulator, "Trades"), pair="XBTUSDT"))["result"]["XBTUSDT"]
            ids = [row[6] for row in rows]
        else:
            ids = [
                row["a"] for row in await get(binance_url(simulator, "aggTrades"), symbol="BTCUSDT", fromId=start - 50)
            ]
        assert set(range(start - 20, start)) < set(ids)
        assert not set(range(start, end)) & set(ids)
        assert max(ids) >= end


def test_plain_digits_accepts_every_price(simulator: Simulator) -> None:
    venue = simulator.venue("kraken")
    end_us = venue.clock.now_ns() // 1000
    for symbol in venue.listings:
        for trade in venue.true_trades(symbol, end_us - 60_000_000, end_us):
            assert (plain_digits(trade.price), plain_digits(trade.amount)) == (trade.price, trade.amount)
