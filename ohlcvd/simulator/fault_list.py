"""Every fault by its name: what it does, what its value means, how it is switched on. The list is FAULTS.

A fault is one function decorated with @fault(name, help). It gets a Target: the venue, a symbol or None for "any",
and the text after the `=`, or None. Faults that happen once (`once=True`) happen again and again when given at the
start (`--fault garbage=10`: every 10 s), because nobody is connected yet.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ohlcvd.errors import UsageError
from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.clock import SystemClock
from ohlcvd.simulator.faults import REST_KINDS, RestFault
from ohlcvd.simulator.sent import IdRanges
from ohlcvd.simulator.tape import MinuteCandle, fixed, scaled
from ohlcvd.simulator.venue import Venue

REPEAT_S: Final = 15.0  # how often a one-time fault given at the start happens, unless its value says so


@dataclass(frozen=True, slots=True)
class Target:
    """Where a fault strikes. `spawn` runs something later, for as long as the simulator runs."""

    venue: Venue
    symbol: str | None
    value: str | None
    spawn: Callable[[float, Callable[[], None]], None]

    def seconds(self, default: float) -> float:
        return _number(self.value, default)

    def count(self, default: int) -> int:
        return int(_number(self.value, default))

    def needs_symbol(self) -> str:
        """The symbol, also given as the value."""
        symbol = self.symbol or self.value
        if symbol is None:
            raise UsageError("this fault needs a symbol")
        return symbol


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    help: str
    apply: Callable[[Target], int]  # how many connections, frames or symbols it touched
    once: bool


FAULTS: Final[dict[str, Fault]] = {}


def fault(name: str, help_: str, *, once: bool = False) -> Callable[[Callable[[Target], int]], Callable[[Target], int]]:
    def register(apply: Callable[[Target], int]) -> Callable[[Target], int]:
        FAULTS[name] = Fault(name, help_, apply, once)
        return apply

    return register


def find_fault(name: str) -> Fault:
    try:
        return FAULTS[name]
    except KeyError:
        raise UsageError(f"no fault is called {name!r}; there are {', '.join(FAULTS)}") from None


# connections


@fault("cut", "close every WebSocket of the venue at once, without a goodbye", once=True)
def _cut(target: Target) -> int:
    count = len(target.venue.connections)
    target.venue.abort_all()
    return count


@fault("close", "close every WebSocket properly, code 1001", once=True)
def _close(target: Target) -> int:
    for connection in target.venue.connections.values():
        connection.close_with(1001, b"going away")
    return len(target.venue.connections)


@fault("silence", "send nothing for N seconds (30), sockets stay open; what was due is lost", once=True)
def _silence(target: Target) -> int:
    target.venue.faults.silent_until_mono = time.monotonic() + target.seconds(30)
    return len(target.venue.connections)


@fault("deaf", "the connections there are now stay open for ever, but nobody listens or speaks any more", once=True)
def _deaf(target: Target) -> int:
    for connection in target.venue.connections.values():
        connection.deaf = True
    return len(target.venue.connections)


@fault("messages", "Binance: disconnect a client that sends more than N messages (5) in a second")
def _messages(target: Target) -> int:
    target.venue.faults.messages_per_s = target.count(5)
    return 1


@fault("clock", "the venue's clock is N seconds ahead (behind if negative)")
def _clock(target: Target) -> int:
    clock = target.venue.clock
    if not isinstance(clock, SystemClock):
        raise UsageError("the clock of a replay cannot be set")
    clock.offset_ns = int(target.seconds(0) * 1e9)
    return 1


# frames


@fault("garbage", "a frame that is no JSON", once=True)
def _garbage(target: Target) -> int:
    return _inject(target, "garbage", lambda text: "\x00\x7f<html>502 Bad Gateway</html> {{{" + text[:20])


@fault("cut-json", "a trade frame that ends in the middle", once=True)
def _cut_json(target: Target) -> int:
    return _inject(target, "cut-json", lambda text: text[: len(text) * 2 // 3])


@fault("missing-fields", "a trade without price", once=True)
def _missing_fields(target: Target) -> int:
    return _inject(target, "missing-fields", lambda text: re.sub(r'"(price|p)":[^,]*,', "", text))


@fault("negative-price", "a trade with a price below zero", once=True)
def _negative_price(target: Target) -> int:
    return _inject(target, "negative-price", lambda text: re.sub(r'("(?:price|p)":"?)', r"\1-", text))


@fault("future-time", "a trade that is N seconds (3600) in the future", once=True)
def _future_time(target: Target) -> int:
    return _inject(target, "future-time", str, shift_ns=int(target.seconds(3600) * 1e9))


def _inject(target: Target, name: str, spoil: Callable[[str], str], shift_ns: int = 0) -> int:
    """Sends an invented, spoiled trade to whoever has trades; its id is one that never comes."""
    venue, count = target.venue, 0
    touched: set[int] = set()  # one frame for each connection is enough
    for connection, subscription in venue.subscribers(target.symbol, "trade"):
        symbol = subscription.symbol
        if connection.number in touched or not venue.is_listed(symbol):
            continue
        touched.add(connection.number)
        last = venue.visible(symbol) - 1
        (real,) = venue.tape(symbol).executions(last, last + 1)
        fake = real._replace(id=last + 10**9, ts_ns=venue.clock.now_ns() + shift_ns)
        for text in venue.trade_frames(symbol, [fake], combined=connection.combined):
            connection.send(spoil(text))
            count += 1
    venue.faults.injected[name] += count
    return count


@fault("resend", "the last N trades (100) once more", once=True)
def _resend(target: Target) -> int:
    venue, count = target.venue, 0
    for connection, subscription in venue.subscribers(target.symbol, "trade"):
        symbol = subscription.symbol
        start = max(venue.tape(symbol).first_id, subscription.cursor - target.count(100))
        executions = venue.executions(symbol, start, subscription.cursor)
        for text in venue.trade_frames(symbol, executions, combined=connection.combined):
            connection.send(text)
        count += len(executions)
    return count


@fault("duplicate-frames", "send every N-th frame (10) twice; 0 ends it")
def _duplicate_frames(target: Target) -> int:
    target.venue.faults.duplicate_every = target.count(10)
    return 1


# symbols and trades


@fault("refuse", "refuse new subscriptions of a symbol")
def _refuse(target: Target) -> int:
    target.venue.faults.refused.add(target.needs_symbol())
    return 1


@fault("delist", "the symbol is not traded any more")
def _delist(target: Target) -> int:
    target.venue.faults.delisted.add(target.needs_symbol())
    return 1


@fault("list", "undo refuse and delist of a symbol, or list one that was never there")
def _list(target: Target) -> int:
    target.venue.list_symbol(target.needs_symbol())
    return 1


@fault("mute", "send nothing more of a symbol by WebSocket until somebody subscribes to it anew; what was due is lost")
def _mute(target: Target) -> int:
    target.venue.faults.muted.add(target.needs_symbol())
    return 1


@fault("withhold", "never send nor show the next N trades (5) of a symbol", once=True)
def _withhold(target: Target) -> int:
    symbols = [target.symbol] if target.symbol else list(target.venue.watchers)
    for symbol in symbols:
        next_id = target.venue.visible(symbol)
        target.venue.faults.withheld.setdefault(symbol, IdRanges()).add(next_id, next_id + target.count(5))
    return len(symbols)


# candles


@fault("revise", "correct the last closed candle, N seconds (5) from now", once=True)
def _revise(target: Target) -> int:
    closed = _last_closed(target)
    for symbol, candle in closed:
        target.spawn(target.seconds(5), partial(_send_revision, target.venue, symbol, candle))
    return len(closed)


@fault("stale-candle", "send the last closed candle once more as it was after its first trade", once=True)
def _stale_candle(target: Target) -> int:
    closed = _last_closed(target)
    for symbol, candle in closed:
        tape = target.venue.tape(symbol)
        stale = tape.minute(candle.ts_us, tape.id_at(candle.ts_us * 1000) + 1)
        if stale is not None:
            _send_candle(target.venue, symbol, stale, closed=False)
    return len(closed)


def _last_closed(target: Target) -> list[tuple[str, MinuteCandle]]:
    """The latest closed minute with trades of each symbol that somebody has candles of."""
    venue, found = target.venue, {}
    running = venue.clock.now_ns() // 1000 // MINUTE_US * MINUTE_US
    for _, subscription in venue.subscribers(target.symbol, "candle"):
        for back in range(1, 61):
            candle = venue.minute(subscription.symbol, running - back * MINUTE_US, venue.visible(subscription.symbol))
            if candle is not None and candle.trades:
                found[subscription.symbol] = candle
                break
    return list(found.items())


def _send_revision(venue: Venue, symbol: str, candle: MinuteCandle) -> None:
    decimals = venue.listings[symbol].decimals
    high = fixed(scaled(candle.high, decimals) + 10, decimals)
    volume = fixed(scaled(candle.volume, 8) + 12_345, 8)
    revised = candle._replace(
        high=high, close=high, volume=volume, trades=candle.trades + 1, raw_trades=candle.raw_trades + 1
    )
    venue.faults.revisions[symbol, candle.ts_us] = revised
    _send_candle(venue, symbol, revised, closed=True)


def _send_candle(venue: Venue, symbol: str, candle: MinuteCandle, *, closed: bool) -> None:
    for connection, _ in venue.subscribers(symbol, "candle"):
        connection.send(venue.candle_frame(symbol, candle, closed=closed, combined=connection.combined))


# REST


def _rest(kind: str) -> Callable[[Target], int]:
    def apply(target: Target) -> int:
        """The value is how many seconds (10), or how many requests when it ends in x (3x)."""
        value, left = target.value or "10", None
        seconds = 1e9
        if value.endswith("x"):
            left = int(_number(value[:-1] or value, 1))
        else:
            seconds = _number(value, 10)
        retry_after_s = max(1, round(seconds)) if kind in ("418", "429") and left is None else 1
        target.venue.faults.rest = RestFault(
            kind, time.monotonic() + seconds, left, retry_after_s if kind in ("418", "429") else 0
        )
        return 1

    return apply


for _kind in REST_KINDS:
    fault(f"rest-{_kind}", f"answer REST requests with {_kind} for N seconds (10) or N requests (Nx)")(_rest(_kind))


@fault("rest-ok", "end every REST fault")
def _rest_ok(target: Target) -> int:
    target.venue.faults.rest = None
    return 1


@fault("requests", "allow N REST requests a second (averaged over 10 s); 0 ends the limit")
def _requests(target: Target) -> int:
    target.venue.faults.requests_per_s = target.seconds(1) or None
    return 1


@fault("market-requests", "allow N REST requests a second for the history of each market (averaged over 10 s)")
def _market_requests(target: Target) -> int:
    target.venue.faults.market_requests_per_s = target.seconds(1) or None
    return 1


def _number(text: str | None, default: float) -> float:
    if text is None or text == "":
        return default
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number") from None
