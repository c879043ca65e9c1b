"""Asks an exchange over REST and turns every way in which that fails into one of three errors.

- `ExchangeUnavailable`: cannot be reached, overloaded, in maintenance, or asks for a pause (`retry_after_s`).
- `UnknownSymbol`: it does not list this market.
- `MalformedAnswer`: it answered with something else than its protocol says (HTML, cut JSON, rows that cannot be true).
  ccxt would have made an empty list or rows of None of it; here it never looks like "nothing happened in that range".
"""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import aiohttp

from ohlcvd.errors import ExchangeError, ExchangeUnavailable, MalformedAnswer, UnknownSymbol
from ohlcvd.exchange import loading
from ohlcvd.exchange.client import first_line
from ohlcvd.exchange.rejects import readable
from ohlcvd.market import (
    Candle,
    Candles,
    Trade,
    are_faultless,
    are_faultless_candles,
    ascend,
    candle_fault,
    trade_fault,
)


def _ccxt_error(name: str) -> Any:
    return loading.ccxt_name("ccxt.base.errors", name)


_BASE = _ccxt_error("BaseError")
_UNKNOWN_SYMBOL = (_ccxt_error("BadSymbol"),)
_MALFORMED = (_ccxt_error("BadResponse"), _ccxt_error("NullResponse"))
_UNAVAILABLE = (
    _ccxt_error("NetworkError"), _ccxt_error("OperationFailed"), _ccxt_error("RateLimitExceeded"),
    _ccxt_error("ExchangeClosedByUser"),
)  # fmt: skip

_REFUSED = (_ccxt_error("RateLimitExceeded"), _ccxt_error("DDoSProtection"))

# HTTP 418, "I'm a teapot", is what those are told who went on after 429; without an end it lasts two minutes at least.
_BAN = re.compile(r"\b418\b")
_BAN_S = 120.0
_BANNED_UNTIL = re.compile(r"until\s+(\d{13})\b")
Rows = TypeVar("Rows")
_ts_us = itemgetter(0)  # of a candle

_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


async def ask(exchange: Any, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
    """The answer of one REST call. `what` names the question in the error's sentence."""
    try:
        return await call()
    except _BASE as error:
        raise _translated(exchange, what, error) from error
    except _UNREADABLE as error:
        # ccxt's own code stumbled over the answer.
        raise MalformedAnswer(
            f"{exchange.id} answered the question for {what} with something else ({type(error).__name__}: {error})"
        ) from error


def _translated(exchange: Any, what: str, error: Any) -> ExchangeError:
    sentence = f"{exchange.id} does not give {what}: {type(error).__name__}: {readable(first_line(error))}"
    if isinstance(error, _UNKNOWN_SYMBOL) or "Unknown asset pair" in str(error):
        return UnknownSymbol(sentence)
    if isinstance(error, _MALFORMED) or isinstance(error.__cause__, aiohttp.ClientPayloadError):
        return MalformedAnswer(sentence)
    if isinstance(error, _UNAVAILABLE) or isinstance(error.__cause__, aiohttp.ClientError):
        retry_after_s = _retry_after_s(exchange, error)
        if isinstance(error, _REFUSED) or retry_after_s is not None:
            exchange.allowance.refused(retry_after_s)
        return ExchangeUnavailable(sentence, retry_after_s=retry_after_s)
    return ExchangeError(sentence)


def _retry_after_s(exchange: Any, error: Any) -> float | None:
    """How long the venue wants to be left alone: its Retry-After header, or "banned until <ms>" in its sentence."""
    if error.__cause__ is not None:
        return None  # there was no answer; the headers are an older one's
    headers = {str(name).lower(): value for name, value in (exchange.last_response_headers or {}).items()}
    text = str(headers.get("retry-after", ""))
    pauses = [float(text)] if re.fullmatch(r"\d{1,7}(\.\d+)?", text) else []
    until = _BANNED_UNTIL.search(str(error))
    if until is not None:
        pauses.append(max(0.0, int(until[1]) / 1000 - time.time()))
    if not pauses and isinstance(error, _REFUSED) and _BAN.search(str(error)):
        pauses.append(_BAN_S)
    return max(pauses, default=None)


def read(exchange_id: str, what: str, answer: Any, parse: Callable[[], Rows]) -> Rows:
    """What `parse` makes of an answer; MalformedAnswer when it is not what it should be."""
    try:
        return parse()
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise MalformedAnswer(
            f"{exchange_id} answered the question for {what} with something else ({reason}): {readable(answer)}"
        ) from error


def checked_candles(exchange_id: str, symbol: str, candles: Sequence[Candle], now_us: int) -> Candles:
    """The same candles, oldest first; MalformedAnswer when one cannot be true or two are of the same minute."""
    page = Candles.of(candles)
    if ascend(page.times_us) and are_faultless_candles(page, now_us):
        return page
    page = Candles.of(sorted(candles, key=_ts_us))
    last_us = None
    for candle in page:
        fault = "the minute comes twice" if candle.ts_us == last_us else candle_fault(candle, now_us)
        if fault is not None:
            raise MalformedAnswer(f"{exchange_id} gave a candle of {symbol} that cannot be true: {fault}: {candle}")
        last_us = candle.ts_us
    return page


def checked_trades(exchange_id: str, symbol: str, trades: list[Trade], now_us: int) -> list[Trade]:
    """The same trades; MalformedAnswer when one cannot be true."""
    if are_faultless(trades, now_us):
        return trades
    for trade in trades:
        fault = trade_fault(trade, now_us)
        if fault is not None:
            raise MalformedAnswer(f"{exchange_id} gave a trade of {symbol} that cannot be true: {fault}: {trade}")
    return trades
