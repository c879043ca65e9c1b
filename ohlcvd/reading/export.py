"""`ohlcvd export`: whole ranges of a market, one file a day, resumed by being run again.

A file appears under its name only when it is whole: FOLDER/kraken/BTC-USD/trades/2026-01-31.csv. A day that is over and
of which nothing is left to be fetched is final: it is skipped from then on. Any other day is written, too, as
2026-01-31.incomplete.csv, and again at every run until it is final. Days without a row have no file.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from ohlcvd import coverage
from ohlcvd.config import Config
from ohlcvd.coverage import Range
from ohlcvd.database import Database
from ohlcvd.database.bulk import Connection, Selection, connected, pieces_over
from ohlcvd.database.inventory import bounds_of, gaps_of
from ohlcvd.errors import PermissionRefused, ServiceUnavailable
from ohlcvd.market import SECOND_US, Kind
from ohlcvd.reading.read import FORMS, LINES, checked_address, copy_to
from ohlcvd.report.access import ask_database
from ohlcvd.report.times import minute

DAY_US: Final = 86_400 * SECOND_US
_UNTIL_FETCHED: Final = "not yet fetched"


class Exported(NamedTuple):
    """What one run did. `incomplete` are days that were written and are not final yet."""

    written: int
    skipped: int
    incomplete: Sequence[str]


class _Extent(NamedTuple):
    """What there is of a market: its rows, up to where it is covered, and what is still to be fetched."""

    rows: Range | None
    covered_to_us: int
    open: Sequence[Range]

    def is_final(self, day: Range) -> bool:
        return day[1] <= self.covered_to_us and not coverage.intersect([day], coverage.normalise(self.open))


def export(
    config: Config, selection: Selection, form: str, folder: Path, *, tell: Callable[[str], None] = lambda _: None
) -> Exported:
    """Write what is lacking. `tell` gets the path of each file written."""
    address = checked_address(config, selection.exchange, selection.symbol)

    async def look(database: Database) -> _Extent:
        return await _extent(database, selection.exchange, selection.symbol, selection.kind)

    extent = ask_database(config, look)
    place = folder / selection.exchange / selection.symbol.replace("/", "-").replace(":", "_") / _kind_folder(selection)
    written, skipped, incomplete = 0, 0, []
    with connected(address) as connection:
        for day in _days(selection, extent.rows):
            name = minute(day[0])[:10]
            final, provisional = place / f"{name}.{form}", place / f"{name}.incomplete.{form}"
            if final.exists():
                skipped += 1
                continue
            is_final = extent.is_final(day)
            path = final if is_final else provisional
            if _write(path, form, connection, selection._replace(since_us=day[0], until_us=day[1])):
                written += 1
                tell(str(path))
                if not is_final:
                    incomplete.append(name)
            if is_final:
                provisional.unlink(missing_ok=True)
    return Exported(written, skipped, incomplete)


async def _extent(database: Database, exchange: str, symbol: str, kind: Kind) -> _Extent:
    found = await bounds_of(database, exchange, symbol, kind)
    gaps = await gaps_of(database, exchange, symbol)
    still = [(gap.lower_us, gap.upper_us) for gap in gaps if gap.kind == kind and gap.reason == _UNTIL_FETCHED]
    return _Extent(found.rows, found.covered_to_us, still)


def _days(selection: Selection, rows: Range | None) -> list[Range]:
    """The days in UTC that have rows, of those asked for; the first and the last may be asked for in part."""
    if rows is None:
        return []
    lower_us = max(rows[0], selection.since_us or 0)
    upper_us = rows[1] if selection.until_us is None else min(rows[1], selection.until_us)
    return [(day_us, day_us + DAY_US) for day_us in range(lower_us // DAY_US * DAY_US, max(lower_us, upper_us), DAY_US)]


def _kind_folder(selection: Selection) -> str:
    return "trades" if selection.kind == "trades" else f"candles-{selection.timeframe}"


def _write(path: Path, form: str, connection: Connection, selection: Selection) -> bool:
    """Whether there was a row. The file is there under its name when all of it is on the disk."""
    pieces = pieces_over(connection, selection, LINES.get(form, "csv"))
    first = next(pieces, None)
    if first is None:
        return False
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            copy_to(file, FORMS[form](selection.columns, chain([first], pieces)))
            os.fsync(file.fileno())
        part.replace(path)
    except PermissionError as error:
        raise PermissionRefused(f"{path} cannot be written by this user ({error.strerror})") from error
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ServiceUnavailable(f"{path} cannot be written: {error.strerror}") from error
    return True
