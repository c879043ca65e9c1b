"""Crypto.com Exchange: WebSocket v1 market data. Pure parsing.

Sources: exchange-docs.crypto.com/exchange/v1/rest-ws, "trade.{instrument_name}", "candlestick.{time_frame}.{...}",
"Heartbeats"; ccxt's class. No recording: tested with the documented frames.

- Trade ids (`d`) are whole numbers that grow, the same on REST. `s` is the taker's side, times are milliseconds. Rows
  are put in order of time and id: the venue sends the newest first.
- The answer to a request bears its `id` and holds the latest trades or candles: a snapshot, and the acknowledgement. An
  unknown channel refuses the whole request.
- Candles have no closed flag.
- The venue asks for a sign of life every 30 s (`public/heartbeat`): 40 s without is a dead stream.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ohlcvd.exchange.exact import digits, whole
from ohlcvd.exchange.venue import Ack, Event, Question, Refusal, Silence
from ohlcvd.exchange.venues.base import JsonVenue, candle, candle_events, numbered, taker, trade_events
from ohlcvd.market import Candle, Kind, Trade

_CHANNELS: dict[Kind, str] = {"trades": "trade.", "candles": "candlestick.1m."}


class Cryptocom(JsonVenue):
    """See the module."""

    symbols_per_request = 20
    silence = Silence(data_s=40.0, any_s=45.0)

    def stream_url(self, urls: Mapping[str, Any], connection: int) -> str:
        return numbered(urls["api"]["ws"]["public"], connection)

    def subscribe(self, kind: Kind, wires: Sequence[str], request_id: int) -> Any:
        channels = [_CHANNELS[kind] + wire for wire in wires]
        return {"id": request_id, "method": "subscribe", "params": {"channels": channels}}

    def read(self, frame: Any) -> Sequence[Event] | None:
        if frame.get("method") == "public/heartbeat":
            return (Question({"id": frame["id"], "method": "public/respond-heartbeat"}),)
        if frame.get("method") != "subscribe":
            return None
        number = frame.get("id") if whole(frame.get("id", 0)) > 0 else None
        if frame.get("code"):
            return (Refusal(number, None, None, f"{frame.get('message')} (code {frame['code']})"),)
        result = frame.get("result")
        if result is None:
            return () if number is None else (Ack(number, None, None, None),)
        wire, is_trades = result["instrument_name"], result["channel"] == "trade"
        answered: list[Event] = (
            [] if number is None else [Ack(number, wire, "trades" if is_trades else "candles", None)]
        )
        if is_trades:
            rows = sorted(result["data"], key=lambda row: (whole(row["t"]), whole(row["d"])))
            return answered + trade_events(wire, rows, _trade, snapshot=number is not None)
        if result.get("interval") not in ("1m", "M1"):
            raise ValueError(f"interval is {result.get('interval')!r}, not 1m")
        return answered + candle_events(wire, result["data"], _candle, snapshot=number is not None)


def _trade(row: Any) -> Trade:
    return Trade(whole(row["t"]) * 1000, str(whole(row["d"])), digits(row["p"]), digits(row["q"]), taker(row["s"]))


def _candle(row: Any) -> tuple[Candle, bool]:
    return candle(whole(row["t"]) * 1000, row["o"], row["h"], row["l"], row["c"], row["v"]), False
