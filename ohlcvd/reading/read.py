"""`ohlcvd candles` and `ohlcvd trades`: one market's rows to standard output, or drawn in the terminal."""

import shutil
import sys
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import BinaryIO, Final

from ohlcvd.config import Config
from ohlcvd.database.bulk import Lines, Selection, read_pieces
from ohlcvd.database.inventory import markets_of
from ohlcvd.errors import UsageError
from ohlcvd.reading import arrow, formats, plot
from ohlcvd.reading.formats import Form
from ohlcvd.report.access import address_of, ask_database, check_market
from ohlcvd.report.times import timeframe_us
from ohlcvd.terminal import wants_colour

FORMS: Final[dict[str, Form]] = {
    "table": formats.as_table,
    "csv": formats.as_csv,
    "json": formats.as_json,
    "parquet": arrow.as_parquet,
    "arrow": arrow.as_arrow,
}
# Of what a format is made.
LINES: Final[dict[str, Lines]] = {"json": "json"}
BINARY: Final = ("parquet", "arrow")


def checked_address(config: Config, exchange: str, symbol: str) -> str:
    """Where the database is. UsageError with the nearest names if it has no such market."""
    address = address_of(config)
    check_market(ask_database(config, markets_of), exchange, symbol)
    return address


def write(config: Config, selection: Selection, form: str) -> int:
    """Write the rows to standard output. How many bytes were written; nothing but a header is no error."""
    if form in BINARY and sys.stdout.isatty():
        raise UsageError(f"{form} is not for a terminal: send it into a file, > {selection.kind}.{form}")
    address = checked_address(config, selection.exchange, selection.symbol)
    sys.stdout.flush()
    lines = read_pieces(address, selection, LINES.get(form, "csv"))
    return copy_to(sys.stdout.buffer, FORMS[form](selection.columns, lines))


def copy_to(file: BinaryIO, pieces: Iterable[bytes]) -> int:
    """Write piece by piece, so that whoever reads has it as soon as it is there. How many bytes there were."""
    size = 0
    for piece in pieces:
        file.write(piece)
        file.flush()
        size += len(piece)
    return size


def draw(config: Config, selection: Selection) -> str:
    """The newest candles of the selection as a chart that fits into the terminal and leaves a line for the prompt."""
    address = checked_address(config, selection.exchange, selection.symbol)
    width, height = shutil.get_terminal_size()
    fits = plot.columns_for(width)
    limit = fits if selection.limit is None else min(fits, selection.limit)
    newest = selection._replace(limit=limit, first=False)
    rows = [row for piece in read_pieces(address, newest) for row in formats.rows_of(piece)]
    name = f"{selection.exchange} {selection.symbol} {selection.timeframe}"
    if not rows:
        return f"{name}: no candles are stored in this time"
    sticks = [
        plot.Stick(int(datetime.fromisoformat(row[0]).timestamp()), *(Decimal(text) for text in row[1:5]))
        for row in rows
    ]
    last = f"{name}   last {rows[-1][4]}, opened {rows[-1][0].removesuffix(':00+00')} UTC"
    length_s = timeframe_us(selection.timeframe) // 1_000_000
    colours = wants_colour(sys.stdout)
    return "\n".join(plot.candlesticks(sticks, length_s, title=last, width=width, height=height - 1, colours=colours))
