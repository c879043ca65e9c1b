"""cryptofeed, the nearest relative that writes to PostgreSQL, as a reference: `PYTHON tests/bench/peer.py URL HOST USER
DATABASE SYMBOL ...` collects trades into a table of its own until it is ended.

A file by itself, for it runs with another Python: the one in OHLCVD_BENCH_CRYPTOFEED, which has cryptofeed and asyncpg.
With its lossless setting, which is not its default.
"""

import sys
from importlib import import_module
from typing import Any

TABLE = """
CREATE TABLE trades (timestamp timestamptz, receipt_timestamp timestamptz, exchange text, symbol text, side text,
    amount numeric, price numeric, id text, type text, PRIMARY KEY (exchange, symbol, timestamp, id))"""


def collect(url: str, host: str, user: str, database: str, symbols: list[str]) -> None:
    """Until SIGTERM."""
    connection: Any = import_module("cryptofeed.connection")
    dial = connection.connect
    # It insists on wss:// where it is configured.
    connection.connect = lambda address, **words: dial(address.replace("wss://", "ws://"), **words)
    venue: Any = import_module("cryptofeed.exchanges").Binance
    venue.websocket_endpoints = [connection.WebsocketEndpoint(f"{url.replace('http', 'wss')}/binance")]
    venue.rest_endpoints = [connection.RestEndpoint(f"{url}/binance", routes=connection.Routes("/api/v3/exchangeInfo"))]
    storing = import_module("cryptofeed.backends.postgres").TradePostgres(
        host=host, user=user, db=database, port=5432, overflow="block"
    )
    handler = import_module("cryptofeed").FeedHandler(config={"log": {"disabled": True}})
    handler.add_feed(venue(symbols=symbols, channels=["trades"], callbacks={"trades": storing}))
    handler.run()


if __name__ == "__main__":
    collect(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
