"""The venues' parsers: recorded frames give exactly the recorded trades and candles, wrong ones are told."""

import gzip
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ohlcvd.errors import MalformedAnswer
from ohlcvd.exchange.exact import Unread, decode
from ohlcvd.exchange.history import checked_candles
from ohlcvd.exchange.registry import FAST_VENUES
from ohlcvd.exchange.venue import Ack, BadRow, CandleRow, Event, FastVenue, Gathered, Pong, Pulse, Refusal, TradeRows
from ohlcvd.exchange.venues.binance import Binance
from ohlcvd.exchange.venues.kraken import Kraken
from ohlcvd.market import Candle, Trade, candle_fault, trade_fault
from tests.exchange.support import real_data, recorded_frames, recorded_rows, recorded_trades

KRAKEN, BINANCE = Kraken(), Binance()
FUTURE_US = 4_000_000_000_000_000
# Each would be a live trade but for one thing.
_BINANCE_TRADE = (
    '{"stream":"xrpeth@aggTrade","data":{"e":"aggTrade","E":1,"s":"XRPETH","a":7,"p":"1.5","q":"2","T":2,"m":true}}'
)
_KRAKEN_TRADE = (
    '{"channel":"trade","type":"update","data":[{"symbol":"A/B","side":"buy","price":1.5,"qty":2,"trade_id":7,'
    '"timestamp":"2025-11-10T17:23:53.971744Z"},{"symbol":"A/B","side":"buy","price":1.5,"qty":2,"trade_id":8,'
    '"timestamp":"2025-11-10T17:23:53.971744Z"}]}'
)
ODD_TRADES = {
    "binance": [
        _BINANCE_TRADE.replace(before, after)
        for before, after in (
            ('"p":"1.5"', '"p":1.5'), ('"p":"1.5"', '"p":"15e-1"'), ('"q":"2"', '"q":"2E0"'), ('"a":7', '"a":"7"'),
            ('"a":7', '"a":-7'), ('"a":7', '"a":true'), ('"T":2', '"T":2.5'), ('"E":1,', ""), ('"m":true', '"m":1'),
            ('"s":"XRPETH"', '"s":null'), ('"data"', '"date"'), ('"e":"aggTrade"', '"e":"trade"'), ("}}", "}"),
        )
    ],
    "kraken": [
        _KRAKEN_TRADE.replace(before, after, 1)
        for before, after in (
            ('"price":1.5', '"price":-1.5'), ('"qty":2', '"qty":null'), ('"trade_id":7', '"trade_id":"7"'),
            ('"trade_id":7', '"trade_id":7.0'), ('"A/B"', '"C/B"'), ('"A/B"', "{}"), ("53.971744Z", "53.971744"),
            ("update", "snapshot"), ('"data"', '"date"'), ("}]}", "}]"), ("[{", "[[{"), ("[", "[" * 100_000),
        )
    ],
}  # fmt: skip


def parsed(venue: FastVenue, frame: Any) -> Sequence[Event]:
    events = venue.parse(frame if isinstance(frame, str) else json.dumps(frame))
    assert events is not None
    return events


# recordings


@pytest.mark.parametrize(
    ("name", "folder", "wire", "count"),
    [("kraken", "kraken_xbtusdt", "BTC/USDT", 546), ("binance", "binance_xrpeth", "XRPETH", 7913)],
)
def test_recorded_frames_give_exactly_the_recorded_trades(name: str, folder: str, wire: str, count: int) -> None:
    data = real_data() / folder
    trades: list[Trade] = []
    for frame in recorded_frames(data):
        for event in parsed(FAST_VENUES[name][0], frame["raw"]):
            assert isinstance(event, TradeRows | CandleRow)
            assert event.wire == wire
            if isinstance(event, TradeRows):
                trades += event.trades
    assert trades == recorded_trades(data)
    assert len(trades) == count
    assert not any(trade_fault(trade, FUTURE_US) for trade in trades)


@pytest.mark.parametrize(
    ("name", "folder", "file"),
    [
        ("binance", "binance_xrpeth", "ws_derived.jsonl.gz"),
        ("binance", "binance_futures", "ws.jsonl.gz"),
        ("kraken", "kraken_xbtusdt", "ws_derived.jsonl.gz"),
    ],
)
def test_frames_gathered_together_are_read_as_one_by_one(name: str, folder: str, file: str) -> None:
    venue = FAST_VENUES[name][0]
    frames = recorded_frames(real_data() / folder, file)
    texts = [frame["raw"] for frame in frames if frame.get("dir", "in") == "in"]
    texts += [*ODD_TRADES[name], texts[-1]]
    alone, careful = Gathered(), list[str]()
    for text in texts:
        events = () if text in ODD_TRADES[name] else venue.parse(text) or ()
        for event in events:
            if isinstance(event, TradeRows):
                alone.add(event)
        if not any(isinstance(event, TradeRows) for event in events):
            careful.append(text)
    together, left, taken = Gathered(), list[str](), Gathered()
    for number, text in enumerate(venue.gather(texts, together)):
        left.append(text)
        if number % 2:  # whoever is told of the others delivers what was gathered before them
            trades, venue_us = together.take()
            for wire, own in trades.items():
                taken.add(TradeRows(wire, own, False, venue_us))
    for wire, own in together.take()[0].items():
        taken.add(TradeRows(wire, own, False))
    assert left == careful
    assert taken.trades == alone.trades
    assert together.venue_us == alone.venue_us


def test_recorded_kraken_candles_end_as_the_venue_says() -> None:
    data = real_data() / "kraken_xbtusdt"
    last: dict[int, Candle] = {}
    for frame in recorded_frames(data):
        for event in parsed(KRAKEN, frame["raw"]):
            if isinstance(event, CandleRow):
                assert not event.closed
                last[event.candle.ts_us] = event.candle
    truth = {int(row["open_ts_ms"]) * 1000: row for row in recorded_rows(data / "candles_1m_venue.csv")}
    assert len(last) == 163
    for ts_us, candle in last.items():
        row = truth[ts_us]
        assert candle.trades == int(row["trades"])
        for field in ("open", "high", "low", "close", "volume"):
            assert Decimal(getattr(candle, field)) == Decimal(row[field])


def test_recorded_kraken_history_equals_the_recorded_rows() -> None:
    data = real_data() / "kraken_xbtusdt"
    answer = decode(gzip.decompress((data / "rest/0_public_Trades_pair=XBTUSDT.json.gz").read_bytes()).decode())
    page = KRAKEN.parse_trades(answer, 1000)
    assert page.trades == recorded_trades(data)
    assert page.next_cursor is None
    full = KRAKEN.parse_trades(answer, len(page.trades))
    assert full.next_cursor == str(int(answer["result"]["last"]) - 1)
    answer = decode(
        gzip.decompress((data / "rest/0_public_OHLC_pair=XBTUSDT_interval=1.json.gz").read_bytes()).decode()
    )
    rows = recorded_rows(data / "candles_1m_venue.csv")
    candles = KRAKEN.parse_candles(answer)
    assert [
        [candle.ts_us, candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades]
        for candle in candles
    ] == [
        [int(row["open_ts_ms"]) * 1000, row["open"], row["high"], row["low"], row["close"], row["volume"],
         int(row["trades"])]
        for row in rows
    ]  # fmt: skip
    assert not any(candle_fault(candle, FUTURE_US) for candle in candles)


def test_recorded_binance_history_equals_the_recorded_trades() -> None:
    data = real_data() / "binance_xrpeth"
    lines = gzip.decompress((data / "rest/api_v3_aggTrades_symbol=XRPETH.jsonl.gz").read_bytes()).decode().splitlines()
    rows = [row for line in lines for row in ([decode(line)] if line.startswith("{") else decode(line))]
    page = BINANCE.parse_trades(rows, 1000)
    assert page.trades == recorded_trades(data)
    assert page.next_cursor == "13527720"


def test_recorded_binance_klines() -> None:
    rows = [
        event
        for frame in recorded_frames(real_data() / "binance", "ws.jsonl.gz")
        if frame["dir"] == "in"
        for event in BINANCE.parse(frame["raw"]) or ()
        if isinstance(event, CandleRow)
    ]
    truth = recorded_rows(real_data() / "binance" / "candles_1m_venue.csv")
    last = {(row.wire, row.candle.ts_us): row.candle for row in rows}
    assert len(last) == len(truth) == 2
    for row in truth:
        candle = last[row["symbol"], int(row["open_ts_ms"]) * 1000]
        assert (candle.open, candle.high, candle.low, candle.close, candle.volume) == (
            row["open"], row["high"], row["low"], row["close"], row["volume"]
        )  # fmt: skip


# kraken


def kraken_trade(**fields: Any) -> dict[str, Any]:
    row = {"symbol": "BTC/USD", "side": "buy", "price": 5, "qty": "1e-8", "ord_type": "limit", "trade_id": 7,
           "timestamp": "2025-11-10T17:23:53.971744Z"}  # fmt: skip
    return {name: value for name, value in {**row, **fields}.items() if value != "gone"}


def kraken_frame(*rows: Any, kind: str = "update") -> dict[str, Any]:
    return {"channel": "trade", "type": kind, "data": list(rows)}


def test_kraken_frame_with_several_pairs_keeps_each_pairs_order() -> None:
    frame = kraken_frame(
        kraken_trade(trade_id=1), kraken_trade(trade_id=2), kraken_trade(symbol="ETH/USD", trade_id=9),
        kraken_trade(trade_id=3), kind="snapshot",
    )  # fmt: skip
    events = parsed(KRAKEN, frame)
    assert all(isinstance(event, TradeRows) and event.snapshot for event in events)
    assert [(event.wire, [trade.id for trade in event.trades]) for event in events if isinstance(event, TradeRows)] == [
        ("BTC/USD", ["1", "2"]), ("ETH/USD", ["9"]), ("BTC/USD", ["3"])
    ]  # fmt: skip
    assert events[0] == TradeRows(
        "BTC/USD",
        [Trade(1762795433971744, number, "5", "0.00000001", "buy") for number in ("1", "2")],
        True,
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (kraken_trade(price="gone"), "field 'price' is missing"),
        (kraken_trade(trade_id="gone"), "field 'trade_id' is missing"),
        (kraken_trade(price=None), "not a decimal number: None"),
        (kraken_trade(qty=-1), "not a decimal number: '-1'"),
        (kraken_trade(trade_id="x"), "not a whole number: 'x'"),
        (kraken_trade(timestamp="soon"), "Invalid isoformat string: 'soon'"),
    ],
)
def test_kraken_bad_row_is_told_and_its_neighbours_are_delivered(row: dict[str, Any], reason: str) -> None:
    good, bad, rest = parsed(KRAKEN, kraken_frame(kraken_trade(trade_id=1), row, kraken_trade(symbol="X/Y")))
    assert isinstance(good, TradeRows)
    assert isinstance(rest, TradeRows)
    assert isinstance(bad, BadRow)
    assert (bad.wire, bad.kind, bad.reason) == ("BTC/USD", "trades", reason)


def test_kraken_row_that_is_no_object_is_told() -> None:
    (bad,) = parsed(KRAKEN, kraken_frame([1, 2]))
    assert isinstance(bad, BadRow)
    assert bad.wire is None


@pytest.mark.parametrize("text", ["", "null", "[1]", '{"channel":"trade"', "<html>", '{"channel":"trade"}', '"x"'])
def test_what_is_no_frame_raises(text: str) -> None:
    for venue in (KRAKEN, BINANCE):
        try:
            assert venue.parse(text) is None
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        assert venue is BINANCE


def test_kraken_answers() -> None:
    accepted = {"method": "subscribe", "req_id": 4, "success": True, "time_in": "2025-11-10T17:23:53.1Z",
                "time_out": "2025-11-10T17:23:53.2Z",
                "result": {"channel": "ohlc", "symbol": "BTC/USD", "interval": 1}}  # fmt: skip
    refused = {"method": "subscribe", "req_id": 4, "success": False, "error": "Currency pair not supported A/B",
               "time_in": "2025-11-10T17:23:53.1Z"}  # fmt: skip
    assert parsed(KRAKEN, accepted) == (Ack(4, "BTC/USD", "candles", 1762795433200000),)
    assert parsed(KRAKEN, refused | {"symbol": "A/B"}) == parsed(KRAKEN, refused)
    assert parsed(KRAKEN, refused) == (Refusal(4, "A/B", None, "Currency pair not supported A/B"),)
    again = refused | {"error": "Already subscribed to A/B", "symbol": "A/B"}
    assert parsed(KRAKEN, again) == (Ack(4, "A/B", None, 1762795433100000),)
    assert parsed(KRAKEN, {"channel": "heartbeat"}) == (Pulse(),)
    assert parsed(KRAKEN, {"method": "pong", "req_id": 1, "time_out": "2025-11-10T17:23:53.2Z"}) == (
        Pong(1, 1762795433200000),
    )
    assert KRAKEN.parse('{"channel":"status","type":"update","data":[]}') is None


def test_kraken_names_of_markets() -> None:
    assert KRAKEN.wire_symbol({"symbol": "BTC/USD", "info": {"wsname": "XBT/USD"}}) == "BTC/USD"
    assert KRAKEN.wire_symbol({"symbol": "DOGE/BTC", "info": {"wsname": "XDG/XBT"}}) == "DOGE/BTC"
    assert KRAKEN.wire_symbol({"symbol": "LUNC/USD", "info": {"wsname": "LUNA/USD"}}) == "LUNA/USD"
    assert KRAKEN.wire_symbol({"symbol": "A/B", "info": {}}) == "A/B"


def test_kraken_history_questions_and_cursors() -> None:
    assert KRAKEN.candles_request("XXBTZUSD", 120_000_000, None).params == {
        "pair": "XXBTZUSD", "interval": 1, "since": 60
    }  # fmt: skip
    assert KRAKEN.trades_request("P", None, 1_000_000, 10).params == {"pair": "P", "count": 10, "since": "999999999"}
    assert KRAKEN.trades_request("P", "77", 1_000_000, None).params == {"pair": "P", "count": 1000, "since": "77"}
    rows = [["5", "1", "1762795433.9717445", "b", "l", "", number] for number in (1001, 999, 1000)]
    page = KRAKEN.parse_trades({"error": [], "result": {"P": rows, "last": "1762795433971744500"}}, 3)
    assert [trade.id for trade in page.trades] == ["999", "1000", "1001"]
    # A page of one single moment: stepping back would ask for the same page for ever.
    assert page.next_cursor == "1762795433971744500"
    answer: Any
    for answer in ({"result": {}}, {"result": {"P": "x", "last": "1"}}, {"result": {"P": []}}):
        with pytest.raises(ValueError, match="no list of rows"):
            KRAKEN.parse_trades(answer, 3)


# binance


def agg_trade(**fields: Any) -> dict[str, Any]:
    return {"e": "aggTrade", "E": 1570752011622, "s": "XRPETH", "a": 5, "p": "0.10", "q": "23.0", "f": 1, "l": 1,
            "T": 1570752011620, "m": True, **fields}  # fmt: skip


def kline(**fields: Any) -> dict[str, Any]:
    minute = {"t": 1570752000000, "T": 1570752059999, "s": "XRPETH", "i": "1m", "o": "1", "h": "2", "l": "0.5",
              "c": "1.5", "v": "7.0", "n": 3, "x": True, **fields}  # fmt: skip
    return {"e": "kline", "E": 1570752060001, "s": "XRPETH", "k": minute}


def test_binance_bare_and_combined_frames_are_the_same() -> None:
    for frame in (agg_trade(), kline(), {"result": None, "id": 3}):
        assert parsed(BINANCE, frame) == parsed(BINANCE, {"stream": "s", "data": frame})


def test_binance_rows() -> None:
    assert parsed(BINANCE, agg_trade()) == (
        TradeRows("XRPETH", [Trade(1570752011620000, "5", "0.10", "23.0", "sell")], False, 1570752011622000),
    )
    candle = Candle(1570752000000000, "1", "2", "0.5", "1.5", "7.0", 3, "venue")
    assert parsed(BINANCE, kline()) == (CandleRow("XRPETH", candle, True, False, 1570752060001000),)
    assert parsed(BINANCE, kline(x=False)) == (CandleRow("XRPETH", candle, False, False, 1570752060001000),)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (agg_trade(m="true"), "m is 'true', not true or false"),
        (agg_trade(p=None), "not a decimal number: None"),
        (agg_trade(T="x"), "not a whole number: 'x'"),
        (kline(x=1), "closed flag is 1"),
        (kline(i="5m"), "interval is '5m', not 1m"),
        (kline(o="-1"), "not a decimal number: '-1'"),
    ],
)
def test_binance_bad_row_is_told(frame: dict[str, Any], reason: str) -> None:
    (bad,) = parsed(BINANCE, frame)
    assert isinstance(bad, BadRow)
    assert (bad.wire, bad.reason) == ("XRPETH", reason)


def test_binance_answers() -> None:
    assert parsed(BINANCE, {"result": None, "id": 3}) == (Ack(3, None, None, None),)
    for refused in (
        {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 3},
        {"code": 2, "msg": "Invalid request: invalid stream", "id": 3},
    ):
        assert parsed(BINANCE, refused) == (Refusal(3, None, None, "Invalid request: invalid stream (code 2)"),)
    with pytest.raises(ValueError, match="the venue reports an error"):
        BINANCE.parse('{"error":{"code":3,"msg":"Invalid JSON"}}')
    assert BINANCE.parse('{"e":"24hrTicker"}') is None


def test_binance_spot_address_always_tells_spot() -> None:
    real = {"api": {"ws": {"spot": "wss://stream.binance.com:9443/ws"}}}
    local = {"api": {"ws": {"spot": "ws://127.0.0.1:8000/binance/ws"}}}
    assert BINANCE.stream_url(real, 0) == "wss://stream.binance.com:9443/ws/0"
    assert BINANCE.stream_url(local, 3) == "ws://127.0.0.1:8000/binance/stream/3"


def test_binance_history_cursors() -> None:
    rows = [agg_trade(a=number) for number in (1000, 1001, 998, 999)]
    page = BINANCE.parse_trades(rows, 4)
    assert [trade.id for trade in page.trades] == ["998", "999", "1000", "1001"]
    assert page.next_cursor == "1002"
    assert BINANCE.parse_trades(rows, 5).next_cursor is None
    assert BINANCE.parse_trades([], 5) == ([], None)
    with pytest.raises(ValueError, match="not a list"):
        BINANCE.parse_candles("<html>")
    with pytest.raises(ValueError):
        BINANCE.parse_candles([[None] * 6])


def test_binance_candles_with_other_digits_than_usual_are_read_or_refused() -> None:
    row: list[Any] = [60_000, "1.5", "2", "1E-7", 1, "0.0", 119_999, "0", 3, "0", "0", "0"]
    (candle,) = BINANCE.parse_candles([row])
    assert candle[:7] == (60_000_000, "1.5", "2", "0.0000001", "1", "0.0", 3)
    bad = BINANCE.parse_candles([[1_700_000_040_000, "1,5", "2", "1", "1", "0.0", 0, "0", 3, "0", "0", "0"]])
    with pytest.raises(MalformedAnswer, match="not a positive decimal number"):
        checked_candles("binance", "BTC/USDT", bad, FUTURE_US)


_token = st.sampled_from(
    ["7", '"1.50"', '"2"', "1.50", '"1E-7"', "1e3", "-0", "null", "true", '"x"', '"\\u0031"', '"\\ud800"', "[1]", "[]",
     '"],["', "18446744073709551616", "NaN", ""]
)  # fmt: skip


def _kline(*other: tuple[int, str]) -> str:
    tokens = ["60000", '"1.50"', '"2"', '"1"', '"1.5"', '"0.0"', "119999", '"0"', "3", '"0"', '"0"', '"0"']
    for place, token in other:
        tokens[place] = token
    return f"[{','.join(tokens)}]"


@given(st.lists(st.lists(st.tuples(st.integers(0, 11), _token), max_size=2), min_size=1, max_size=3))
@example([[(1, "1.50")]])
@example([[(6, "1.5")]])
@example([[(8, "true")]])
def test_an_answer_that_was_left_unread_says_what_it_says_decoded(rows: list[list[tuple[int, str]]]) -> None:
    text = f"[{','.join(_kline(*other) for other in rows)}]"

    def read(answer: Callable[[], Any]) -> list[Candle] | None:
        try:
            return [*BINANCE.parse_candles(answer())]
        except (LookupError, TypeError, ValueError, AttributeError):
            return None

    assert read(lambda: Unread(text)) == read(lambda: decode(text))


def test_an_answer_left_unread_is_never_taken_for_one_without_rows() -> None:
    with pytest.raises(TypeError, match="not decoded"):
        [*Unread(f"[{_kline()}]")]
    with pytest.raises(ValueError):
        BINANCE.parse_candles(Unread(f"[{_kline()},"))


def test_a_page_with_a_minute_twice_is_refused_for_it_might_pass_for_a_whole_one() -> None:
    rows = [
        [1_700_000_040_000 + 60_000 * minute, "1", "1", "1", "1", "2", 0, "0", 3, "0", "0", "0"] for minute in (3, 1, 2)
    ]
    candles = BINANCE.parse_candles(rows)
    assert checked_candles("binance", "BTC/USDT", candles, FUTURE_US) == sorted(candles)
    with pytest.raises(MalformedAnswer, match="the minute comes twice"):
        checked_candles("binance", "BTC/USDT", [*candles, candles[1]], FUTURE_US)
