"""Venues without a file of their own: recorded frames through the real ccxt.pro classes and real sockets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.errors import ExchangeError, ExchangeUnavailable, MalformedAnswer
from ohlcvd.exchange import ExchangeHandler, generic
from ohlcvd.market import Trade, candle_fault, trade_fault
from ohlcvd.simulator.server import Simulator
from tests.exchange.replayer import Replayer, replayer
from tests.exchange.support import (
    BOTH,
    Recorder,
    real_data,
    recorded_frames,
    recorded_rows,
    simulator,
    streaming,
    until,
)


class Recording(NamedTuple):
    """`marks`: a frame that holds one of these is replayed."""

    folder: str
    file: str
    marks: tuple[str, ...]
    trades: int
    time_column: str = "ts_ms"


RECORDINGS = {
    "okx": Recording("okx", "ws.jsonl.gz", ('"tradeId"',), 74),
    "coinbaseexchange": Recording("coinbase", "ws.jsonl.gz", ('"type":"match"',), 97),
    "gate": Recording("gateio", "ws.jsonl.gz", ('"channel":"spot.trades","event":"update"',), 9),
    "bybit": Recording("bybit", "ws_derived.jsonl.gz", ("publicTrade",), 251),
    "hitbtc": Recording("hitbtc", "ws_derived.jsonl.gz", ('"ch":"trades"',), 1000),
    "upbit": Recording("upbit", "ws_derived.jsonl.gz", ('"type":"trade"',), 304, "msg_ts_ms"),
}


def stub_market(market_id: str) -> dict[str, Any]:
    return {"id": market_id, "symbol": f"{market_id}/X", "base": market_id, "quote": "X", "baseId": market_id,
            "quoteId": "X", "type": "spot", "spot": True, "active": True, "contract": False, "swap": False,
            "future": False, "option": False, "precision": {}, "limits": {}, "info": {}}  # fmt: skip


@asynccontextmanager
async def generic_handler(name: str, server: Replayer, market_ids: list[str]) -> AsyncIterator[ExchangeHandler]:
    url = f"127.0.0.1:{server.port}"
    handler = ExchangeHandler(ExchangeConfig(name, (), f"http://{url}", f"ws://{url}"))
    await handler.connect([stub_market(market_id) for market_id in market_ids])
    # The recordings have no answer to the question for the time.
    handler._ccxt.has["fetchTime"] = False
    try:
        yield handler
    finally:
        await handler.close()


@pytest.mark.parametrize("name", RECORDINGS)
async def test_recorded_trades_arrive_exactly_once(name: str) -> None:
    recording = RECORDINGS[name]
    folder = real_data() / recording.folder
    frames = [
        frame
        for frame in recorded_frames(folder, recording.file)
        if frame["dir"] == "in" and any(mark in frame["raw"] for mark in recording.marks)
    ]
    truth = recorded_rows(folder / "trades.csv.gz")
    if name == "coinbaseexchange":  # the trade before the subscription, which ccxt leaves out
        truth = [row for row in truth if row["kind"] != "last_match"]
    ids = sorted({row["symbol"] for row in truth})
    recorder = Recorder()
    async with (
        replayer() as server,
        generic_handler(name, server, ids) as handler,
        streaming(handler, list(handler.symbols()), recorder, ["trades"]),
    ):
        await until(
            lambda: {market_id for text in server.received for market_id in ids if market_id in text} == set(ids),
            "every symbol subscribed",
        )
        await server.send(frames)
        await until(lambda: len(arrived(recorder)) >= recording.trades, "every trade")
        await asyncio.sleep(0.1)
        found = arrived(recorder)
        assert handler.counters.rejected == 0
        assert handler.counters.frames >= len(frames)
    assert len(found) == recording.trades
    recorded = [
        (row["symbol"], int(row[recording.time_column]) * 1000, row["id"], row["price"], row["amount"], row["side"])
        for row in truth
    ]
    if name == "gate":  # ccxt's class drops zeros at the end of its amounts
        found, recorded = ([(*row[:4], row[4].rstrip("0"), row[5]) for row in rows] for rows in (found, recorded))
    assert sorted(found) == sorted(recorded)


def arrived(recorder: Recorder) -> list[tuple[str, int, str, str, str, str]]:
    """Venue's market id and trade, of live ones and snapshots."""
    return [
        (symbol.removesuffix("/X"), *trade)
        for by_symbol in (recorder.trades, recorder.snapshots)
        for symbol, trades in by_symbol.items()
        for trade in trades
    ]


def old_frames(folder: Path, mark: str) -> list[dict[str, Any]]:
    return [frame for frame in recorded_frames(folder, "ws.jsonl.gz") if frame["dir"] == "in" and mark in frame["raw"]]


async def test_frames_of_an_old_protocol_are_an_error_and_give_nothing(caplog: pytest.LogCaptureFixture) -> None:
    frames = old_frames(real_data() / "bybit", '"topic":"trade.')
    ids = sorted({row["symbol"] for row in recorded_rows(real_data() / "bybit" / "trades.csv.gz")})
    recorder = Recorder()
    async with (
        replayer() as server,
        generic_handler("bybit", server, ids) as handler,
        streaming(handler, list(handler.symbols()), recorder, ["trades"]),
    ):
        await until(lambda: server.sockets and server.received, "connected")
        await asyncio.sleep(0.3)
        await server.send(frames)
        await until(lambda: handler.counters.frames >= len(frames), "all frames read")
        await until(lambda: handler.counters.rejected > 0, "rejected")
    assert not recorder.trades
    assert not recorder.snapshots
    assert "bybit sent a trade that cannot be stored" in caplog.text


async def test_recorded_candles_arrive() -> None:
    folder = real_data() / "gateio"
    frames = old_frames(folder, '"channel":"spot.candlesticks","event":"update"')
    truth = recorded_rows(folder / "candles_1m_venue.csv")
    ids = sorted({row["symbol"] for row in truth})
    recorder = Recorder()
    async with (
        replayer() as server,
        generic_handler("gate", server, ids) as handler,
        streaming(handler, list(handler.symbols()), recorder, ["candles"]),
    ):
        await until(lambda: sum("candlesticks" in text for text in server.received) == len(ids), "subscribed")
        await server.send(frames)
        await until(lambda: len(recorder.candles) == len(ids), "a candle of each")
        await asyncio.sleep(0.2)
    last = {(symbol, rows[-1][0].ts_us): rows[-1][0] for symbol, rows in recorder.candles.items()}
    for row in truth:
        candle = last[f"{row['symbol']}/X", int(row["open_ts_ms"]) * 1000]
        assert candle.trades is None
        assert [Decimal(candle.open), Decimal(candle.close), Decimal(candle.volume)] == [
            Decimal(row["open"]), Decimal(row["close"]), Decimal(row["volume"])
        ]  # fmt: skip


def okx_trade(number: int) -> dict[str, Any]:
    raw = (
        '{"arg":{"channel":"trades","instId":"A-X"},"data":[{"instId":"A-X","tradeId":"%d","px":"0.10","sz":"1",'
        '"side":"buy","ts":"1652459199000"}]}'
    )
    return {"raw": raw % number}


async def test_cut_is_told_and_everything_sent_afterwards_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert generic.TRUST_AFTER_S == 10
    monkeypatch.setattr(generic, "TRUST_AFTER_S", 0.5)
    recorder = Recorder()
    async with (
        replayer() as server,
        generic_handler("okx", server, ["A-X", "B-X"]) as handler,
        streaming(handler, list(handler.symbols()), recorder, ["trades"]),
    ):
        await until(lambda: len(recorder.live) == 2, "trusted although quiet")
        await server.send(okx_trade(number) for number in range(5000))
        await until(lambda: recorder.count == 5000, "5000 trades through a cache of 1000")
        server.cut()
        await until(lambda: len(recorder.interruptions) == 2, "told", 2)
        await until(lambda: len(recorder.live) == 2, "live again")
        await server.send(okx_trade(number) for number in range(5000, 5010))
        await until(lambda: recorder.count == 5010, "trades after the cut")
        await server.send([{"raw": "garbage"}, {"raw": '{"cut'}, {"raw": okx_trade(1)["raw"].replace("0.10", "-1")}])
        await until(lambda: handler.counters.rejected >= 2, "rejected")
        await until(lambda: len(recorder.live) == 2, "announced anew")
        await server.send([okx_trade(5010)])
        await until(lambda: recorder.count == 5011, "the stream goes on")
        handler.pause_reading()
        await server.send(okx_trade(number) for number in range(6000, 6100))
        await asyncio.sleep(0.3)
        assert recorder.count == 5011
        handler.resume_reading()
        await until(lambda: recorder.count == 5111, "what had waited")
        assert handler.counters.reconnects == 1
    assert [trade.id for trade in recorder.trades["A-X/X"]][:5000] == [str(number) for number in range(5000)]


async def test_kind_that_ccxt_cannot_watch_is_refused() -> None:
    recorder = Recorder()
    async with (
        replayer() as server,
        generic_handler("bitstamp", server, ["A"]) as handler,
        streaming(handler, ["A/X"], recorder, ["candles"]),
    ):
        await until(lambda: recorder.refusals, "refused")
    assert recorder.refusals == [("A/X", "candles", "ccxt has no live candles for bitstamp")]


async def test_more_trades_in_a_millisecond_than_a_page_holds_are_told() -> None:
    """A cursor that is a time cannot get past them; saying "no more" there would be a lie."""
    async with simulator(rate=50, burst=300) as running, binanceus(running) as handler:
        venue = running.venue("binance")
        symbol = next(iter(handler.symbols()))
        counts = Counter(trade.ts_us for trade in venue.true_trades(symbol, 0, venue.clock.now_ns() // 1000))
        burst_us, size = counts.most_common(1)[0]
        assert size >= 100
        with pytest.raises(ExchangeError, match=f"more trades of {symbol} in one millisecond"):
            await handler.get_trades(symbol, since_us=burst_us, limit=50)
        page = await handler.get_trades(symbol, since_us=burst_us, limit=size + 10)
        assert page.next_cursor is not None


@asynccontextmanager
async def binanceus(running: Simulator) -> AsyncIterator[ExchangeHandler]:
    """A venue of the generic path that speaks a protocol of the local exchange."""
    url = running.rest_url("binance"), running.ws_url("binance")
    handler = ExchangeHandler(ExchangeConfig("binanceus", (), *url))
    await handler.connect()
    try:
        yield handler
    finally:
        await handler.close()


async def test_history_and_live_of_a_whole_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generic, "TRUST_AFTER_S", 1.0)
    recorder = Recorder()
    async with simulator(rate=50) as running, binanceus(running) as handler:
        symbols = list(handler.symbols())
        symbol = symbols[0]
        candles = await handler.get_ohlcv(symbol, limit=5)
        assert len(candles) == 5
        assert not any(candle_fault(candle, 4_000_000_000_000_000) for candle in candles)
        start_us = candles[0].ts_us
        page = await handler.get_trades(symbol, since_us=start_us)
        trades: dict[str, Trade] = {trade.id: trade for trade in page.trades}
        while page.next_cursor is not None:
            page = await handler.get_trades(symbol, from_id=page.next_cursor)
            trades |= {trade.id: trade for trade in page.trades}
        assert not any(trade_fault(trade, 4_000_000_000_000_000) for trade in trades.values())
        truth = running.venue("binance").true_trades(symbol, start_us, max(t.ts_us for t in trades.values()))
        assert [trades[trade.id] for trade in truth] == truth
        async with streaming(handler, symbols, recorder, BOTH):
            await until(lambda: len(recorder.live) == 40 and recorder.count > 50, "live")
            assert not recorder.interruptions
        running.fault("rest-html", exchange="binance", value="30")
        with pytest.raises(MalformedAnswer):
            await handler.get_trades(symbol)
        with pytest.raises(MalformedAnswer):
            await handler.get_ohlcv(symbol)
        running.fault("rest-503", exchange="binance", value="30")
        with pytest.raises(ExchangeUnavailable):
            await handler.get_trades(symbol)
