"""Venues of which no recording exists: the frames of their documentation, through sockets, once through the venue's own
file and once through ccxt's parsers. The two must tell the same trades; candles and answers are spelled out."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from ohlcvd.exchange.registry import FAST_VENUES
from ohlcvd.exchange.venue import Ack, BadRow, CandleRow, Event, FastVenue, Pong, Question, Refusal, TradeRows
from ohlcvd.market import Candle, Trade
from tests.exchange.replayer import replayer
from tests.exchange.support import Recorder, streaming, until
from tests.exchange.test_recordings import DERIVED, Recording, handler_of, market_of


class Documented(NamedTuple):
    """`answers`: to a subscription; `frames`: market data; `trades`: what it says."""

    exchange: str
    market_id: str
    answers: list[tuple[Any, Event]]
    frames: list[Any]
    trades: list[Trade]
    part: str = "spot"


def trade(ts_ms: int, number: Any, price: str, amount: str, side: Any) -> Trade:
    return Trade(ts_ms * 1000, str(number), price, amount, side)


DOCUMENTED = [
    Documented(
        "bitstamp", "btcusd",
        [({"event": "bts:subscription_succeeded", "channel": "live_trades_btcusd", "data": {}},
          Ack(None, "btcusd", "trades", None)),
         ({"event": "bts:error", "channel": "live_trades_no", "data": {"message": "Bad subscription"}},
          Refusal(None, "no", "trades", "Bad subscription"))],
        [{"data": {"buy_order_id": 1207733769326592, "amount_str": "0.14406384", "timestamp": "1583691851",
                   "microtimestamp": "1583691851934000", "id": 106833903, "amount": 0.14406384,
                   "sell_order_id": 1207733765476352, "price_str": "8302.92", "type": 0, "price": 8302.92},
          "event": "trade", "channel": "live_trades_btcusd"}],
        [trade(1583691851000, 106833903, "8302.92", "0.14406384", "buy")],
    ),
    Documented(
        "cryptocom", "BTC_USDT",
        [({"id": 3, "code": 0, "method": "subscribe", "channel": "trade.BTC_USDT"}, Ack(3, None, None, None)),
         ({"id": 3, "code": 10004, "method": "subscribe", "message": "invalid channel"},
          Refusal(3, None, None, "invalid channel (code 10004)")),
         ({"id": 9, "method": "public/heartbeat", "code": 0},
          Question({"id": 9, "method": "public/respond-heartbeat"}))],
        [{"code": 0, "method": "subscribe", "id": -1, "result": {
            "instrument_name": "BTC_USDT", "subscription": "trade.BTC_USDT", "channel": "trade", "data": [
                {"dataTime": 1648122434406, "d": "2358394540212355489", "s": "BUY", "p": "42980.90", "q": "0.1",
                 "t": 1648122434405, "i": "BTC_USDT"},
                {"dataTime": 1648122434405, "d": "2358394540212355488", "s": "SELL", "p": "42980.85", "q": "0.002325",
                 "t": 1648122434404, "i": "BTC_USDT"}]}}],
        [trade(1648122434404, 2358394540212355488, "42980.85", "0.002325", "sell"),
         trade(1648122434405, 2358394540212355489, "42980.90", "0.1", "buy")],
    ),
    Documented(
        "deribit", "BTC_USDC-PERPETUAL",
        [({"jsonrpc": "2.0", "id": 2, "result": ["trades.BTC_USDC-PERPETUAL.100ms"], "usIn": 1, "usOut": 7},
          Ack(2, "BTC_USDC-PERPETUAL", "trades", 7)),
         ({"jsonrpc": "2.0", "id": 2, "error": {"code": -32602, "message": "Invalid params"}},
          Refusal(2, None, None, "Invalid params")),
         ({"jsonrpc": "2.0", "id": 5, "result": 1655397355998}, Pong(5, 1655397355998000))],
        [{"jsonrpc": "2.0", "method": "subscription", "params": {
            "channel": "trades.BTC_USDC-PERPETUAL.100ms", "data": [
                {"trade_seq": 501899, "trade_id": "USDC-2436803", "timestamp": 1655397355998, "tick_direction": 2,
                 "price": 21026, "mark_price": 21019.9719, "instrument_name": "BTC_USDC-PERPETUAL",
                 "index_price": 21031.7847, "direction": "buy", "amount": 0.049}]}}],
        [trade(1655397355998, "USDC-2436803", "21026", "0.049", "buy")], "linear",
    ),
    Documented(
        "htx", "btcusdt",
        [({"id": "4", "status": "ok", "subbed": "market.btcusdt.trade.detail", "ts": 1489474081631},
          Ack(4, None, None, 1489474081631000)),
         ({"ts": 1586323747018, "status": "error", "err-code": "bad-request", "err-msg": "invalid symbol", "id": "2"},
          Refusal(2, None, None, "invalid symbol (bad-request)")),
         ({"ping": 1583495834011}, Question({"pong": 1583495834011}))],
        [{"ch": "market.btcusdt.trade.detail", "ts": 1583495834011, "tick": {
            "id": 105004645372, "ts": 1583495833751, "data": [
                {"id": 10500464537210207789012345, "ts": 1583495833751, "tradeId": 102090727790, "amount": 0.003893,
                 "price": 9150.01, "direction": "sell"}]}}],
        [trade(1583495833751, 102090727790, "9150.01", "0.003893", "sell")],
    ),
    Documented(
        "gemini", "btcusd",
        [],
        [{"type": "l2_updates", "symbol": "BTCUSD", "changes": [], "trades": [
            {"type": "trade", "symbol": "BTCUSD", "event_id": 122258166738, "timestamp": 1655330221424,
             "price": "22269.14", "quantity": "0.00004473", "side": "buy"},
            {"type": "trade", "symbol": "BTCUSD", "event_id": 122258141090, "timestamp": 1655330213216,
             "price": "22250.00", "quantity": "0.00704098", "side": "sell"}]},
         {"type": "trade", "symbol": "BTCUSD", "event_id": 122278173770, "timestamp": 1655335880981,
          "price": "22530.80", "quantity": "0.04", "side": "buy"}],
        [trade(1655330213216, 122258141090, "22250.00", "0.00704098", "sell"),
         trade(1655330221424, 122258166738, "22269.14", "0.00004473", "buy"),
         trade(1655335880981, 122278173770, "22530.80", "0.04", "buy")],
    ),
    Documented(
        "krakenfutures", "PI_XBTUSD",
        [({"event": "subscribed", "feed": "trade", "product_ids": ["PI_XBTUSD"]},
          Ack(None, "PI_XBTUSD", "trades", None)),
         ({"event": "alert", "message": "Bad product id"}, Refusal(None, None, None, "Bad product id"))],
        [{"feed": "trade_snapshot", "product_id": "PI_XBTUSD", "trades": [
            {"feed": "trade", "product_id": "PI_XBTUSD", "uid": "5c1c1a55-9ee0-4b9e-9a7e-4a2bb0e2f1c0", "side": "sell",
             "type": "fill", "seq": 655508, "time": 1612269825817, "qty": 440, "price": 34893},
            {"feed": "trade", "product_id": "PI_XBTUSD", "uid": "45ee9737-1877-4682-bc68-e4ef818ef88a", "side": "buy",
             "type": "fill", "seq": 655507, "time": 1612269656839, "qty": 9643, "price": 34891.5}]},
         {"feed": "trade", "product_id": "PI_XBTUSD", "uid": "05af78ac-a774-478c-a50c-8b9c234e071e", "side": "sell",
          "type": "fill", "seq": 653355, "time": 1612269826000, "qty": 15000, "price": 34969.5}],
        [trade(1612269656839, "45ee9737-1877-4682-bc68-e4ef818ef88a", "34891.5", "9643", "buy"),
         trade(1612269825817, "5c1c1a55-9ee0-4b9e-9a7e-4a2bb0e2f1c0", "34893", "440", "sell"),
         trade(1612269826000, "05af78ac-a774-478c-a50c-8b9c234e071e", "34969.5", "15000", "sell")], "inverse",
    ),
    Documented(
        "hyperliquid", "PURR/USDC",
        [({"channel": "subscriptionResponse", "data": {
            "method": "subscribe", "subscription": {"type": "trades", "coin": "PURR/USDC"}}},
          Ack(None, "PURR/USDC", "trades", None)),
         ({"channel": "error", "data": 'Invalid subscription {"type":"trades","coin":"NO"}'},
          Refusal(None, "NO", None, 'Invalid subscription {"type":"trades","coin":"NO"}')),
         ({"channel": "pong"}, Pong(None, None))],
        [{"channel": "trades", "data": [
            {"coin": "PURR/USDC", "side": "A", "px": "68517.0", "sz": "0.005", "time": 1710125266669,
             "hash": "0xc872", "tid": 981894269203506}]}],
        [trade(1710125266669, 981894269203506, "68517.0", "0.005", "sell")],
    ),
    Documented(
        "coinbase", "ETH-USD",
        [({"channel": "subscriptions", "timestamp": "2023-02-09T20:19:35.39625135Z", "sequence_num": 0,
           "events": [{"subscriptions": {"market_trades": ["ETH-USD"]}}]},
          Ack(None, "ETH-USD", "trades", 1675973975396251)),
         ({"type": "error", "message": "no such product"}, Refusal(None, None, None, "no such product"))],
        [{"channel": "market_trades", "client_id": "", "timestamp": "2023-02-09T20:19:35.39625135Z",
          "sequence_num": 0, "events": [{"type": "update", "trades": [
              {"trade_id": "12346", "product_id": "ETH-USD", "price": "1260.02", "size": "0.1", "side": "SELL",
               "time": "2019-08-14T20:42:28.000Z"},
              {"trade_id": "12345", "product_id": "ETH-USD", "price": "1260.01", "size": "0.3", "side": "BUY",
               "time": "2019-08-14T20:42:27.265Z"}]}]}],
        # the venue gives the maker's side, and ccxt leaves it so
        [trade(1565815347265, 12345, "1260.01", "0.3", "sell"), trade(1565815348000, 12346, "1260.02", "0.1", "buy")],
    ),
]  # fmt: skip


def venue_of(name: str) -> FastVenue:
    return FAST_VENUES[name][0].session()


@pytest.mark.parametrize("case", DOCUMENTED, ids=lambda case: case.exchange)
def test_answers_to_a_subscription(case: Documented) -> None:
    for frame, event in case.answers:
        assert list(venue_of(case.exchange).parse(json.dumps(frame)) or ()) == [event]
    assert venue_of(case.exchange).parse('{"some": "thing"}') in (None, ())


@pytest.mark.parametrize("case", DOCUMENTED, ids=lambda case: case.exchange)
async def test_both_ways_tell_the_same_trades(case: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await told(case) == case.trades
    monkeypatch.delitem(FAST_VENUES, case.exchange)
    flipped = {"buy": "sell", "sell": "buy"} if case.exchange == "coinbase" else {}
    generic = [one._replace(side=flipped.get(one.side, one.side)) for one in await told(case)]  # type: ignore[arg-type]
    if case.exchange == "htx":  # ccxt takes the long number, which REST does not have
        assert [one.id for one in generic] == ["10500464537210207789012345"]
        generic = [one._replace(id=case.trades[0].id) for one in generic]
    if case.exchange == "bitstamp":  # whose REST has whole seconds
        generic = [one._replace(ts_us=one.ts_us // 1_000_000 * 1_000_000) for one in generic]
    assert sorted(exact(generic)) == sorted(exact(case.trades))


def exact(trades: Sequence[Trade]) -> list[tuple[object, ...]]:
    """ccxt leaves out zeros at the end."""
    return [(one.ts_us, one.id, float(one.price), float(one.amount), one.side) for one in trades]


async def told(case: Documented) -> list[Trade]:
    """What arrives when a venue sends the documented frames."""
    recorder = Recorder()
    market = market_of(Recording(case.exchange, "", DERIVED, 0, 0, part=case.part), case.market_id)
    market |= {"id": case.market_id, "baseName": case.market_id}
    async with (
        replayer() as server,
        handler_of(case.exchange, server, [market]) as handler,
        streaming(handler, list(handler.symbols()), recorder, ["trades"]),
    ):
        name = case.market_id.lower()
        await until(lambda: any(name in text.lower() for text in server.received), "subscribed")
        await server.send({"raw": json.dumps(frame)} for frame in case.frames)
        count = len(case.trades)
        await until(lambda: sum(map(len, (recorder.trades | recorder.snapshots).values())) >= 1, "trades")
        await until(lambda: len(all_of(recorder)) >= count, "all trades")
        assert handler.counters.rejected == 0
    return sorted(all_of(recorder), key=lambda one: one.ts_us)


def all_of(recorder: Recorder) -> list[Trade]:
    rows = [*recorder.snapshots.values(), *recorder.trades.values()]
    return [trade for trades in rows for trade in trades]


CANDLES: list[tuple[str, Any, str, Candle, bool]] = [
    ("bybit", {"topic": "kline.1.BTCUSDT", "ts": 1670363219614, "data": [
        {"start": 1670363160000, "end": 1670363219999, "interval": "1", "open": "16987.5", "close": "16987.5",
         "high": "16988", "low": "16987", "volume": "23.511", "turnover": "399396.344", "confirm": True}]},
     "BTCUSDT", Candle(1670363160000000, "16987.5", "16988", "16987", "16987.5", "23.511", None, "venue"), True),
    ("okx", {"arg": {"channel": "candle1m", "instId": "BTC-USDT"}, "data": [
        ["1626690720000", "31334", "31335", "31333", "31334.5", "0.0077", "241.2718", "241.2718", "1"]]},
     "BTC-USDT", Candle(1626690720000000, "31334", "31335", "31333", "31334.5", "0.0077", None, "venue"), True),
    ("cryptocom", {"id": -1, "method": "subscribe", "code": 0, "result": {
        "instrument_name": "BTC_USDT", "subscription": "candlestick.1m.BTC_USDT", "channel": "candlestick",
        "interval": "1m", "data": [{"o": "5", "h": "7", "l": "4", "c": "6", "v": "1.5", "t": 1648122420000}]}},
     "BTC_USDT", Candle(1648122420000000, "5", "7", "4", "6", "1.5", None, "venue"), False),
    ("deribit", {"method": "subscription", "params": {"channel": "chart.trades.BTC_USDC-PERPETUAL.1", "data": {
        "volume": 0.5, "tick": 1655403420000, "open": 20951, "low": 20950, "high": 20952, "cost": 1,
        "close": 20951.5}}},
     "BTC_USDC-PERPETUAL", Candle(1655403420000000, "20951", "20952", "20950", "20951.5", "0.5", None, "venue"), False),
    ("htx", {"ch": "market.btcusdt.kline.1min", "ts": 1583501786794, "tick": {
        "id": 1583501760, "open": 9094.5, "close": 9094.51, "low": 9094.5, "high": 9094.52,
        "amount": 0.44639786263800907, "vol": 4059.76919054, "count": 16}},
     "btcusdt", Candle(1583501760000000, "9094.5", "9094.52", "9094.5", "9094.51", "0.44639786263800907", 16, "venue"),
     False),
    ("gemini", {"type": "candles_1m_updates", "symbol": "BTCUSD", "changes": [
        [1561054500000, 9350.18, 9358.35, 9350.18, 9355.51, 2.07]]},
     "BTCUSD", Candle(1561054500000000, "9350.18", "9358.35", "9350.18", "9355.51", "2.07", None, "venue"), False),
    ("hyperliquid", {"channel": "candle", "data": {
        "t": 1710146280000, "T": 1710146339999, "s": "BTC", "i": "1m", "o": "71400.0", "c": "71411.0", "h": "71422.0",
        "l": "71389.0", "v": "1.20407", "n": 20}},
     "BTC", Candle(1710146280000000, "71400.0", "71422.0", "71389.0", "71411.0", "1.20407", 20, "venue"), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "frame", "wire", "candle", "closed"), CANDLES, ids=[case[0] for case in CANDLES])
def test_candles(name: str, frame: Any, wire: str, candle: Candle, closed: bool) -> None:
    (event,) = venue_of(name).parse(json.dumps(frame)) or ()
    assert isinstance(event, CandleRow)
    assert (event.wire, event.candle, event.closed) == (wire, candle, closed)


@pytest.mark.parametrize("name", sorted(FAST_VENUES))
def test_every_venue_asks_for_what_it_reads_and_takes_it_back(name: str) -> None:
    for part in FAST_VENUES[name]:
        venue = part.session()
        for kind in venue.kinds:
            asked = json.dumps(venue.subscribe(kind, ["A-X"], 7))
            assert "A-X" in asked or "a-x" in asked
            back = venue.unsubscribe(kind, ["A-X"], 8)
            assert back is None or "un" in json.dumps(back).lower()
        assert venue.silence.any_s >= venue.silence.data_s
        assert venue.streams_per_connection >= 1


def test_a_row_without_content_is_told_and_its_neighbours_are_delivered() -> None:
    rows: list[dict[str, Any]] = [
        {"T": 1672304486865, "s": "A", "S": "Buy", "v": "1", "p": "2", "i": str(n)} for n in range(3)
    ]
    rows[1]["p"] = None
    good, bad = venue_of("bybit").parse(json.dumps({"topic": "publicTrade.A", "ts": 1, "data": rows})) or ()
    assert isinstance(good, TradeRows)
    assert [one.id for one in good.trades] == ["0", "2"]
    assert isinstance(bad, BadRow)
    assert bad.reason == "not a decimal number: None"
