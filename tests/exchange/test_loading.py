"""Each test runs in a fresh interpreter: what is imported cannot be undone."""

import json
import subprocess
import sys
from typing import Any


def run(code: str) -> Any:
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_preload_starts_nothing_and_opens_nothing() -> None:
    before, after, threads, modules = run(
        "import os, json, sys, ohlcvd.exchange, ohlcvd.log\n"
        "fds = lambda: sorted(os.listdir('/proc/self/fd'))\n"
        "before = fds()\n"
        "ohlcvd.exchange.preload(['kraken', 'binance', 'okx'])\n"
        "print(json.dumps([before, fds(), os.listdir('/proc/self/task'), len(sys.modules)]))"
    )
    assert after == before
    assert len(threads) == 1
    assert modules < 1200


def test_only_the_wanted_exchanges_are_imported() -> None:
    loaded = run(
        "import json, sys\n"
        "from ohlcvd.exchange import preload\n"
        "preload(['kraken'])\n"
        "print(json.dumps([m for m in sys.modules if m.startswith('ccxt.pro.') or m == 'ccxt.binance']))"
    )
    assert loaded == ["ccxt.pro.kraken"]


def test_every_exchange_loads_lightly_in_any_order_and_is_the_class_of_the_full_ccxt() -> None:
    wrong = run(
        "import json, sys, random\n"
        "from ohlcvd.exchange.catalog import EXCHANGE_IDS\n"
        "from ohlcvd.exchange.loading import venue_class\n"
        "names = sorted(EXCHANGE_IDS); random.shuffle(names)\n"
        "classes = {name: venue_class(name) for name in names}\n"
        "light = 'exchanges' not in vars(sys.modules['ccxt'])\n"
        "import ccxt, ccxt.pro, ccxt.async_support\n"
        "assert len(ccxt.exchanges) == len(names)\n"
        "full = lambda n: getattr(ccxt.pro if n in ccxt.pro.exchanges else ccxt.async_support, n)\n"
        "print(json.dumps([light, [n for n in names if classes[n] is not full(n)]]))"
    )
    assert wrong == [True, []]


def test_unforeseen_names_come_from_the_full_ccxt() -> None:
    found = run(
        "import json\n"
        "from ohlcvd.exchange.loading import venue_class\n"
        "kraken = venue_class('kraken')\n"
        "import ccxt, ccxt.pro\n"
        "assert isinstance(ccxt.__version__ if 'exchanges' in vars(ccxt) else '', str)\n"
        "exec('from ccxt import *')\n"
        "print(json.dumps([len(ccxt.exchanges) > 100, ccxt.pro.kraken is kraken, hasattr(ccxt, 'nothing')]))"
    )
    assert found == [True, True, False]


def test_a_full_ccxt_that_is_there_already_is_used() -> None:
    assert run(
        "import json, ccxt, ccxt.pro\n"
        "from ohlcvd.exchange.loading import venue_class, preload\n"
        "preload(['binanceusdm'])\n"
        "print(json.dumps(venue_class('binanceusdm') is ccxt.pro.binanceusdm))"
    )
