"""Upbit: trades only; its live candles are of 1 second in ccxt. Pure parsing of frames that are binary and hold text.

Sources: global-docs.upbit.com/reference, "WebSocket / General Info", "Trade"; ccxt's class; recorded frames.

- `sequential_id` identifies a trade, the same on REST. `ask_bid` is the taker's: BID bought. `trade_timestamp` is the
  trade's time in milliseconds (whole seconds in 2021); `timestamp`, which ccxt takes, is the message's.
- A request replaces the one before it on the same connection, so each repeats everything that was asked for so far.
- There is no acknowledgement: a code's first frame, a `SNAPSHOT` of its last trade, shows that it is subscribed.
- No heartbeat: the venue disconnects after 120 s without a message; a protocol ping is sent more often.
- Frames in the SIMPLE format (keys `ty`, `cd`), which is not asked for, are refused aloud: ccxt makes nothing of them.
"""

from collections.abc import Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, OldProtocol, Pulse, Refusal
from ohlcvd.exchange.venues.base import JsonVenue, trade_events
from ohlcvd.market import Kind, Trade


class Upbit(JsonVenue):
    """See the module."""

    kinds: tuple[Kind, ...] = ("trades",)
    symbols_per_request = 50
    request_pace_s = 0.3

    def __init__(self) -> None:
        self._codes: list[str] = []
        self._latest: Sequence[str] = ()

    def session(self) -> Any:
        return Upbit()

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        self._latest = wires
        self._codes += [wire for wire in wires if wire not in self._codes]
        return self._request(request_id)

    def unsubscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        self._codes = [code for code in self._codes if code not in wires]
        return self._request(request_id) if self._codes else None

    def _request(self, request_id: int) -> list[dict[str, Any]]:
        trades = {"type": "trade", "codes": list(self._codes)}
        return [{"ticket": f"ohlcvd-{request_id}"}, trades, {"format": "DEFAULT"}]

    def read(self, frame: Any) -> Sequence[Event] | None:
        if frame.get("type") == "trade":
            wire, is_first = frame["code"], frame.get("stream_type") == "SNAPSHOT"
            venue_us = whole(frame["timestamp"]) * 1000
            answered: list[Event] = [Ack(None, wire, "trades", None)] if is_first else []
            return answered + trade_events(wire, [frame], _trade, snapshot=is_first, venue_us=venue_us)
        if "ty" in frame:
            raise OldProtocol("keys are shortened: the SIMPLE format is not asked for")
        if "error" in frame:
            self._codes = [code for code in self._codes if code not in self._latest]
            return [Refusal(None, None, None, f"{frame['error'].get('message')} ({frame['error'].get('name')})")]
        return (Pulse(),) if "status" in frame else None


def _trade(row: Any) -> Trade:
    ts_us, number = whole(row["trade_timestamp"]) * 1000, str(whole(row["sequential_id"]))
    side: Any = {"BID": "buy", "ASK": "sell"}.get(row["ask_bid"], row["ask_bid"])
    return Trade(ts_us, number, digits(row["trade_price"]), digits(row["trade_volume"]), side)
