"""PostgreSQL's binary formats, by hand: COPY rows and array parameters straight from a venue's decimal text. Pure.

psycopg's `write_row` with Decimal costs seven times as much, and floats would not be exact. Every value here carries
its 4-byte length in front, as both COPY and arrays want it. Decimal text is what `market.plain_digits` gives; digits
and scale arrive unchanged ("1.500" stays 1.500). What does not fit the server's types is a ValueError, before anything
is sent.
"""

import struct
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, repeat
from typing import Final

import orjson
from psycopg import AsyncConnection
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from ohlcvd.market import Candles, Trade

# One trade as it is stored: instrument_id, trade_id, ordinal, and the trade itself.
TradeRow = tuple[int, int, int | None, Trade]

COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TAIL: Final = b"\xff\xff"
NULL: Final = b"\xff\xff\xff\xff"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 UTC
_TAKER: Final = {"buy": ord("b"), "sell": ord("s")}
# The server's limits: decimals, groups of four digits before the point, groups in all (12,000 digits) in binary.
_MAX_SCALE: Final = 16_383
_MAX_WEIGHT: Final = 32_767
_MAX_GROUPS: Final = 3_000
# No shorter number reaches any of them.
_LONG: Final = 4_000

_TO_8_DECIMALS: Final = [10 ** (8 - scale) for scale in range(9)]

_int8 = struct.Struct("!iq").pack
_int4 = struct.Struct("!ii").pack
_char = struct.Struct("!iB").pack
_numeric_8_8 = struct.Struct("!ihhHhHHHH").pack
_trade_head = struct.Struct("!hiqiqiiiB").pack
_SOURCES: Final = {"venue": _char(1, ord("v")), "trades": _char(1, ord("t"))}


def split_id(venue_id: str) -> tuple[int, bool]:
    """The bigint that stands for a venue's trade id, and whether it is the id itself.

    A whole number below 2**63 in canonical form ("123", not "0123") is its own key. Any other text gets a negative
    63-bit hash, which can never meet a number of the first kind.
    """
    try:
        number = int(venue_id) if len(venue_id) < 20 else -1
    except ValueError:
        number = -1
    if 0 <= number < 1 << 63 and str(number) == venue_id:
        return number, True
    digest = blake2b(venue_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -1 - (int.from_bytes(digest) >> 1), False


def whole_numbers(venue_ids: Sequence[str]) -> list[int] | None:
    """The bigints of ids that are all whole numbers (see `split_id`), in a fraction of the time; else None."""
    try:
        numbers = [*map(int, venue_ids)]
    except ValueError:
        return None
    joined = "".join(venue_ids)
    if numbers and not (joined.isascii() and joined.isdigit() and max(numbers) < 1 << 63):
        return None
    if min(venue_ids, default="1")[0] == "0" and [*map(str, numbers)] != [*venue_ids]:  # "0123"
        return None
    return numbers


def moment(ts_us: int) -> datetime:
    """As an ordinary parameter. OverflowError beyond the year 9999."""
    return _EPOCH + timedelta(microseconds=ts_us)


def numeric(text: str) -> bytes:
    """NUMERIC with its length: groups of four digits, the weight of the first, the number of decimals."""
    whole, _, fraction = text.partition(".")
    scale = len(fraction)
    if scale <= 8 and len(whole) <= 8:  # nearly every price there is: four fixed groups; the server drops zero ones
        high, low = divmod(int(whole + fraction) * _TO_8_DECIMALS[scale], 100_000_000)
        return _numeric_8_8(16, 4, 1, 0, scale, high // 10_000, high % 10_000, low // 10_000, low % 10_000)
    return _numeric_general(whole.lstrip("0"), fraction)


def _numeric_general(whole: str, fraction: str) -> bytes:
    digits = "0" * (-len(whole) % 4) + whole + fraction + "0" * (-len(fraction) % 4)
    groups = [int(digits[i : i + 4]) for i in range(0, len(digits), 4)]
    weight = (len(whole) + 3) // 4 - 1
    first = next((i for i, group in enumerate(groups) if group), len(groups))
    while len(groups) > first and not groups[-1]:
        groups.pop()
    groups = groups[first:]
    weight = weight - first if groups else 0
    n = len(groups)
    if len(fraction) > _MAX_SCALE or weight > _MAX_WEIGHT or n > _MAX_GROUPS:
        raise ValueError(f"a number of {len(whole)} digits and {len(fraction)} decimals is beyond PostgreSQL's numeric")
    return struct.pack(f"!ihhHh{n}H", 8 + 2 * n, n, weight, 0, len(fraction), *groups)


# Prices repeat; amounts do not often enough. 8,192 entries are about 1 MB.
_price = lru_cache(maxsize=8192)(numeric)


def copy_rows(rows: Iterable[TradeRow]) -> bytes:
    """Rows of `COPY ohlcvd.trades FROM STDIN (FORMAT binary)`, between COPY_HEAD and COPY_TAIL."""
    return b"".join(
        [
            _trade_head(8, 8, ts_us - _POSTGRES_EPOCH_US, 8, trade_id, 4, instrument_id, 1, _TAKER[side])
            + _price(price)
            + numeric(amount)
            + (_text(venue_id) if trade_id < 0 else NULL)
            + (NULL if ordinal is None else _int4(4, ordinal))
            for instrument_id, trade_id, ordinal, (ts_us, venue_id, price, amount, side) in rows
        ]
    )


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(4) + data


class _Array(bytes):
    """A whole array parameter in binary."""

    element_oid: int


class Int4Array(_Array):
    element_oid = 23


class TimestampArray(_Array):
    element_oid = 1184


class Int8Array(bytes):
    """A whole array parameter as text, which costs a twentieth."""


class NumericArray(bytes):
    """A whole array parameter as text: the venue's digits as they stand. To take them apart for binary costs four times
    as much here, and saves the server nothing that could be measured."""


class CharArray(_Array):
    element_oid = 18


class TextArray(_Array):
    element_oid = 25


def int4_array(values: Iterable[int | None]) -> Int4Array:
    return Int4Array(_array(Int4Array, [NULL if v is None else _int4(4, v) for v in values]))


def int8_array(values: Iterable[int | None]) -> Int8Array:
    try:
        return Int8Array(b"{%b}" % orjson.dumps([*values])[1:-1])
    except TypeError as error:
        raise ValueError(f"not a number of 64 bits: {error}") from error


def timestamp_array(values_us: Iterable[int]) -> TimestampArray:
    return TimestampArray(_array(TimestampArray, [_int8(8, v - _POSTGRES_EPOCH_US) for v in values_us]))


def numeric_array(values: Iterable[str]) -> NumericArray:
    """Of plain digits; ValueError for text that would be read as several, and for numbers that are too long."""
    texts = [*values]
    joined = ",".join(texts)
    if texts and joined.count(",") != len(texts) - 1:
        raise ValueError("not a decimal number: it has a comma")
    if _may_be_long(joined) and max(map(len, texts)) > _LONG:
        deque(map(numeric, texts), 0)  # which refuses what COPY could not carry either
    return NumericArray(f"{{{joined}}}".encode("ascii"))


def _may_be_long(joined: str) -> bool:
    """Whether one of these may have more than _LONG characters: half as many stand somewhere without a comma then. To
    measure each takes as long as all the rest."""
    return any(joined.find(",", at, at + _LONG // 2) < 0 for at in range(0, len(joined), _LONG // 2))


def char_array(values: Iterable[str]) -> CharArray:
    """The type "char": one ASCII character each."""
    return CharArray(_array(CharArray, [*map(_char, repeat(1), map(ord, values))]))


def text_array(values: Iterable[str | None]) -> TextArray:
    return TextArray(_array(TextArray, [NULL if v is None else _text(v) for v in values]))


def _array(kind: type[_Array], elements: Sequence[bytes]) -> bytes:
    # one dimension, nulls allowed, element type, length, lower bound 1
    return struct.pack("!iiIii", 1, 1, kind.element_oid, len(elements), 1) + b"".join(elements)


def trade_columns(rows: Sequence[TradeRow]) -> tuple[bytes, ...]:
    """The same rows as `copy_rows`, as the eight arrays of an unnest."""
    return (
        timestamp_array(t.ts_us for _, _, _, t in rows),
        int8_array(trade_id for _, trade_id, _, _ in rows),
        int4_array(instrument_id for instrument_id, _, _, _ in rows),
        char_array("b" if t.side == "buy" else "s" for _, _, _, t in rows),
        numeric_array(t.price for _, _, _, t in rows),
        numeric_array(t.amount for _, _, _, t in rows),
        text_array(t.id if trade_id < 0 else None for _, trade_id, _, t in rows),
        int4_array(ordinal for _, _, ordinal, _ in rows),
    )


def candle_columns(candles: Sequence[tuple[int, Candles]]) -> tuple[bytes, ...]:
    """Candles with the ids of their instruments as the nine arrays of an unnest: times, numbers of trades, instruments,
    sources, and the five numbers of each."""
    times_us, opens, highs, lows, closes, volumes, trades, sources = Candles.joined([own for _, own in candles]).columns
    instruments = chain.from_iterable(repeat(_int4(4, instrument_id), len(own)) for instrument_id, own in candles)
    return (
        timestamp_array(times_us),
        int8_array(trades),
        Int4Array(_array(Int4Array, [*instruments])),
        CharArray(_array(CharArray, [*map(_SOURCES.__getitem__, sources)])),
        *map(numeric_array, (opens, highs, lows, closes, volumes)),
    )


class _ArrayDumper(Dumper):
    def dump(self, obj: bytes) -> Buffer | None:
        return obj


def _dumper(array_oid: int, how: Format = Format.BINARY) -> type[_ArrayDumper]:
    return type(f"_ArrayDumper{array_oid}", (_ArrayDumper,), {"oid": array_oid, "format": how})


_DUMPERS: Final = {
    CharArray: _dumper(1002),
    Int4Array: _dumper(1007),
    TextArray: _dumper(1009),
    Int8Array: _dumper(1016, Format.TEXT),
    TimestampArray: _dumper(1185),
    NumericArray: _dumper(1231, Format.TEXT),
}


def register_arrays(connection: AsyncConnection) -> None:
    """Teaches a connection to send the arrays of this module."""
    for kind, dumper in _DUMPERS.items():
        connection.adapters.register_dumper(kind, dumper)
