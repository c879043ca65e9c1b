"""Reads a folder of recorded frames: which venue it is, what happened there, and when each frame came.

A folder has ws.jsonl.gz (frames as recorded) or ws_derived.jsonl.gz (the same trades in the envelope that is spoken
today; preferred), one JSON object a line: {"t": seconds, "url", "dir": "in", "raw": text}. rest/ may hold recorded
REST answers: trades and candles are taken from there too. Kraken's WebSocket v2 and Binance spot are understood.
"""

import gzip
import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ohlcvd.errors import UsageError
from ohlcvd.simulator.listings import Listing, binance_listing, binance_symbol, kraken_listing
from ohlcvd.simulator.recorded_rest import rest_answers, rest_candles, rest_trades
from ohlcvd.simulator.tape import AMOUNT_DECIMALS, MinuteCandle, Tape, scaled

_NEVER_NS = 2**62


class RecordedTrade(NamedTuple):
    """A trade as a recording has it. `raw_first` and `raw_last` are the id itself where the venue has one family."""

    id: int
    ts_ns: int
    price: str
    amount: str
    is_buy: bool
    is_limit: bool
    raw_first: int
    raw_last: int


class RecordedFrame(NamedTuple):
    """`name` is the subscription that it answers; it carries the trades first_id <= id < end_id, if any."""

    ts_ns: int
    name: str
    symbol: str
    text: str
    first_id: int
    end_id: int


@dataclass
class Recording:
    """All of a folder. `stated` are candles as the venue's REST API gave them, `answers` whole recorded answers."""

    exchange: str
    frames: list[RecordedFrame] = field(default_factory=list)
    listings: dict[str, Listing] = field(default_factory=dict)
    trades: dict[str, dict[int, RecordedTrade]] = field(default_factory=dict)
    stated: dict[tuple[str, int], MinuteCandle] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def tape(self, symbol: str) -> "RecordedTape":
        return RecordedTape(sorted(self.trades.get(symbol, {}).values(), key=lambda trade: trade.id))

    @property
    def first_trade_ns(self) -> int:
        """Time of the first trade that a frame carries."""
        carried = [self.trades[frame.symbol][frame.first_id].ts_ns for frame in self.frames if frame.end_id]
        return min(carried, default=self.frames[0].ts_ns)


class RecordedTape(Tape):
    """Recorded trades of one symbol. Nothing happens after the last one."""

    def __init__(self, trades: Sequence[RecordedTrade]) -> None:
        super().__init__()
        self.price_decimals = max((_decimals(trade.price) for trade in trades), default=1)
        self._trades = trades
        self._ids = [trade.id for trade in trades]
        self._times = [trade.ts_ns for trade in trades]
        self._ticks = [scaled(trade.price, self.price_decimals) for trade in trades]
        self._amounts = [scaled(trade.amount, AMOUNT_DECIMALS) for trade in trades]
        self.first_id = self._ids[0] if trades else 0

    def id_at(self, ts_ns: int) -> int:
        at = bisect_left(self._times, ts_ns)
        return self._ids[at] if at < len(self._ids) else self._end_id

    def time_ns(self, trade_id: int) -> int:
        at = bisect_left(self._ids, trade_id)
        return self._times[at] if at < len(self._times) else _NEVER_NS

    def ids(self, start: int, end: int) -> list[int]:
        return self._ids[self._part(start, end)]

    def times_ns(self, start: int, end: int) -> list[int]:
        return self._times[self._part(start, end)]

    def ticks(self, start: int, end: int) -> list[int]:
        return self._ticks[self._part(start, end)]

    def amounts(self, start: int, end: int) -> list[int]:
        return self._amounts[self._part(start, end)]

    def buys(self, start: int, end: int) -> list[int]:
        return [trade.is_buy for trade in self._trades[self._part(start, end)]]

    def limits(self, start: int, end: int) -> list[int]:
        return [trade.is_limit for trade in self._trades[self._part(start, end)]]

    def raw_first(self, trade_id: int) -> int:
        at = bisect_left(self._ids, trade_id)
        return self._trades[at].raw_first if at < len(self._trades) else self._end_raw

    def raw_last(self, trade_id: int) -> int:
        return self._trades[bisect_left(self._ids, trade_id)].raw_last

    def id_of_raw(self, raw_id: int) -> int:
        at = bisect_left([trade.raw_last for trade in self._trades], raw_id)
        return self._ids[at] if at < len(self._ids) else self._end_id

    def price_before(self, trade_id: int) -> int | None:
        at = bisect_left(self._ids, trade_id)
        return self._ticks[at - 1] if at else None

    @property
    def _end_id(self) -> int:
        return self._ids[-1] + 1 if self._ids else 0

    @property
    def _end_raw(self) -> int:
        return self._trades[-1].raw_last + 1 if self._trades else 0

    def _part(self, start: int, end: int) -> slice:
        return slice(bisect_left(self._ids, start), bisect_left(self._ids, end))


def load_recording(folder: Path) -> Recording:
    """Raises UsageError with one sentence when the folder holds nothing that can be replayed."""
    path = next((path for name in _FILES if (path := folder / name).is_file()), None)
    if path is None:
        raise UsageError(f"{folder} has no recorded frames: neither {' nor '.join(_FILES)} is there")
    try:
        lines = list(_incoming(path))
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UsageError(f"{path} cannot be read as recorded frames: {type(error).__name__}: {error}") from error
    recording = Recording(_exchange_of(folder, lines))
    read = _kraken_frame if recording.exchange == "kraken" else _binance_frame
    recording.answers = rest_answers(folder / "rest", recording.exchange)
    for ts_ns, _, text in lines:
        frame = read(recording, ts_ns, text)
        if frame is not None:
            recording.frames.append(frame)
    if not recording.frames:
        raise UsageError(f"{path} has no frame of a market's channel")
    for symbol, listing in recording.listings.items():
        known = recording.trades.setdefault(symbol, {})
        for values in rest_trades(folder / "rest", listing):
            known[values[0]] = RecordedTrade(*values)
        for candle in rest_candles(folder / "rest", listing):
            recording.stated[symbol, candle.ts_us] = candle
    return recording


_FILES = ("ws_derived.jsonl.gz", "ws.jsonl.gz")


def _incoming(path: Path) -> Iterator[tuple[int, str, str]]:
    """(time, URL, text) of every frame that the venue sent."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line, parse_float=Decimal)
            if entry["dir"] == "in" and "bin" not in entry:
                yield int(Decimal(entry["t"]) * 10**9), entry["url"], entry["raw"]


def _exchange_of(folder: Path, lines: Sequence[tuple[int, str, str]]) -> str:
    hosts = {(urlsplit(url).hostname or "", urlsplit(url).path) for _, url, _ in lines}
    if hosts and all(host.endswith("kraken.com") and path.startswith("/v2") for host, path in hosts):
        return "kraken"
    if hosts and all(host == "stream.binance.com" for host, _ in hosts):
        return "binance"
    if any(host.endswith("kraken.com") for host, _ in hosts):
        raise UsageError(
            f"{folder} was recorded with Kraken's WebSocket v1, which no client speaks any more: no replay"
        )
    names = ", ".join(sorted({host for host, _ in hosts})) or "no host"
    raise UsageError(f"{folder} was recorded from {names}; only Kraken (WebSocket v2) and Binance spot can be replayed")


def _kraken_frame(recording: Recording, ts_ns: int, text: str) -> RecordedFrame | None:
    message = json.loads(text, parse_float=str)
    rows = message.get("data")
    if message.get("channel") in (None, "status", "heartbeat") or not isinstance(rows, list) or not rows:
        return None
    symbol = rows[0]["symbol"]
    recording.listings.setdefault(symbol, kraken_listing(symbol))
    trades = recording.trades.setdefault(symbol, {})
    first_id = end_id = 0
    if message["channel"] == "trade":
        for row in rows:
            number = row["trade_id"]
            trades[number] = RecordedTrade(
                number, _time_ns(row["timestamp"]), str(row["price"]), str(row["qty"]), row["side"] == "buy",
                row["ord_type"] == "limit", number, number,
            )  # fmt: skip
        first_id, end_id = rows[0]["trade_id"], rows[-1]["trade_id"] + 1
    return RecordedFrame(ts_ns, f"{message['channel']}:{symbol}", symbol, text, first_id, end_id)


def _binance_frame(recording: Recording, ts_ns: int, text: str) -> RecordedFrame | None:
    message = json.loads(text)
    event: dict[str, Any] = message.get("data", message)
    name = message.get("stream") or _stream_of(event)
    if name is None:
        return None
    market_id = name.partition("@")[0].upper()
    symbol = _binance_symbol_of(recording, market_id)
    recording.listings.setdefault(symbol, binance_listing(symbol))
    first_id = end_id = 0
    if event.get("e") == "aggTrade":
        first_id, end_id = event["a"], event["a"] + 1
        recording.trades.setdefault(symbol, {})[first_id] = RecordedTrade(
            first_id, event["T"] * 1_000_000, event["p"], event["q"], not event["m"], False, event["f"], event["l"]
        )
    return RecordedFrame(ts_ns, name, symbol, text, first_id, end_id)


def _stream_of(event: dict[str, Any]) -> str | None:
    """The stream of a bare event; None for those whose event does not tell."""
    kinds = {"aggTrade": "aggTrade", "trade": "trade"}
    kind = f"kline_{event['k']['i']}" if event.get("e") == "kline" else kinds.get(event.get("e", ""))
    return None if kind is None else f"{event['s'].lower()}@{kind}"


def _binance_symbol_of(recording: Recording, market_id: str) -> str:
    """By the recorded list of markets if there is one, else by the known quote currencies."""
    for symbol, listing in recording.listings.items():
        if listing.id == market_id:
            return symbol
    markets = json.loads(recording.answers.get("exchangeInfo", '{"symbols":[]}'))["symbols"]
    for market in markets:
        if market["symbol"] == market_id:
            return f"{market['baseAsset']}/{market['quoteAsset']}"
    return binance_symbol(market_id)


def _time_ns(text: str) -> int:
    """Of "2025-11-10T17:23:53.971744Z", exactly."""
    whole, _, part = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * 10**9 + int(f"{part:0<9}"[:9])


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])
