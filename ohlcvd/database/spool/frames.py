"""One batch as bytes on disk, and back. Pure.

A frame is a head (magic, length and number of rows, CRC-32 over all that follows it and the two numbers) and a JSON
document that a person can read with `strings`. Markets go by exchange and symbol: the ids of instruments belong to one
database, and the next start may find another. Whatever is not exactly a frame is recognised: a torn one, zeros that a
crash left at the end of a file, a flipped bit.
"""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ohlcvd.coverage import Range
from ohlcvd.database.batch import Claim, Pending
from ohlcvd.database.encode import split_id
from ohlcvd.market import Candle, Instrument, Trade

MAGIC: Final = b"OHS1"
_HEAD: Final = struct.Struct("!4sIII")
HEAD_BYTES: Final = _HEAD.size
_NUMBERS: Final = struct.Struct("!II").pack
# No batch comes near it; a length beyond it is not a length.
MAX_BYTES: Final = 256 << 20

Market = tuple[str, str]  # exchange, symbol


class Head(NamedTuple):
    """What a frame says of itself."""

    length: int
    rows: int
    checksum: int


def encode(pending: Pending) -> bytes:
    """The frame of a batch."""
    places: dict[int, int] = {}
    markets: list[Market] = []

    def place(instrument: Instrument) -> int:
        found = places.get(instrument.id)
        if found is None:
            found = places[instrument.id] = len(markets)
            markets.append((instrument.exchange, instrument.symbol))
        return found

    document = {
        "trades": [
            (place(pending.instrument(instrument_id)), t.ts_us, t.id, t.price, t.amount, t.side, ordinal)
            for instrument_id, _, ordinal, t in pending.rows
        ],
        "candles": [(place(instrument), *candle) for instrument, own in pending.candles for candle in own],
        "covered": [(place(i), kind, ranges) for (i, kind), ranges in pending.covered.items()],
        "uncovered": [(place(i), kind, ranges) for (i, kind), ranges in pending.uncovered.items()],
        "duplicates": pending.duplicates,
        "corrections": pending.corrections,
        "markets": markets,
    }
    payload = json.dumps(document, separators=(",", ":")).encode()
    rows = len(pending)
    return _HEAD.pack(MAGIC, len(payload), rows, _checksum(payload, rows)) + payload


def read_head(data: bytes) -> Head | None:
    """The head at the beginning of `data`, or None if there is none."""
    if len(data) < HEAD_BYTES:
        return None
    magic, length, rows, checksum = _HEAD.unpack_from(data)
    return Head(length, rows, checksum) if magic == MAGIC and length <= MAX_BYTES else None


def is_whole(head: Head, payload: bytes) -> bool:
    """Whether these are the bytes that were written."""
    return len(payload) == head.length and _checksum(payload, head.rows) == head.checksum


def _checksum(payload: bytes, rows: int) -> int:
    return zlib.crc32(payload, zlib.crc32(_NUMBERS(len(payload), rows)))


def decode(payload: bytes) -> dict[str, Any]:
    """The document of a whole frame."""
    document: dict[str, Any] = json.loads(payload)
    return document


def markets_of(document: Mapping[str, Any]) -> list[Market]:
    """The markets that it speaks of."""
    return [(exchange, symbol) for exchange, symbol in document["markets"]]


def absorb(
    pending: Pending, document: Mapping[str, Any], instruments: Mapping[Market, Instrument], *, claims: bool
) -> None:
    """Add what a frame holds behind what `pending` has; without `claims` nothing of it is called covered."""
    places = [instruments[market] for market in markets_of(document)]
    rows = [
        (places[place].id, *_keyed(ordinal, Trade(ts_us, venue_id, price, amount, side)))
        for place, ts_us, venue_id, price, amount, side, ordinal in document["trades"]
    ]
    pending.absorb(
        places,
        rows,
        [(places[place], Candle(*values)) for place, *values in document["candles"]],
        uncovered=_claims(document["uncovered"], places),
        covered=_claims(document["covered"], places) if claims else {},
    )
    pending.duplicates += document["duplicates"]
    pending.corrections += document["corrections"]


def _keyed(ordinal: int | None, trade: Trade) -> tuple[int, int | None, Trade]:
    return split_id(trade.id)[0], ordinal, trade


def _claims(entries: Sequence[Any], places: Sequence[Instrument]) -> dict[Claim, list[Range]]:
    return {(places[place], kind): [(lower, upper) for lower, upper in ranges] for place, kind, ranges in entries}
