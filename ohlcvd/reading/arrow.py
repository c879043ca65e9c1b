"""Parquet and Arrow, where pyarrow is installed: exact decimals, piece by piece.

Times are timestamps in UTC to the microsecond, prices and amounts decimals of 38 digits with 18 after the point.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from ohlcvd.errors import UsageError

_DIGITS: Final = 38
_DECIMALS: Final = 18
# Of text: some 60,000 candles. A file of small groups is twice as large and takes three times as long to read.
_GROUP_BYTES: Final = 4 * 1024 * 1024


def as_parquet(columns: Sequence[str], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A Parquet file, compressed."""
    arrow = _pyarrow("parquet")
    from pyarrow import parquet

    schema = _schema(arrow, columns)
    sink = _Sink()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in _grouped(pieces):
            writer.write_table(_table(arrow, schema, group))
            yield sink.take()
    yield sink.take()


def as_arrow(columns: Sequence[str], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """An Arrow IPC stream, as `pyarrow.ipc.open_stream` reads it."""
    arrow = _pyarrow("arrow")
    schema = _schema(arrow, columns)
    sink = _Sink()
    with arrow.ipc.new_stream(sink, schema) as writer:
        for piece in pieces:
            writer.write_table(_table(arrow, schema, piece))
            yield sink.take()
    yield sink.take()


def frame_of(columns: Sequence[str], pieces: Iterable[bytes], *, exact: bool = False) -> Any:
    """A pandas DataFrame indexed by time; prices and amounts as floats, or `exact` as Decimals. UsageError without
    pandas."""
    try:
        import pandas
    except ImportError:
        raise UsageError("a frame needs pandas, which is not installed: pip install pandas") from None
    from decimal import Decimal

    kinds = {name: _PANDAS.get(name, "object" if exact else "float64") for name in columns[1:]}
    exactly = {name: Decimal for name, kind in kinds.items() if kind == "object"}
    frame = pandas.read_csv(
        io.BytesIO(b"".join(pieces)),
        names=list(columns),
        dtype={name: kind for name, kind in kinds.items() if name not in exactly},
        converters=exactly,
        keep_default_na=False,
        na_values={"trades": [""]},
    )
    frame["ts"] = pandas.to_datetime(frame["ts"], utc=True, format="ISO8601")
    return frame.set_index("ts")


_PANDAS: Final = {"trades": "Int64", "trade_id": "str", "side": "str", "source": "str"}


def _pyarrow(form: str) -> Any:
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.ipc
    except ImportError:
        raise UsageError(
            f"the format {form} needs pyarrow, which is not installed: pip install 'ohlcvd[arrow]', or take csv or json"
        ) from None
    return pyarrow


def _schema(arrow: Any, columns: Sequence[str]) -> Any:
    kinds = {
        "ts": arrow.timestamp("us", tz="UTC"),
        "trades": arrow.int64(),
        **dict.fromkeys(("trade_id", "side", "source"), arrow.string()),
    }
    number = arrow.decimal128(_DIGITS, _DECIMALS)
    return arrow.schema([(name, kinds.get(name, number)) for name in columns])


def _grouped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Many pieces as one."""
    parts: list[bytes] = []
    for piece in pieces:
        parts.append(piece)
        if sum(map(len, parts)) >= _GROUP_BYTES:
            yield b"".join(parts)
            parts = []
    if parts:
        yield b"".join(parts)


def _table(arrow: Any, schema: Any, piece: bytes) -> Any:
    try:
        return arrow.csv.read_csv(
            io.BytesIO(piece),
            read_options=arrow.csv.ReadOptions(column_names=schema.names, block_size=max(len(piece), 1)),
            convert_options=arrow.csv.ConvertOptions(column_types=schema, strings_can_be_null=False),
        )
    except arrow.ArrowInvalid as error:
        raise UsageError(
            f"a value does not fit into a decimal of {_DIGITS} digits, take csv or json: {error}"
        ) from error


class _Sink(io.RawIOBase):
    """Where pyarrow writes; what has come is taken out of it, so that it never grows."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
