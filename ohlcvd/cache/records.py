"""The keys of the fullon programs, which ohlcvd writes for them and never reads. Pure.

| key | type | holds |
|---|---|---|
| `process:data:<id>` | string, 24 h | JSON: process_id, process_type, component, params, status, message, |
| | | created_at, updated_at, heartbeat |
| `process:active:<type>` | hash | process_id -> updated_at, of those that are not stopped |
| `process:components` | hash | component -> process_id, likewise |
| `ohlcv:<symbol>:<timeframe>` | list | JSON arrays [ts, open, high, low, close, volume], oldest first, at most 10,000 |
| `trades:<exchange>:<symbol without slash>` | list | JSON objects, oldest first, at most 10,000 |

Every collector of a running daemon has a record of type "ohlcv", the only one that those readers know for it: component
"kraken:BTC/USD", and where candles and trades are both collected, "kraken:BTC/USD:trades" for the trades. It is renewed
every RENEW_S. The id is `<type>:<component>`, the same for every run, so that restarts leave no trail of dead ids.

Times are ISO 8601 in UTC; a bar's `ts` is in seconds. The last two are written only with `fullon_keys = yes`. As their
readers want them, they hold floats and grow at the end only: what is repaired or corrected later is not in them, and
since the key has no exchange in it, a minute of a symbol comes from the exchange that had it first.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from ohlcvd.cache.keys import Command, Publication, compact
from ohlcvd.market import SECOND_US, Candle, Instrument, Trade

ProcessStatus = Literal["starting", "running", "processing", "idle", "error", "stopped"]

RECORD_S: Final = 86_400
RENEW_S: Final = 10.0
BARS: Final = 10_000
COLLECTOR_TYPE: Final = "ohlcv"

# Appends what is newer than the last element, in one act: others may write the same list, and after a restart the same
# rows come again. An element's time is its first value or its `timestamp`; of two trades of one time, ids tell.
_APPEND: Final = """
local last = redis.call('LINDEX', KEYS[1], -1)
local newest, id = -1, nil
if last then last = cjson.decode(last); newest = tonumber(last[1] or last.timestamp) or -1; id = last.ex_trade_id end
for i = 2, #ARGV do
  local one = cjson.decode(ARGV[i])
  local at = tonumber(one[1] or one.timestamp)
  if at > newest or (at == newest and one.ex_trade_id and one.ex_trade_id ~= id) then
    redis.call('RPUSH', KEYS[1], ARGV[i])
    newest, id = at, one.ex_trade_id
  end
end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
"""


class Record(NamedTuple):
    """One process as those readers see it."""

    type: str
    component: str
    status: ProcessStatus
    message: str
    params: Mapping[str, object]
    created_at: str

    @property
    def process_id(self) -> str:
        return f"{self.type}:{self.component}"


def record_commands(records: Iterable[Record], now: datetime) -> list[Command]:
    """Writes or renews the records, with a fresh heartbeat. What is stopped is taken off the hashes."""
    at = now.astimezone(UTC).isoformat()
    commands: list[Command] = []
    active: dict[str, list[str]] = {}
    components: list[str] = []
    for record in records:
        data = {
            "process_id": record.process_id,
            "process_type": record.type,
            "component": record.component,
            "params": dict(record.params),
            "status": record.status,
            "message": record.message,
            "created_at": record.created_at,
            "updated_at": at,
            "heartbeat": at,
        }
        commands.append(("SET", f"process:data:{record.process_id}", compact(data), "EX", RECORD_S))
        if record.status == "stopped":
            commands.append(("HDEL", f"process:active:{record.type}", record.process_id))
            commands.append(("HDEL", "process:components", record.component))
        else:
            active.setdefault(record.type, []).extend((record.process_id, at))
            components.extend((record.component, record.process_id))
    commands += [("HSET", f"process:active:{type_}", *pairs) for type_, pairs in active.items()]
    if components:
        commands.append(("HSET", "process:components", *components))
    return commands


def list_commands(publication: Publication) -> list[Command]:
    """Appends a publication to the lists."""
    commands: list[Command] = []
    for instrument, candles in filter(_has_rows, publication.candles.items()):
        bars = [compact(bar(candle)) for candle in sorted(candles, key=lambda one: one.ts_us)]
        commands.append(_append(f"ohlcv:{instrument.symbol}:1m", bars))
    for instrument, trades in filter(_has_rows, publication.trades.items()):
        rows = [compact(_trade(instrument, trade)) for trade in sorted(trades, key=lambda one: one.ts_us)]
        commands.append(_append(f"trades:{instrument.exchange}:{instrument.symbol.replace('/', '')}", rows))
    return commands


def bar(candle: Candle) -> list[float]:
    """[ts in seconds, open, high, low, close, volume]."""
    numbers = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return [candle.ts_us // SECOND_US, *map(float, numbers)]


def _has_rows(market: tuple[Instrument, Sequence[object]]) -> bool:
    return bool(market[1])


def _append(key: str, elements: Sequence[str]) -> Command:
    return ("EVAL", _APPEND, 1, key, BARS, *elements[-BARS:])


def _trade(instrument: Instrument, trade: Trade) -> dict[str, object]:
    price, volume = float(trade.price), float(trade.amount)
    return {
        "ex_trade_id": trade.id,
        "symbol": instrument.symbol,
        "side": trade.side,
        "price": price,
        "volume": volume,
        "cost": price * volume,
        "timestamp": trade.ts_us / SECOND_US,
        "time": datetime.fromtimestamp(trade.ts_us / SECOND_US, UTC).isoformat(),
    }
