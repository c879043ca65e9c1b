"""What is wanted and what is covered of many markets at once: one or two questions, however many there are."""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from ohlcvd.coverage import Range
from ohlcvd.database.pool import Database
from ohlcvd.database.symbols import Exchange, Symbol
from ohlcvd.market import Kind

# In one order everywhere, so that two processes cannot lock each other out.
_WANT: Final = b"""
INSERT INTO ohlcvd.coverage AS c (instrument_id, kind, wanted_from)
SELECT i, k, 'epoch'::timestamptz + %s * interval '1 microsecond'
  FROM unnest(%s::integer[]) i, unnest(%s::text[]) k ORDER BY i, k
ON CONFLICT (instrument_id, kind) DO UPDATE SET wanted_from = least(c.wanted_from, excluded.wanted_from)
 WHERE c.wanted_from IS NULL OR excluded.wanted_from < c.wanted_from"""
_PAGES: Final = b"""
SELECT instrument_id, kind, (extract(epoch FROM wanted_from) * 1000000)::bigint,
       array(SELECT (extract(epoch FROM lower(r)) * 1000000)::bigint FROM unnest(covered) r ORDER BY 1),
       array(SELECT (extract(epoch FROM upper(r)) * 1000000)::bigint FROM unnest(covered) r ORDER BY 1)
  FROM ohlcvd.coverage WHERE instrument_id = ANY(%s)"""
# Asked again and again by every process, so all in one.
_ASKED_FOR: Final = b"""
SELECT symbol, added, NULL::integer, NULL, (extract(epoch FROM changed_at) * 1000000)::bigint
  FROM ohlcvd.symbols WHERE exchange = %s
 UNION ALL
SELECT NULL, NULL, instrument_id, kind, (extract(epoch FROM wanted_from) * 1000000)::bigint
  FROM ohlcvd.coverage WHERE instrument_id = ANY(%s) AND wanted_from IS NOT NULL
 ORDER BY 1"""


class Page(NamedTuple):
    """One market and kind: since when history is wanted (None: it is not), and what is known complete."""

    instrument_id: int
    kind: Kind
    wanted_from_us: int | None
    covered: list[Range]


async def want_all(
    database: Database, instrument_ids: Sequence[int], kinds: Collection[Kind], from_us: int
) -> list[Page]:
    """Want history of all these from `from_us` on (what was once wanted stays wanted); what is known of them, of both
    kinds. A market of which nothing is known at all has no page."""
    async with database.connection("reading what is wanted and covered") as connection:
        await connection.execute(_WANT, (from_us, list(instrument_ids), list(kinds)))
        rows = await (await connection.execute(_PAGES, (list(instrument_ids),))).fetchall()
    return [Page(row[0], row[1], row[2], list(zip(row[3], row[4], strict=True))) for row in rows]


class Want(NamedTuple):
    """History of one market is wanted since then."""

    instrument_id: int
    kind: Kind
    from_us: int


async def asked_for(database: Database, exchange: str, instrument_ids: Sequence[int]) -> tuple[Exchange, list[Want]]:
    """What people have asked for, perhaps just now: the exchange's symbols, and history of these markets."""
    async with database.connection("reading what is asked for") as connection:
        rows = await (await connection.execute(_ASKED_FOR, (exchange, list(instrument_ids)))).fetchall()
    symbols = tuple(Symbol(exchange, row[0], row[1], row[4]) for row in rows if row[0] is not None)
    return Exchange(exchange, symbols), [Want(*row[2:]) for row in rows if row[0] is None]
