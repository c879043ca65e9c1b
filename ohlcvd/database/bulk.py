"""Reading very much: rows as text straight out of COPY, in pieces of whole lines, never all of them in memory.

They are CSV, or an object of JSON each, which the server makes several times as fast as Python would; or candles, taken
apart while the server goes on writing.

Blocking, for commands and threads: psycopg's asynchronous COPY costs ten times as much per row. One statement, so all
of it is of one moment. ServiceUnavailable when the database cannot be reached, or is lost on the way.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any, Final, Literal, NamedTuple

import psycopg

from ohlcvd.database.conninfo import with_defaults
from ohlcvd.database.encode import moment
from ohlcvd.database.errors import translated
from ohlcvd.market import Candle, CandleSource, Kind
from ohlcvd.memory import many_objects

# For those who may not know psycopg.
Connection = psycopg.Connection[tuple[Any, ...]]

Lines = Literal["csv", "json"]

_PIECE_BYTES: Final = 256 * 1024
_FAR_PAST_US: Final = 0
_FAR_FUTURE_US: Final = 250_000_000_000_000_000

_INSTRUMENT: Final = "SELECT id FROM ohlcvd.instruments WHERE exchange = %(exchange)s AND symbol = %(symbol)s"
_MARKET: Final = "instrument_id = %(instrument)s AND ts >= %(since)s AND ts < %(until)s"
_TRADES: Final = f"""SELECT ts, coalesce(venue_id, trade_id::text), price, amount,
    CASE side WHEN 'b' THEN 'buy' ELSE 'sell' END, ordinal, trade_id FROM ohlcvd.trades WHERE {_MARKET}"""
_MINUTES: Final = f"""SELECT ts, open, high, low, close, volume, trades,
    CASE source WHEN 'v' THEN 'venue' ELSE 'trades' END FROM ohlcvd.candles_1m WHERE {_MARKET}"""
# One word for each value: the microseconds of whole seconds, digits, \N for none, a letter.
_MINUTE_WORDS: Final = f"""COPY (SELECT date_part('epoch', ts)::bigint * 1000000, open, high, low, close, volume,
    trades, source FROM ohlcvd.candles_1m WHERE {_MARKET} ORDER BY ts) TO STDOUT"""
_SOURCES: Final[dict[str, CandleSource]] = {"v": "venue", "t": "trades"}
_LONGER: Final = """SELECT ts, open, high, low, close, volume, trades
    FROM ohlcvd.ohlcv(%(exchange)s, %(symbol)s, %(timeframe)s, %(since)s, %(until)s)"""

# JSON text holds no character below the space: with these nothing is quoted or escaped a second time.
_FORMATS: Final[dict[Lines, str]] = {
    "csv": "FORMAT csv",
    "json": r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'",
}
# What is not a text of its digits in JSON; `date` and `time` are ISO.
_JSON: Final = {
    "ts": """'"', {c}::date, 'T', {c}::time, 'Z"'""",
    "trades": "coalesce({c}::text, 'null')",
    "trade_id": "to_json({c})",
}

TRADE_COLUMNS: Final = ("ts", "trade_id", "price", "amount", "side")
CANDLE_COLUMNS: Final = ("ts", "open", "high", "low", "close", "volume", "trades")
# Only a stored minute comes from one source.
MINUTE_COLUMNS: Final = (*CANDLE_COLUMNS, "source")


class Selection(NamedTuple):
    """What to read of one market: [since, until), of it the newest `limit` rows, or the first if `first`."""

    exchange: str
    symbol: str
    kind: Kind
    timeframe: str = "1m"
    since_us: int | None = None
    until_us: int | None = None
    limit: int | None = None
    first: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        if self.kind == "trades":
            return TRADE_COLUMNS
        return MINUTE_COLUMNS if self.timeframe == "1m" else CANDLE_COLUMNS


def read_pieces(conninfo: str, selection: Selection, lines: Lines = "csv") -> Iterator[bytes]:
    """Whole lines, oldest row first, without a header.

    In CSV, times are `2026-01-31 12:00:00+00`, in UTC and with as many decimals as they need; what is not known is
    empty. In JSON they are `2026-01-31T12:00:00Z`, and prices and amounts text, so that no reader makes floats of them
    unasked.
    """
    with connected(conninfo) as connection:
        yield from pieces_over(connection, selection, lines)


@contextmanager
def connected(conninfo: str) -> Iterator[Connection]:
    """A connection for `pieces_over`: for those who read many times."""
    with translated("reading rows"):
        connection = psycopg.connect(with_defaults(conninfo, "ohlcvd reading"), autocommit=True)
        try:
            connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO'; SET jit = off")
            yield connection
        finally:
            connection.close()


def pieces_over(connection: Connection, selection: Selection, lines: Lines = "csv") -> Generator[bytes, None, None]:
    """The same as `read_pieces`, one after the other over one connection."""
    yield from _copied(connection, selection, _query(selection, lines))


def read_minutes(conninfo: str, selection: Selection) -> list[Candle]:
    """Every stored minute in [since, until), oldest first. Meanwhile Python does not look for cycles."""
    candles: list[Candle] = []
    with connected(conninfo) as connection, many_objects():
        for piece in _copied(connection, selection, _MINUTE_WORDS):
            words = piece.decode("ascii").split()
            trades = [None if word == r"\N" else int(word) for word in words[6::8]]
            texts = (words[place::8] for place in range(1, 6))
            columns = zip(map(int, words[0::8]), *texts, trades, map(_SOURCES.__getitem__, words[7::8]), strict=True)
            candles += map(tuple.__new__, repeat(Candle), columns)  # their own way takes twice the time
    return candles


def _copied(connection: Connection, selection: Selection, query: str) -> Generator[bytes, None, None]:
    """What COPY sends, whole lines."""
    parameters: dict[str, object] = {
        "exchange": selection.exchange,
        "symbol": selection.symbol,
        "timeframe": selection.timeframe,
        "since": moment(_FAR_PAST_US if selection.since_us is None else selection.since_us),
        "until": moment(_FAR_FUTURE_US if selection.until_us is None else selection.until_us),
        "limit": selection.limit,
    }
    # Looked up first: with the id itself the planner knows how many rows there are, and reads them in order.
    found = connection.execute(_INSTRUMENT, parameters).fetchone()
    parameters["instrument"] = found[0] if found else None
    with connection.cursor() as cursor, cursor.copy(query.encode(), parameters) as copy:
        yield from _joined(copy)


def _joined(copy: psycopg.Copy) -> Iterator[bytes]:
    """One piece of many rows: the server sends each row by itself.

    Rows that have arrived are taken from libpq: to ask psycopg, which is ready to wait for each, costs ten times that.
    """
    parts: list[bytes | bytearray | memoryview] = []
    size = 0
    pgconn = copy.connection.pgconn
    while True:
        length, data = pgconn.get_copy_data(1)
        if length < 0:
            _end(pgconn)
            break
        # as bytes, in which Python looks for no cycles
        row = bytes(data) if length else copy.read()  # nothing there yet: psycopg waits, and knows the end, too
        if not row:
            break
        parts.append(row)
        size += len(row)
        if size >= _PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _end(pgconn: psycopg.pq.abc.PGconn) -> None:
    """Take what follows the last row. psycopg.Error if the server says that it was not all."""
    while result := pgconn.get_result():
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)


def _query(selection: Selection, lines: Lines) -> str:
    columns = ", ".join(f"c{number}" for number in range(1, len(selection.columns) + 1))
    source, names, order = _LONGER, columns, ["c1"]
    if selection.kind == "trades":
        source, names, order = _TRADES, f"{columns}, ordinal, trade_id", ["c1", "ordinal", "trade_id"]
    elif selection.timeframe == "1m":
        source = _MINUTES
    forward, backward = ", ".join(order), ", ".join(f"{name} DESC" for name in order)
    query = f"SELECT * FROM ({source}) AS r ({names}) ORDER BY {forward}"
    if selection.limit is not None:
        query += " LIMIT %(limit)s"
        if not selection.first:
            newest = f"SELECT * FROM ({source}) AS r ({names}) ORDER BY {backward} LIMIT %(limit)s"
            query = f"SELECT * FROM ({newest}) AS n ORDER BY {forward}"
    shown = _shown(selection.columns, lines)
    return f"COPY (SELECT {shown} FROM ({query}) AS q ORDER BY {forward}) TO STDOUT ({_FORMATS[lines]})"


def _shown(names: Sequence[str], lines: Lines) -> str:
    """What is on a line, of columns c1, c2, ..."""
    numbers = range(1, len(names) + 1)
    if lines == "json":
        pairs: list[str] = []
        for name, number in zip(names, numbers, strict=True):
            value = _JSON.get(name, """'"', {c}, '"'""").format(c=f"c{number}")
            pairs.append(f"""'{"," if pairs else "{"}"{name}":', {value}""")
        return f"concat({', '.join(pairs)}, '}}')"
    return ", ".join(f"c{number}" for number in numbers)
