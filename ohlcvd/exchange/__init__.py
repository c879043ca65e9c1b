"""Everything that knows ccxt: one `ExchangeHandler` per exchange gives exact trades and candles, live and from history.

Importing this package, or `ohlcvd.exchange.catalog`, does not import ccxt: the supervisor must stay small and the
command line quick. The names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ohlcvd.exchange.clock import VenueClock
    from ohlcvd.exchange.handler import ExchangeHandler
    from ohlcvd.exchange.loading import preload
    from ohlcvd.exchange.queue import ExchangeQueue
    from ohlcvd.exchange.sink import StreamCounters, StreamSink, TradePage

__all__ = ["ExchangeHandler", "ExchangeQueue", "StreamCounters", "StreamSink", "TradePage", "VenueClock", "preload"]

_HOME = {
    "ExchangeHandler": "handler",
    "ExchangeQueue": "queue",
    "StreamCounters": "sink",
    "StreamSink": "sink",
    "TradePage": "sink",
    "VenueClock": "clock",
    "preload": "loading",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
