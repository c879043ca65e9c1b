"""`markets` for every one of ccxt's exchanges while none can be reached: one sentence each, no traceback."""

import time

from ohlcvd.exchange.catalog import EXCHANGE_IDS
from tests.exchange.test_capabilities import run

# `markets` of every exchange, none of which can be reached.
_ASK_ALL = """
import asyncio, sys, traceback
from ohlcvd.config import ExchangeConfig
from ohlcvd.errors import OhlcvdError
from ohlcvd.exchange.catalog import EXCHANGE_IDS
from ohlcvd.report.markets import _listed
for name in sorted(EXCHANGE_IDS):
    try:
        asyncio.run(_listed(ExchangeConfig(name, (), "http://127.0.0.1:1", "ws://127.0.0.1:1")))
        print(name, "LISTED")
    except OhlcvdError as error:
        print(name, str(error).count(chr(10)), str(error)[:200].replace(chr(10), " "))
"""


def test_every_exchange_out_of_reach_fails_with_one_sentence() -> None:
    began_s = time.monotonic()
    lines = run(_ASK_ALL)
    assert [line.split()[0] for line in lines] == sorted(EXCHANGE_IDS)
    for line in lines:
        _, newlines, *words = line.split(" ", 2)
        assert newlines == "LISTED" or (newlines == "0" and words), line
    assert time.monotonic() - began_s < 300
