"""What ohlcvd keeps in Redis: names, forms and limits of every key. Pure: no clock, no I/O.

| key | type | holds | goes |
|---|---|---|---|
| `ohlcvd:heartbeat:<child>` | string | the child's heartbeat, a JSON object | 10 s after the last beat |
| `ohlcvd:markets:<child>` | string | JSON object {symbol: {...}}, the state of each market | 30 s after the last one |
| `ohlcvd:candle:<exchange>:<symbol>` | string | the forming candle, a JSON object | 120 s after its last trade |
| `ohlcvd:trades:<exchange>:<symbol>` | stream | committed trades | oldest first, above 1,000 entries |
| `ohlcvd:candles:<exchange>:<symbol>` | stream | committed closed candles | oldest first, above 1,500 entries |

A child is an exchange ("kraken") or one shard of it ("binance/2").

A stream entry is one commit's rows of one market. Its only field, `rows`, is a compact JSON array of at most 500:

    trades:  [[id, ts_us, price, amount, side], ...]
    candles: [[ts_us, open, high, low, close, volume, trades, source], ...]

`ts_us` is microseconds since 1970 UTC (of a candle: its open time), prices and amounts are the venue's digits as
strings, `trades` is null where the venue does not say. Entries stand in the order of the commits. A consumer keys on
the trade's id or the candle's open time: the same row may come twice (a corrected candle always does), and the entry's
own id says only when it was published. Only recent rows are published, seen from the newest venue time: trades of the
last hour and candles of the last day. What is older is history, which PostgreSQL has; a long backfill must not push
live rows out of the stream.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

import orjson

from ohlcvd.market import MINUTE_US, SECOND_US, Candle, Instrument, Kind, Trade, times_of

HEARTBEAT_S = 10
MARKETS_S = 30
# The candle's own minute, and as long again for the venue to close it and for us to store it.
FORMING_S = 120

# Memory decides: some 0.5 MB for a market with 8 trades in each entry. A market that commits once a second has the
# last quarter of an hour in its stream, a quiet one has hours.
TRADE_ENTRIES = 1_000
CANDLE_ENTRIES = 1_500  # over a day of minutes
ENTRY_ROWS = 500  # bounds one entry, and with the number of entries the memory of a stream
TRADE_WINDOW_US = 3_600 * SECOND_US
CANDLE_WINDOW_US = 86_400 * SECOND_US

CAPS: dict[Kind, int] = {"trades": TRADE_ENTRIES, "candles": CANDLE_ENTRIES}

HEARTBEAT = "ohlcvd:heartbeat:"
MARKETS = "ohlcvd:markets:"
FORMING = "ohlcvd:candle:"

_ONLY_JSON = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_TS_US = itemgetter(0)
_TRADE_ROW = itemgetter(1, 0, 2, 3, 4)

Command = tuple[str | bytes | int, ...]


class Publication(Protocol):
    """What a commit made durable; the writer's batch is one."""

    @property
    def trades(self) -> Mapping[Instrument, Sequence[Trade]]: ...
    @property
    def candles(self) -> Mapping[Instrument, Sequence[Candle]]: ...
    @property
    def covered(self) -> Mapping[tuple[Instrument, Kind], Sequence[tuple[int, int]]]: ...


def exchange_of(child: str) -> str:
    """The exchange that a child collects: "binance/2" -> "binance"."""
    return child.partition("/")[0]


def forming_key(exchange: str, symbol: str) -> str:
    return f"{FORMING}{exchange}:{symbol}"


def stream_key(kind: Kind, exchange: str, symbol: str) -> str:
    return f"ohlcvd:{kind}:{exchange}:{symbol}"


def set_json(key: str, document: object, expires_s: int) -> Command:
    return ("SET", key, compact(document), "EX", expires_s)


def compact(document: object) -> str:
    """JSON without spaces. What JSON does not know becomes its str(): a heartbeat must not fail for a Path in it."""
    try:
        return orjson.dumps(document, option=_ONLY_JSON).decode()  # a tenth of json's time
    except TypeError:
        return json.dumps(document, separators=(",", ":"), default=str)


def newest_us(publication: Publication) -> int:
    """The venue time up to which this publication speaks; 0 when it speaks of nothing."""
    newest = max(map(_TS_US, chain.from_iterable(publication.trades.values())), default=0)
    for candles in publication.candles.values():
        newest = max(newest, max(times_of(candles), default=-MINUTE_US) + MINUTE_US)
    for ranges in publication.covered.values():
        newest = max(newest, max((upper for _, upper in ranges), default=0))
    return newest


def stream_entries(publication: Publication, now_us: int) -> Iterator[Command]:
    """The XADD commands of one publication, trades first; `now_us` is the newest venue time seen."""
    oldest_us = now_us - TRADE_WINDOW_US
    times_us = map(_TS_US, chain.from_iterable(publication.trades.values()))
    are_recent = min(times_us, default=oldest_us) >= oldest_us  # nearly always
    for instrument, trades in publication.trades.items():
        recent = trades if are_recent else [trade for trade in trades if trade.ts_us >= oldest_us]
        rows: list[object] = [*map(_TRADE_ROW, recent)]
        yield from _entries(stream_key("trades", instrument.exchange, instrument.symbol), rows, TRADE_ENTRIES)
    for instrument, candles in publication.candles.items():
        oldest_us = now_us - CANDLE_WINDOW_US
        has_recent = max(times_of(candles), default=0) >= oldest_us  # history has none
        rows = [tuple(candle) for candle in candles if candle.ts_us >= oldest_us] if has_recent else []
        yield from _entries(stream_key("candles", instrument.exchange, instrument.symbol), rows, CANDLE_ENTRIES)


def _entries(key: str, rows: list[object], cap: int) -> Iterator[Command]:
    for start in range(0, len(rows), ENTRY_ROWS):
        yield "XADD", key, "MAXLEN", "~", cap, "*", "rows", orjson.dumps(rows[start : start + ENTRY_ROWS]).decode()


def parse_trades(rows: str | bytes) -> list[Trade]:
    """The trades of one stream entry. ValueError or TypeError where it is not one of ours."""
    return [Trade(ts_us, id, price, amount, side) for id, ts_us, price, amount, side in _rows(rows)]


def parse_candles(rows: str | bytes) -> list[Candle]:
    """The candles of one stream entry. ValueError or TypeError where it is not one of ours."""
    return [Candle(*row) for row in _rows(rows)]


def parse_forming(text: str | bytes) -> Candle:
    """A forming candle. ValueError or TypeError where it is not one of ours."""
    return Candle(**parse_object(text))


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object. ValueError for anything else."""
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError(f"not a JSON object: {text[:50]!r}")
    return document


def _rows(text: str | bytes) -> list[list[Any]]:
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise ValueError(f"not a JSON array: {text[:50]!r}")
    return rows
