"""Mutated frames and REST answers through the code that reads real ones, down to the rows that would be stored.

Seeds are what the local exchange sends, and the recordings where OHLCVD_REAL_DATA names them. A mutation breaks the
text or a value in it: cuts, flipped characters, spliced frames, wrong types, huge and odd numbers, control characters,
SQL, deep nesting. Whatever comes through must obey the rules and fit into the database's binary form.
"""

import asyncio
import gzip
import json
import os
import random
import string
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from ohlcvd.database import encode
from ohlcvd.errors import MalformedAnswer
from ohlcvd.exchange import history
from ohlcvd.exchange.clock import VenueClock
from ohlcvd.exchange.exact import decode
from ohlcvd.exchange.incoming import Incoming
from ohlcvd.exchange.registry import FAST_VENUES
from ohlcvd.exchange.rejects import Rejects
from ohlcvd.exchange.sink import StreamCounters
from ohlcvd.exchange.venue import BadRow, CandleHistory, CandleRow, FastVenue, Gathered, TradeHistory, TradeRows
from ohlcvd.log import get_component_logger
from ohlcvd.market import Candle, Instrument, Kind, Trade, candle_fault, trade_fault
from ohlcvd.ohlcv.manager import OhlcvManager
from ohlcvd.router import StreamRouter
from ohlcvd.simulator.market import MarketSettings
from ohlcvd.simulator.server import Simulator, SimulatorSettings
from ohlcvd.store import Added
from ohlcvd.trade.manager import TradeManager

# 2026-12-31; the recordings are older, the local exchange's present is before it.
NOW_US: Final = 1_798_675_200_000_000
RECORDINGS: Final = {
    "kraken": "kraken_xbtusdt", "binance": "binance_xrpeth", "bitfinex": "bitfinex", "bybit": "bybit",
    "coinbaseexchange": "coinbase", "okx": "okx", "gate": "gateio", "kucoin": "kucoin", "upbit": "upbit",
    "binanceusdm": "binance_futures",
}  # fmt: skip
HOSTILE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 10**30, -(10**15), 1.5, -0.0, "", " ", "nan", "NaN", "inf", "-1", "1e999", "1E-400", "0",
    "0.0", "1_000", "\u0663\u0664", "0x10", "1.2.3", "1e5", "9" * 400, "0." + "0" * 300 + "1", "\0", "\x1b[2J", "a\nb",
    "'; DROP TABLE trades; --", "%s%n", "{}", "\u202e", "\ud800", "\uffff", "2026-02-30T00:00:00Z", [], {}, [[]],
    [None], {"a": 1}, [1] * 50, "x" * 3000, "sell", "buy", "b", 253402300800000, "9999-12-31T23:59:59.999999+00:00",
)  # fmt: skip
RAW: Final = ("NaN", "-Infinity", "1e999999", "9" * 5000, "[" * 5000, '{"a":' * 3000, "\x00", "\\ud800", "tru", "'", "")


@dataclass
class Figures:
    """What became of the mutated inputs."""

    inputs: int = 0
    refused: int = 0  # as a whole, or with a row in it
    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.inputs} mutated frames and answers, {self.refused} refused, {self.rows} rows obey the rules"


@dataclass
class Seeds:
    """Unbroken texts of one exchange."""

    frames: list[str] = field(default_factory=list)
    trades: list[str] = field(default_factory=list)
    candles: list[str] = field(default_factory=list)


class Mutator:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def mutate(self, text: str, other: str) -> str:
        if self._random.random() < 0.6:
            return self._value(text)
        return self._text(text, other)

    def _value(self, text: str) -> str:
        """Another value, another key, one more or one less, at some places of the document."""
        document = json.loads(text)
        for _ in range(self._random.choice((1, 1, 1, 2, 5))):
            places = list(_places(document))
            if not places:
                break
            holder, key = self._random.choice(places)
            act = self._random.random()
            if act < 0.7:
                holder[key] = deepcopy(self._random.choice(HOSTILE))
            elif act < 0.8 and isinstance(holder, dict):
                holder[self._random.choice(string.ascii_letters)] = holder.pop(key)
            elif act < 0.9:
                del holder[key]
            elif isinstance(holder, list):
                holder.insert(self._random.randrange(len(holder) + 1), deepcopy(holder[key]))
            else:
                holder[key] = [holder[key]]
        return json.dumps(document)

    def _text(self, text: str, other: str) -> str:
        at = self._random.randrange(len(text) + 1)
        act = self._random.randrange(5)
        if act == 0:
            return text[:at]
        if act == 1:
            return text[:at] + chr(self._random.randrange(256)) + text[at + 1 :]
        if act == 2:
            return text[:at] + other[self._random.randrange(len(other) + 1) :]
        if act == 3:
            return text[:at] + self._random.choice(RAW) + text[at:]
        end = min(len(text), at + self._random.randrange(1, 40))
        return text[:at] + text[end:]


def _places(document: Any) -> Any:
    """(holder, key) of every value, down to some depth."""
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            keys: list[Any] = list(holder)
        elif isinstance(holder, list):
            keys = list(range(len(holder)))
        else:
            continue
        for key in keys:
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])


class RuleStore:
    """The store behind the collectors: every row must obey the rules and be encodable."""

    def __init__(self) -> None:
        self.rows = 0

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        for trade in trades:
            assert trade_fault(trade, NOW_US) is None, trade
        encode.copy_rows([(instrument.id, encode.split_id(trade.id)[0], None, trade) for trade in trades])
        self.rows += len(trades)

    def add_many(self, added: Sequence[Added]) -> None:
        for instrument, trades in added:
            self.add_trades(instrument, trades)

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        for candle in candles:
            assert candle_fault(candle, NOW_US) is None, candle
            for text in candle[1:6]:
                encode.numeric(str(text))
        self.rows += len(candles)

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        assert lower_us <= upper_us

    def uncover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        assert lower_us <= upper_us


class Reader:
    """One exchange's reading path."""

    def __init__(self, name: str, session: FastVenue, wires: Sequence[str]) -> None:
        self.name = name
        self.venue = session  # which has seen the unbroken frames, subscriptions included
        self.store = RuleStore()
        self.counters = StreamCounters()
        instruments = {wire: Instrument(number, name, wire) for number, wire in enumerate(wires, start=1)}
        trades = TradeManager(
            name, instruments, self.store, stores_candles=True, sequential_ids=name in ("kraken", "binance")
        )
        candles = OhlcvManager(
            name, instruments, self.store, finality="stream", sends_empty=True, fetch=_nothing,
            venue_now_us=lambda: NOW_US,
        )  # fmt: skip
        self.router = StreamRouter(name, trades, candles, counts_agree=True)
        rejects = Rejects(name, self.counters, get_component_logger(f"ohlcvd.exchange.{name}"))
        self.incoming = Incoming({w: w for w in wires}, self.router, VenueClock(), rejects, lambda: NOW_US)

    def frame(self, text: str) -> str | None:
        """Why it was refused, read as a connection does it, live trades apart; None if nothing was wrong with it."""
        gathered, lost = Gathered(), None
        for rest in self.venue.gather([text], gathered):
            try:
                events = self.venue.parse(rest)
            except (
                ValueError,
                KeyError,
                TypeError,
                IndexError,
                AttributeError,
                RecursionError,
                OverflowError,
            ) as error:
                self.incoming.reject_frame(rest, error)
                return type(error).__name__
            for event in events or ():
                if isinstance(event, (TradeRows, CandleRow, BadRow)):
                    found = self.incoming.deliver(event)
                    lost = lost or found
        trades, _ = gathered.take()
        for _, one in self.incoming.deliver_live(trades) if trades else ():
            lost = lost or one
        return None if lost is None else lost.reason.split(" ", 1)[0]

    def answer(self, text: str, kind: Kind) -> str | None:
        """The same for a REST answer."""
        try:
            answer = decode(text)
        except (ValueError, RecursionError) as error:
            return type(error).__name__  # ccxt gives such an answer as text, which no venue's parser takes
        try:
            if kind == "trades":
                assert isinstance(self.venue, TradeHistory)
                page = history.read(self.name, "trades", answer, _parse_trades(self.venue, answer))
                trades = history.checked_trades(self.name, "X/Y", page.trades, NOW_US)
                self.store.add_trades(Instrument(1, self.name, "X/Y"), trades)
            else:
                assert isinstance(self.venue, CandleHistory)
                found = history.read(self.name, "candles", answer, _parse_candles(self.venue, answer))
                candles = history.checked_candles(self.name, "X/Y", found, NOW_US)
                self.store.add_candles(Instrument(1, self.name, "X/Y"), candles)
        except MalformedAnswer as error:
            check_printable(str(error))
            return "MalformedAnswer"
        return None


def _parse_trades(venue: TradeHistory, answer: Any) -> Callable[[], Any]:
    return lambda: venue.parse_trades(answer, 1000)


def _parse_candles(venue: CandleHistory, answer: Any) -> Callable[[], Sequence[Candle]]:
    return lambda: venue.parse_candles(answer)


def check_printable(text: str) -> None:
    """It may be shown on a terminal."""
    assert all(char.isprintable() for char in text), repr(text)


async def _nothing(symbol: str, since_us: int | None = None, limit: int | None = None) -> list[Candle]:
    return []


def fuzz(seeds: dict[str, Seeds], count: int, seed: int) -> Figures:
    """So many mutations over all exchanges that have seeds."""
    figures, mutator, rnd = Figures(), Mutator(seed), random.Random(seed)
    readers = [
        (_reader(name, venue, found), found) for name, found in sorted(seeds.items()) for venue in FAST_VENUES[name][:1]
    ]
    for number in range(count):
        reader, found = readers[number % len(readers)]
        kinds = [("frames", found.frames), ("trades", found.trades), ("candles", found.candles)]
        usable = [(kind, texts) for kind, texts in kinds if texts]
        kind, texts = usable[0] if len(usable) == 1 or rnd.random() < 0.6 else rnd.choice(usable)
        text = mutator.mutate(rnd.choice(texts), rnd.choice(texts))
        if kind == "frames":
            reason = reader.frame(text)
        else:
            reason = reader.answer(text, "trades" if kind == "trades" else "candles")
        if number % 500 == 0:
            reader.router.tick(NOW_US)
        figures.inputs += 1
        if reason is not None:
            figures.refused += 1
            figures.reasons[reason] += 1
    figures.rows = sum(reader.store.rows for reader, _ in readers)
    return figures


def _reader(name: str, venue: FastVenue, seeds: Seeds) -> Reader:
    """Its markets are those that its unbroken frames speak of."""
    session, wires = venue.session(), dict[str, None]()
    for text in seeds.frames:
        for event in session.parse(text) or ():
            if isinstance(event, (TradeRows, CandleRow)):
                wires[event.wire] = None
    assert wires or not seeds.frames, f"no seed of {name} is understood"
    return Reader(name, session, list(wires))


# --- seeds


async def simulated() -> dict[str, Seeds]:
    """A few seconds of both protocols of the local exchange."""
    settings = SimulatorSettings(MarketSettings(symbols=4, rate=100, history_s=3600))
    async with Simulator(settings) as simulator, aiohttp.ClientSession() as session:
        return {
            "kraken": await _kraken(simulator, session),
            "binance": await _binance(simulator, session),
        }


async def _kraken(simulator: Simulator, session: aiohttp.ClientSession) -> Seeds:
    names = list(simulator.venue("kraken").listings)
    kraken = FAST_VENUES["kraken"][0]
    seeds = Seeds()
    async with session.ws_connect(simulator.ws_url("kraken") + "/v2") as socket:
        for number, kind in enumerate(("trades", "candles")):
            await socket.send_json(kraken.subscribe(kind, names, number))  # type: ignore[arg-type]
        seeds.frames = await _read(socket)
    rest = simulator.rest_url("kraken") + "/0/public"
    pair = names[0].replace("/", "").replace("BTC", "XBT")
    seeds.trades = [await _get(session, f"{rest}/Trades?pair={pair}&count=20")]
    seeds.candles = [await _get(session, f"{rest}/OHLC?pair={pair}&interval=1", rows=15)]
    return seeds


async def _binance(simulator: Simulator, session: aiohttp.ClientSession) -> Seeds:
    names = [name.replace("/", "") for name in simulator.venue("binance").listings]
    binance = FAST_VENUES["binance"][0]
    seeds = Seeds()
    async with session.ws_connect(simulator.ws_url("binance") + "/stream") as socket:
        for number, kind in enumerate(("trades", "candles"), start=1):
            await socket.send_json(binance.subscribe(kind, [n.lower() for n in names], number))  # type: ignore[arg-type]
        seeds.frames = await _read(socket)
    rest = simulator.rest_url("binance") + "/api/v3"
    seeds.trades = [await _get(session, f"{rest}/aggTrades?symbol={names[0]}&limit=20")]
    seeds.candles = [await _get(session, f"{rest}/klines?symbol={names[0]}&interval=1m&limit=15")]
    return seeds


async def _read(socket: aiohttp.ClientWebSocketResponse) -> list[str]:
    frames: list[str] = []
    async with asyncio.timeout(30):
        while len(frames) < 150:
            frames.append(await socket.receive_str())
    return frames


async def _get(session: aiohttp.ClientSession, url: str, rows: int = 0) -> str:
    async with session.get(url) as answer:
        text = await answer.text()
    assert answer.status == 200, text
    if rows:
        document = json.loads(text)
        for name, value in document["result"].items():
            if isinstance(value, list):
                document["result"][name] = value[-rows:]
        text = json.dumps(document)
    assert "rror" not in text or '"error":[]' in text.replace(" ", ""), text[:300]
    return text


def recorded() -> dict[str, Seeds]:
    """The recordings, where there are any."""
    root = os.environ.get("OHLCVD_REAL_DATA")
    seeds: dict[str, Seeds] = {}
    for name, folder in RECORDINGS.items() if root else ():
        frames: list[str] = []
        for file in ("ws_derived.jsonl.gz", "ws.jsonl.gz"):
            path = Path(root or "") / folder / file
            if path.exists() and not frames:
                frames = _understood(FAST_VENUES[name][0], path)
        if frames:
            seeds[name] = Seeds(frames)
    return seeds


def _understood(venue: FastVenue, path: Path) -> list[str]:
    """The frames of a recording up to the 150th with rows; all that the venue's file reads, in their order."""
    found: list[str] = []
    rows = 0
    session = venue.session()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            frame = json.loads(line)
            if frame.get("dir", "in") != "in":
                continue
            try:
                events = session.parse(frame["raw"])
            except (ValueError, KeyError, TypeError, IndexError):
                continue
            if events:
                found.append(frame["raw"])
                rows += any(isinstance(event, (TradeRows, CandleRow)) for event in events)
            if rows == 150:
                break
    return found if rows else []


def joined(one: dict[str, Seeds], other: dict[str, Seeds]) -> dict[str, Seeds]:
    result = dict(one)
    for name, seeds in other.items():
        mine = result.setdefault(name, Seeds())
        result[name] = Seeds(mine.frames + seeds.frames, mine.trades + seeds.trades, mine.candles + seeds.candles)
    return result
