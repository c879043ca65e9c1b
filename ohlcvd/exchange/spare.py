"""Instances of ccxt's classes, made ahead: before the fork, so that children share what nobody changes of them.

Making one copies and throws away megabytes of descriptions, and reading the certificates of all authorities takes three
more. A spare has no event loop, no connection, and nothing of a configuration; each is given away once.
"""

import ssl
from functools import cache
from typing import Any

from ohlcvd.exchange.client import exchange_class
from ohlcvd.exchange.registry import FAST_VENUES

_spares: dict[str, Any] = {}


def prepare(name: str) -> None:
    """Have one of this exchange at hand."""
    if name not in _spares:
        _spares[name] = _made(name)


def instance(name: str, loop: Any) -> Any:
    """One for this event loop."""
    exchange = _spares.pop(name, None) or _made(name)
    exchange.asyncio_loop = exchange.throttler.loop = loop
    return exchange


def _made(name: str) -> Any:
    options: dict[str, Any] = {"newUpdates": True}
    for venue in FAST_VENUES.get(name, ()):
        options |= venue.options
    exchange = exchange_class(name)({"enableRateLimit": True, "number": str, "options": options})
    if exchange.verify and not exchange.options.get("include_OS_certificates"):
        exchange.ssl_context = _authorities(exchange.cafile)
    return exchange


@cache
def _authorities(file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=file)
