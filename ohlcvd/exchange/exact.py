"""JSON without losing a digit. Pure.

A price sent as the JSON number 105433.60000 must not become the float 105433.6. Numbers with a point or an exponent
are decoded to the very text that was sent; ccxt's parsers take text for numbers everywhere, as its JavaScript original
quotes all numbers.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn

from ohlcvd.market import plain_digits

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number that JSON allows")


decode = json.JSONDecoder(parse_float=str, parse_constant=_refuse_constant).decode


class Unread(list[Any]):
    """An answer of rows that is left to whoever asked to decode, who wants some of the values only: `text` is what was
    received. ccxt takes it for a list; whoever wants rows of it as it is gets a TypeError, so that it never looks like
    an answer without any."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def __iter__(self) -> NoReturn:
        raise TypeError("the answer was not decoded")

    def __str__(self) -> str:
        return self.text


def digits(value: Any) -> str:
    """Plain decimal digits of a decoded number or text; ValueError for anything that is not a non-negative number."""
    if type(value) is str:
        return plain_digits(value)
    if type(value) is int:
        return plain_digits(str(value))
    raise ValueError(f"not a decimal number: {value!r:.50}")


def all_digits(values: Sequence[Any]) -> Sequence[str]:
    """`digits` of each, but text without an exponent comes back as it is, whatever it says: rows are checked anyway."""
    try:
        text = ",".join(values)
    except TypeError:
        return [*map(digits, values)]
    return [*map(digits, values)] if "e" in text or "E" in text else values


def whole(value: Any) -> int:
    """A decoded whole number, also one sent as text; ValueError for anything else."""
    if type(value) is int:
        return value
    if type(value) is str and value.isascii() and value.isdigit():
        return int(value)
    raise ValueError(f"not a whole number: {value!r:.50}")


def all_whole(values: Sequence[Any]) -> Sequence[int]:
    """`whole` of each, in a fraction of the time where all are whole already."""
    return values if {*map(type, values)} == {int} else [*map(whole, values)]


def iso_us(text: Any) -> int:
    """Microseconds of an ISO 8601 time with zone, finer digits floored; ValueError for anything else."""
    if type(text) is not str:
        raise ValueError(f"not an ISO time: {text!r:.50}")
    return _iso_us(text)


@lru_cache(maxsize=16)  # the trades of one order carry the same time
def _iso_us(text: str) -> int:
    moment = datetime.fromisoformat(text)  # Python 3.11 and newer drop the digits beyond microseconds
    if moment.tzinfo is None:
        raise ValueError(f"time without zone: {text!r:.50}")
    return (moment - _EPOCH) // _MICROSECOND


def decimal_seconds_us(value: Any) -> int:
    """Microseconds of a Unix time in seconds given as exact text or number, floored: "1762795433.9717445"."""
    whole_s, _, fraction = digits(value).partition(".")
    return int(whole_s) * 1_000_000 + int(fraction[:6].ljust(6, "0"))
