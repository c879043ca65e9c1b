"""Real recorded frames of every venue, through sockets, ccxt's classes and our parsing: what comes out is what the
venue sent, trade for trade and candle for candle. Old protocols are refused aloud."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.exchange import ExchangeHandler, loading
from ohlcvd.exchange.registry import FAST_VENUES
from ohlcvd.market import Candle, Kind, Trade
from tests.exchange.replayer import Replayer, replayer
from tests.exchange.support import Recorder, real_data, recorded_frames, recorded_rows, streaming, until

DERIVED = "ws_derived.jsonl.gz"
RAW = "ws.jsonl.gz"


class Recording(NamedTuple):
    """`resolution_us`: of the times that are stored. `has_ids`: the venue sends ids."""

    exchange: str
    folder: str
    file: str
    trades: int
    candles: int
    resolution_us: int = 1_000
    part: str = "spot"
    has_ids: bool = True


RECORDINGS = [
    Recording("binance", "binance", RAW, 2, 2),
    Recording("binance", "binance_xrpeth", DERIVED, 7913, 0),
    Recording("binanceusdm", "binance_futures", RAW, 91, 8, part="linear"),
    Recording("bitfinex", "bitfinex", DERIVED, 210, 0),
    Recording("bybit", "bybit", DERIVED, 251, 0, part="linear"),
    Recording("coinbaseexchange", "coinbase", RAW, 107, 0),
    Recording("gate", "gateio", RAW, 9, 10),
    Recording("hitbtc", "hitbtc", DERIVED, 1000, 1000),
    Recording("kraken", "kraken_xbtusdt", DERIVED, 546, 163, 1),
    Recording("kucoin", "kucoin", RAW, 18, 5, 1),
    Recording("okx", "okx", RAW, 74, 0),
    Recording("phemex", "phemex", RAW, 10025, 10000, 1, has_ids=False),
    Recording("upbit", "upbit", DERIVED, 304, 0),
]


def market_of(recording: Recording, wire: str) -> dict[str, Any]:
    """ccxt's structure of a market; the prices of Phemex are whole numbers with a scale of the market."""
    symbol = wire if "/" in wire else f"{wire}/X"
    part, scales = recording.part, {}
    if recording.exchange == "phemex":
        part = "spot" if wire.startswith("s") else "inverse"
        scales = {"priceScale": 8, "valueScale": 8} if part == "spot" else {"priceScale": 4, "valueScale": 0}
    base, _, quote = symbol.partition("/")
    return {"id": wire.replace("/", "") if recording.folder == "binance_xrpeth" else wire, "symbol": symbol,
            "base": base, "quote": quote, "baseId": base, "quoteId": quote, "settle": None, "settleId": None,
            "type": "spot" if part == "spot" else "swap", "spot": part == "spot", "margin": False, "active": True,
            "contract": part != "spot", "swap": part != "spot", "future": False, "option": False,
            "linear": part == "linear", "inverse": part == "inverse", "contractSize": None,
            "precision": {}, "limits": {}, "info": {}, **scales}  # fmt: skip


@asynccontextmanager
async def handler_of(exchange: str, server: Replayer, markets: list[dict[str, Any]]) -> AsyncIterator[ExchangeHandler]:
    url = f"127.0.0.1:{server.port}"
    handler = ExchangeHandler(ExchangeConfig(exchange, (), f"http://{url}", f"ws://{url}"))
    await handler.connect(markets)
    try:
        yield handler
    finally:
        await handler.close()


async def replayed(
    exchange: str, markets: list[dict[str, Any]], frames: list[dict[str, Any]], kinds: Collection[Kind], done: Any
) -> tuple[Recorder, ExchangeHandler]:
    """Every frame that the venue sent, to one who has subscribed to all markets; until `done(recorder, handler)`."""
    recorder = Recorder()
    async with (
        replayer() as server,
        handler_of(exchange, server, markets) as handler,
        streaming(handler, list(handler.symbols()), recorder, kinds),
    ):
        names = {market["id"].replace("/", "").lower() for market in markets}
        await until(
            lambda: all(any(name in text.replace("/", "").lower() for text in server.received) for name in names),
            "every market asked for",
        )
        await asyncio.sleep(0.2)
        await server.send(frames)
        await until(lambda: done(recorder, handler), f"everything of {exchange}")
        await asyncio.sleep(0.1)
    return recorder, handler


def incoming(folder: Path, file: str) -> list[dict[str, Any]]:
    return [frame for frame in recorded_frames(folder, file) if frame["dir"] == "in"]


def wire_of(symbol: str) -> str:
    return symbol.removesuffix("/X")


def arrived(recorder: Recorder) -> dict[str, list[Trade]]:
    """In order of time and, within the same moment, of arrival; a snapshot comes before what follows it."""
    symbols = recorder.snapshots.keys() | recorder.trades.keys()
    rows = {wire_of(s): recorder.snapshots.get(s, []) + recorder.trades.get(s, []) for s in symbols}
    return {wire: sorted(trades, key=lambda trade: trade.ts_us) for wire, trades in rows.items()}


def last_states(recorder: Recorder) -> dict[tuple[str, int], Candle]:
    return {(wire_of(s), row.ts_us): row for s, rows in recorder.candles.items() for row, _, _ in rows}


Row = tuple[int, str, Decimal | str, Decimal | str, str]


def comparable(trade: Trade, recording: Recording, is_exact: bool) -> Row:
    number = trade.id if recording.has_ids else ""
    price, amount = (trade.price, trade.amount) if is_exact else (Decimal(trade.price), Decimal(trade.amount))
    return trade.ts_us // recording.resolution_us, number, price, amount, trade.side


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda one: one.folder)
async def test_what_a_venue_sent_is_what_arrives(recording: Recording, capsys: pytest.CaptureFixture[str]) -> None:
    folder = real_data() / recording.folder
    rows = recorded_rows(folder / "trades.csv.gz")
    truth: dict[str, list[Trade]] = {}
    for row in rows:
        side: Any = row["side"]
        trade = Trade(int(row["ts_ns"]) // 1000, row["id"], row["price"], row["amount"], side)
        truth.setdefault(row["symbol"], []).append(trade)
    minutes = recorded_candles(folder) if recording.candles else {}
    markets = [market_of(recording, wire) for wire in sorted(truth.keys() | {wire for wire, _ in minutes})]
    kinds: list[Kind] = ["trades", "candles"] if recording.candles else ["trades"]

    def is_done(recorder: Recorder, handler: ExchangeHandler) -> bool:
        is_all = sum(map(len, arrived(recorder).values())) >= recording.trades
        return is_all and len(last_states(recorder)) >= recording.candles

    recorder, handler = await replayed(recording.exchange, markets, incoming(folder, recording.file), kinds, is_done)
    found, states = arrived(recorder), last_states(recorder)
    is_exact = recording.exchange in FAST_VENUES  # ccxt drops zeros at the end
    for wire, trades in truth.items():
        expected = [comparable(trade, recording, is_exact) for trade in trades]
        assert [comparable(trade, recording, is_exact) for trade in found[wire]] == expected, wire
    assert handler.counters.rejected == 0
    assert len(states) == recording.candles
    for (wire, ts_us), candle in states.items():
        assert candle_values(candle) == minutes[wire, ts_us], (wire, ts_us)
    with capsys.disabled():
        way = "fast" if is_exact else "generic"
        count = sum(map(len, found.values()))
        print(f"\n{recording.folder:16} {way:8} {len(truth):3} symbols {count:6} trades {len(states):6} candles  equal")


def candle_values(candle: Candle) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, (candle.open, candle.high, candle.low, candle.close, candle.volume)))


def recorded_candles(folder: Path) -> dict[tuple[str, int], tuple[Decimal, ...]]:
    path = next(path for path in folder.glob("candles_1m_venue.csv*"))
    return {
        (row["symbol"], int(row["open_ts_ms"]) * 1000): tuple(
            Decimal(row[name]) for name in ("open", "high", "low", "close", "volume")
        )
        for row in recorded_rows(path)
    }


class OldProtocol(NamedTuple):
    """Frames that today's ccxt does not speak; `mark` is in those of trades."""

    exchange: str
    folder: str
    mark: str
    part: str = "spot"


OLD = [
    OldProtocol("bitfinex", "bitfinex", "[["),
    OldProtocol("bybit", "bybit", '"topic":"trade.', "linear"),
    OldProtocol("hitbtc", "hitbtc", "Trades"),
    OldProtocol("kraken", "kraken", '"trade","'),
    OldProtocol("upbit", "upbit", '"ty":"trade"'),
]


@pytest.mark.parametrize("old", OLD, ids=lambda one: one.exchange)
async def test_an_old_protocol_is_an_error_that_names_the_venue(
    old: OldProtocol, caplog: pytest.LogCaptureFixture
) -> None:
    folder = real_data() / old.folder
    recording = Recording(old.exchange, old.folder, RAW, 0, 0, part=old.part)
    wires = sorted({row["symbol"] for row in recorded_rows(folder / "trades.csv.gz")})
    frames = [frame for frame in incoming(folder, RAW) if old.mark in frame["raw"] or '"event"' in frame["raw"]]
    recorder, _ = await replayed(
        old.exchange, [market_of(recording, wire) for wire in wires], frames, ["trades"],
        lambda recorder, handler: handler.counters.rejected > 0,
    )  # fmt: skip
    assert not recorder.trades
    assert not recorder.snapshots
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert any(text.startswith(f"{old.exchange} sent a frame that cannot be stored") for text in errors), errors


async def test_rows_without_content_name_the_venue_and_the_likely_cause(caplog: pytest.LogCaptureFixture) -> None:
    """What ccxt makes of frames that it does not know is told by the generic path, too."""
    rows = [{"symbol": "A/X", "timestamp": None, "price": None, "amount": None, "id": None, "side": None}]
    recorder = Recorder()
    async with (
        replayer() as server,
        handler_of("hitbtc", server, [market_of(Recording("hitbtc", "", RAW, 0, 0), "A")]) as handler,
        streaming(handler, ["A/X"], recorder, ["trades"]),
    ):
        await until(lambda: server.received, "subscribed")
        handler._ccxt.trades["A/X"] = handler_cache(rows)
        await until(lambda: handler.counters.rejected, "rejected")
    assert not recorder.trades
    assert "hitbtc sent a trade that cannot be stored: all fields are empty" in caplog.text
    assert "a protocol that this ccxt does not know" in caplog.text


def handler_cache(rows: list[dict[str, Any]]) -> Any:
    """ccxt's cache of trades, with these in it."""
    cache: Any = loading.ccxt_name("ccxt.async_support.base.ws.cache", "ArrayCache")(1000)
    for row in rows:
        cache.append(row)
    return cache
