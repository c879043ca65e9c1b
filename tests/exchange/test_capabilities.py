"""The table of what each exchange gives: generated from ccxt, checked against it, and answered for each of them."""

import subprocess
import sys

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.errors import UsageError
from ohlcvd.exchange.abilities import ABILITIES
from ohlcvd.exchange.capabilities import capability_of
from ohlcvd.exchange.catalog import EXCHANGE_IDS
from ohlcvd.exchange.registry import FAST_VENUES
from ohlcvd.report.markets import Markets, as_dict, check_exchange, render

# What ccxt says, in the words of abilities.py.
_ASK_CCXT = """
import ccxt, ccxt.pro
def page(features):
    parts = [features.get("spot") or {}]
    for name in ("swap", "future"):
        part = features.get(name) or {}
        parts += [one for one in part.values() if isinstance(one, dict) and one.get("fetchOHLCV")] + [part]
    return next((part["fetchOHLCV"].get("limit") for part in parts if part.get("fetchOHLCV")), None)
for name in ccxt.exchanges:
    one = (getattr(ccxt.pro, name, None) or getattr(ccxt, name))()
    has = one.has
    flags = (has.get("watchTrades"), has.get("watchOHLCV"), has.get("fetchTrades"),
             has.get("fetchOHLCV") and "1m" in (one.timeframes or {}), has.get("fetchTime"), one.urls.get("test"))
    print(name, "".join(c if flag else "-" for c, flag in zip("TCtcns", flags)), page(one.features or {}) or "-")
"""


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not done.stderr, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_table_is_what_the_installed_ccxt_says() -> None:
    table = []
    for name, ability in ABILITIES.items():
        letters = "".join(c if flag else "-" for c, flag in zip("TCtcns", ability[:6], strict=True))
        table.append(f"{name} {letters} {ability.candles_page or '-'}")
    assert sorted(table) == sorted(run(_ASK_CCXT))
    assert ABILITIES.keys() == EXCHANGE_IDS


@pytest.mark.parametrize("name", sorted(EXCHANGE_IDS))
def test_every_exchange_has_an_answer(name: str) -> None:
    capability = capability_of(name)
    assert capability.trades != "none" or capability.candles != "none"
    assert all(text for _, text in capability.lines())
    markets = Markets(capability, {"A/B": True, "C/D": False}, None, frozenset({"A/B"}))
    text = render(markets)
    assert "*  A/B" in text
    assert "not traded now" in text
    assert as_dict(markets)["trades"] == capability.trades
    for venue in FAST_VENUES.get(name, ()):
        ability = ABILITIES[name]
        assert ability.streams_trades
        assert set(venue.kinds) <= {"trades", "candles"}


def test_an_exchange_that_ccxt_does_not_have() -> None:
    with pytest.raises(UsageError, match="BitMEX closed on 2026-09-23"):
        check_exchange("bitmex")
    with pytest.raises(UsageError, match='ccxt has no exchange "krakn"; did you mean kraken'):
        check_exchange("krakn")
    assert ExchangeConfig("kraken", ()).name in FAST_VENUES


def test_weaker_guarantees_are_stated() -> None:
    assert capability_of("kraken").reduced is None
    assert capability_of("coinbase").reduced is None  # its candles are asked for, and confirmed closed
    assert capability_of("whitebit").reduced == (
        "trades by generic stream, candles by generic stream; what proves the trades complete is the connection's "
        "state, and overlap with history after it was cut"
    )
    assert capability_of("bit2c").reduced == (
        "trades by polling, no public candles; what proves the trades complete is overlap: each answer must hold a "
        "trade of the one before"
    )
    assert capability_of("mudrex").reduced == "candles by generic stream, no public trades"
