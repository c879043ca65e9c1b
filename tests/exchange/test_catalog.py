import subprocess
import sys

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.errors import ConfigError
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.catalog import CLOSED, EXCHANGE_IDS


def test_catalog_names_exactly_the_exchanges_of_the_installed_ccxt() -> None:
    code = "import ccxt; print(' '.join(ccxt.exchanges))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(EXCHANGE_IDS) == sorted(listed)


def test_closed_exchanges_are_not_in_the_catalog_and_say_why() -> None:
    assert not EXCHANGE_IDS & CLOSED.keys()
    with pytest.raises(ConfigError, match="BitMEX closed on 2026-09-23"):
        ExchangeHandler(ExchangeConfig("bitmex", ()))
    with pytest.raises(ConfigError, match="ccxt has no exchange 'krakn'"):
        ExchangeHandler(ExchangeConfig("krakn", ()))


def test_package_and_catalog_are_light() -> None:
    code = "import sys, ohlcvd.exchange, ohlcvd.exchange.catalog; print([m for m in sys.modules if 'ccxt' in m])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_package_gives_every_name_it_announces_and_no_other() -> None:
    import ohlcvd.exchange as package

    assert all(getattr(package, name).__name__ == name for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018
