"""How many rows are stored in a stretch of time. ServiceUnavailable when the database cannot be reached."""

from collections.abc import Iterable
from typing import Final

from ohlcvd.coverage import Range
from ohlcvd.database.encode import moment
from ohlcvd.database.pool import Database
from ohlcvd.market import Kind

_COUNT: Final[dict[Kind, bytes]] = {
    "trades": b"SELECT count(*) FROM ohlcvd.trades WHERE instrument_id = %s AND ts >= %s AND ts < %s",
    "candles": b"SELECT count(*) FROM ohlcvd.candles_1m WHERE instrument_id = %s AND ts >= %s AND ts < %s",
}


async def rows_in(database: Database, instrument_id: int, kind: Kind, ranges: Iterable[Range]) -> int:
    """The rows of one market whose time lies in `ranges`."""
    rows = 0
    async with database.connection("counting rows") as connection:
        for lower_us, upper_us in ranges:
            bounds = instrument_id, moment(lower_us), moment(upper_us)
            # Not prepared: a generic plan would look through every partition.
            found = await (await connection.execute(_COUNT[kind], bounds, prepare=False)).fetchone()
            rows += int(found[0]) if found else 0
    return rows
