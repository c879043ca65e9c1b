"""PostgreSQL: schema, writer, readers. Nothing outside of this package knows psycopg.

`Database` is a process's way in, `Writer` stores what collectors bring, `readers` gives it back in the same digits, and
`OHLCVDatabase` is all of it for one script.
"""

from ohlcvd.database.batch import Batch
from ohlcvd.database.facade import OHLCVDatabase
from ohlcvd.database.migrate import migrate
from ohlcvd.database.pool import Database
from ohlcvd.database.quarantine import Quarantine
from ohlcvd.database.readers import candles_in, candles_of, newest, recent_candles, recent_trades, trades_of
from ohlcvd.database.spool import Spool
from ohlcvd.database.symbols import Exchange, Symbol, SymbolRepository
from ohlcvd.database.writer import Writer, WriterCounters

__all__ = [
    "Batch",
    "Database",
    "Exchange",
    "OHLCVDatabase",
    "Quarantine",
    "Spool",
    "Symbol",
    "SymbolRepository",
    "Writer",
    "WriterCounters",
    "candles_in",
    "candles_of",
    "migrate",
    "newest",
    "recent_candles",
    "recent_trades",
    "trades_of",
]
