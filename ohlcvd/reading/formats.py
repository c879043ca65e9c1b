"""Pieces of lines made into what people and programs read, one piece after the other. Pure.

The lines are CSV, for `as_json` objects of JSON (`database.bulk`). Every format has the same columns. Prices and
amounts are the stored digits, times UTC.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

from ohlcvd.terminal import safe, table

# What makes pieces of a format out of column names and pieces of lines.
Form = Callable[[Sequence[str], Iterable[bytes]], Iterator[bytes]]


def rows_of(piece: bytes) -> list[list[str]]:
    """The rows of a piece; "" is what is not known."""
    return list(csv.reader(io.StringIO(piece.decode(), newline="")))


def as_csv(columns: Sequence[str], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A header, then the pieces as they are."""
    yield (",".join(columns) + "\n").encode()
    yield from pieces


def as_json(columns: Sequence[str], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """One array with an object on each line. JSON holds no line ends but those between objects."""
    before = b"[\n"
    for piece in pieces:
        yield before + piece[:-1].replace(b"\n", b",\n")
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def as_table(columns: Sequence[str], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Aligned columns. Those of later pieces are as wide as those of the first, or wider where they have to."""
    header = [name.upper() if name in ("ts", "trade_id", "side", "source") else f">{name.upper()}" for name in columns]
    widths = [0] * len(columns)
    for number, piece in enumerate(pieces):
        rows = [[_time_for_people(row[0]), *(cell or "-" for cell in row[1:])] for row in rows_of(piece)]
        widths = [
            max(width, len(name), *(len(safe(row[column])) for row in rows))
            for column, (width, name) in enumerate(zip(widths, columns, strict=True))
        ]
        # A row of dashes as wide as the widest cell so far: it is cut off again.
        lines = table(header, [*rows, ["-" * width for width in widths]])[:-1]
        yield ("\n".join(lines[1 if number else 0 :]) + "\n").encode()


def _time_for_people(text: str) -> str:
    return text.removesuffix("+00").removesuffix(":00") if text.endswith(":00+00") else text.removesuffix("+00")
