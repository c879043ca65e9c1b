"""Pieces of CSV in every format: the same digits, whatever is cut where."""

import io
import json
from collections.abc import Callable
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest

from ohlcvd.database.bulk import CANDLE_COLUMNS, MINUTE_COLUMNS, TRADE_COLUMNS
from ohlcvd.errors import UsageError
from ohlcvd.reading import arrow, formats
from ohlcvd.reading.formats import Form

TRADES = [
    b'2026-03-01 12:00:00+00,7,100.50,0.00010000,buy\n2026-03-01 12:00:00.25+00,"a,""b",100,1,sell\n',
    b"2026-03-01 12:00:00.000001+00,007,123456789.123456789012345678,2,sell\n",
]
MINUTES = [b"2026-03-01 12:00:00+00,1.10,2,0.5,1,0.0,3,venue\n2026-03-01 12:01:00+00,1,1,1,1,0.1,,trades\n"]


def whole(form: Form, columns: tuple[str, ...], pieces: list[bytes]) -> bytes:
    return b"".join(form(columns, iter(pieces)))


def test_csv_is_the_pieces_below_a_header() -> None:
    assert whole(formats.as_csv, TRADE_COLUMNS, TRADES) == b"ts,trade_id,price,amount,side\n" + b"".join(TRADES)
    assert whole(formats.as_csv, TRADE_COLUMNS, []) == b"ts,trade_id,price,amount,side\n"


def test_json_is_one_array_of_the_lines() -> None:
    pieces = [b'{"ts":"1"}\n{"ts":"2"}\n', b'{"ts":"3"}\n']
    assert whole(formats.as_json, TRADE_COLUMNS, pieces) == b'[\n{"ts":"1"},\n{"ts":"2"},\n{"ts":"3"}\n]\n'
    assert json.loads(whole(formats.as_json, TRADE_COLUMNS, [])) == []


def test_a_table_is_aligned_and_cannot_steer_the_terminal() -> None:
    lines = whole(formats.as_table, TRADE_COLUMNS, [*TRADES, b"2026-03-01 12:00:01+00,\x1b[2J,1,1,buy\n"]).decode()
    assert lines.splitlines()[0].split() == ["TS", "TRADE_ID", "PRICE", "AMOUNT", "SIDE"]
    assert lines.splitlines()[1].split() == ["2026-03-01", "12:00", "7", "100.50", "0.00010000", "buy"]
    assert "\x1b" not in lines
    minutes = whole(formats.as_table, MINUTE_COLUMNS, MINUTES).decode().splitlines()
    assert minutes[2].split() == ["2026-03-01", "12:01", "1", "1", "1", "1", "0.1", "-", "trades"]
    assert minutes[0].index("SOURCE") == minutes[1].index("venue")
    assert whole(formats.as_table, TRADE_COLUMNS, []) == b""


def test_a_later_piece_is_as_wide_as_the_first() -> None:
    wide = b"2026-03-01 12:00:00+00,1,100000000.5,1,buy\n"
    first, second = formats.as_table(TRADE_COLUMNS, iter([wide, b"2026-03-01 12:00:00+00,2,5,1,buy\n"]))
    assert len(first.decode().splitlines()[1]) == len(second.decode().splitlines()[0])


def read_parquet(data: bytes) -> pyarrow.Table:
    return pyarrow.parquet.read_table(io.BytesIO(data))


def read_stream(data: bytes) -> pyarrow.Table:
    return pyarrow.ipc.open_stream(data).read_all()


@pytest.mark.parametrize(("form", "read"), [(arrow.as_parquet, read_parquet), (arrow.as_arrow, read_stream)])
def test_parquet_and_arrow_are_exact(form: Form, read: Callable[[bytes], pyarrow.Table]) -> None:
    rows = read(whole(form, TRADE_COLUMNS, TRADES)).to_pylist()
    assert [row["trade_id"] for row in rows] == ["7", 'a,"b', "007"]
    assert [row["price"] for row in rows] == [Decimal("100.5"), Decimal(100), Decimal("123456789.123456789012345678")]
    assert rows[1]["ts"].isoformat() == "2026-03-01T12:00:00.250000+00:00"
    assert [row["trades"] for row in read(whole(form, MINUTE_COLUMNS, MINUTES)).to_pylist()] == [3, None]
    empty = read(whole(form, CANDLE_COLUMNS, []))
    assert (empty.num_rows, empty.schema.names) == (0, list(CANDLE_COLUMNS))
    with pytest.raises(UsageError, match="does not fit into a decimal of 38 digits"):
        whole(form, TRADE_COLUMNS, [b"2026-03-01 12:00:00+00,1,0.0000000000000000001,1,buy\n"])


def test_a_parquet_file_has_few_groups_of_many_rows() -> None:
    pieces = [b"".join(b"2026-03-01 12:00:00+00,%d,1.5,2.50,buy\n" % n for n in range(n, n + 5000)) for n in
              range(0, 120_000, 5000)]  # fmt: skip
    file = pyarrow.parquet.ParquetFile(io.BytesIO(whole(arrow.as_parquet, TRADE_COLUMNS, pieces)))
    assert file.num_row_groups == 2
    assert [int(trade_id.as_py()) for trade_id in file.read()["trade_id"]] == list(range(120_000))


def test_a_frame_has_floats_or_exact_decimals() -> None:
    frame = arrow.frame_of(TRADE_COLUMNS, TRADES)
    assert list(frame["price"]) == [100.5, 100.0, 123456789.12345679]
    assert list(frame["trade_id"]) == ["7", 'a,"b', "007"]
    assert frame.index[1].isoformat() == "2026-03-01T12:00:00.250000+00:00"
    assert arrow.frame_of(TRADE_COLUMNS, TRADES, exact=True)["amount"].iloc[0] == Decimal("0.0001")
    assert list(arrow.frame_of(MINUTE_COLUMNS, MINUTES)["trades"].isna()) == [False, True]
    assert len(arrow.frame_of(MINUTE_COLUMNS, [])) == 0
