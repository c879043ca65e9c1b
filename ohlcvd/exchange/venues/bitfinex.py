"""Bitfinex: WebSocket v2. Pure parsing; the numbers of the channels belong to one connection.

Sources: docs.bitfinex.com, "Ws General", "Ws Public Trades", "Ws Public Candles", "Configuration"; ccxt's class.

- Trade ids are whole numbers that grow with gaps, the same on REST. The amount's sign is the taker's side; times are
  milliseconds. `te` tells of an execution, `tu` repeats it (left out). The snapshot is newest first.
- Candles have no closed flag, come again with each trade, and are newest first in the snapshot; no empty minutes.
- One channel a request, at most 25 a connection; the answer gives the channel's number, without a time.
- Each channel has a heartbeat every 15 s.
- Frames with sequence numbers (a flag that is not set here) are refused aloud: ccxt makes trades without content of
  them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, OldProtocol, Pulse, Refusal, Silence
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, signed, trade_events
from ohlcvd.market import Candle, Kind, Trade

_CANDLES = "trade:1m:"


class Bitfinex(JsonVenue):
    """See the module."""

    streams_per_connection = 25
    silence = Silence(data_s=20.0, any_s=35.0)

    def __init__(self) -> None:
        self._channels: dict[int, tuple[Kind, str]] = {}

    def session(self) -> Any:
        return Bitfinex()

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        return numbered(urls["api"]["ws"]["public"], connection)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        if kind == "trades":
            return {"event": "subscribe", "channel": "trades", "symbol": wires[0]}
        return {"event": "subscribe", "channel": "candles", "key": _CANDLES + wires[0]}

    def unsubscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        channel = next((number for number, name in self._channels.items() if name == (kind, wires[0])), None)
        return None if channel is None else {"event": "unsubscribe", "chanId": channel}

    def read(self, frame: Any) -> Sequence[Event] | None:
        return self._answer(frame) if isinstance(frame, dict) else self._rows(frame)

    def _answer(self, frame: Any) -> Sequence[Event] | None:
        kind: Kind = "candles" if "key" in frame else "trades"
        wire = frame["key"].removeprefix(_CANDLES) if "key" in frame else frame.get("symbol")
        if frame.get("event") == "subscribed" and frame.get("channel") in ("trades", "candles"):
            self._channels[frame["chanId"]] = kind, wire
            return (Ack(None, wire, kind, None),)
        if frame.get("event") == "error":
            return (Refusal(None, wire, kind, f"{frame.get('msg')} (code {frame.get('code')})"),)
        return None

    def _rows(self, frame: Any) -> Sequence[Event] | None:
        channel, what = frame[0], frame[1]
        if len(frame) != (3 if what in ("te", "tu") else 2):
            raise OldProtocol("the array has one value too many: frames with sequence numbers are not asked for")
        if what == "hb":
            return (Pulse(),)
        if channel not in self._channels:
            return None
        kind, wire = self._channels[channel]
        if kind == "trades":
            if isinstance(what, list):
                return trade_events(wire, reversed(what), _trade, snapshot=True)
            return trade_events(wire, [frame[2]], _trade) if what == "te" else ()
        is_snapshot = not what or isinstance(what[0], list)
        return candle_events(wire, reversed(what) if is_snapshot else [what], _candle, snapshot=is_snapshot)


def _trade(row: Any) -> Trade:
    """[id, time in ms, amount, price]"""
    amount, is_sold = signed(row[2])
    return Trade(whole(row[1]) * 1000, str(whole(row[0])), digits(row[3]), amount, "sell" if is_sold else "buy")


def _candle(row: Any) -> tuple[Candle, bool]:
    """[time in ms, open, close, high, low, volume]"""
    start_ms, open_, close, high, low, volume = row
    return candle(whole(start_ms) * 1000, open_, high, low, close, volume), False
