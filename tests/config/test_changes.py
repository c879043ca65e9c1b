"""What follows from a changed configuration: every child in one place, and nothing touched that need not be."""

from pathlib import Path

import pytest

from ohlcvd.config import Config
from ohlcvd.config.changes import Changes, applicable, changes, child_names
from tests.config.loading import load

BEFORE = """
[ohlcvd]
exchanges = kraken, binance
symbols = BTC/USD
[exchange:binance]
shards = 2
"""


def after(folder: Path, *replaced: tuple[str, str]) -> tuple[Config, Config, Changes]:
    """The two configurations, and what follows."""
    text = BEFORE
    old = load(folder, text)
    for before, instead in replaced:
        assert before in text
        text = text.replace(before, instead)
    new = load(folder, text)
    return old, new, changes(old, new)


def test_nothing_follows_from_nothing(folder: Path) -> None:
    old, _, found = after(folder)
    assert child_names(old) == ["kraken", "binance/1", "binance/2"]
    assert found == Changes(unchanged=("kraken", "binance/1", "binance/2"))


def test_symbols_reach_running_children(folder: Path) -> None:
    kraken = "[exchange:kraken]\nsymbols = BTC/USD, ETH/USD\n"
    _, _, found = after(folder, ("[exchange:binance]", f"{kraken}[exchange:binance]"))
    assert found == Changes(symbols=("kraken",), unchanged=("binance/1", "binance/2"))


@pytest.mark.parametrize(
    ("replaced", "found"),
    [
        (("kraken, binance", "okx, binance"), Changes(("okx",), ("kraken",), unchanged=("binance/1", "binance/2"))),
        (("kraken, binance", "binance"), Changes(stop=("kraken",), unchanged=("binance/1", "binance/2"))),
        (("shards = 2", "shards = 1"), Changes(("binance",), ("binance/1", "binance/2"), unchanged=("kraken",))),
        (("shards = 2", "shards = 3"), Changes(("binance/3",), (), ("binance/1", "binance/2"), (), ("kraken",))),
        (("shards = 2", "shards = 2\nsandbox = yes"), Changes((), (), ("binance/1", "binance/2"), (), ("kraken",))),
        (("symbols", "service = trade\nsymbols"), Changes(restart=("kraken", "binance/1", "binance/2"))),
        (("symbols", "retention_trades = 90d\nsymbols"), Changes(restart=("kraken", "binance/1", "binance/2"))),
        (("symbols", "since = 1d\nsymbols"), Changes(restart=("kraken", "binance/1", "binance/2"))),
    ],
)
def test_what_follows(folder: Path, replaced: tuple[str, str], found: Changes) -> None:
    assert after(folder, replaced)[2] == found


def test_what_waits_for_a_restart_of_the_service_is_said_and_the_rest_applied(folder: Path) -> None:
    more = "hang_after = 9s\nlog_dir = elsewhere\nlog_level = DEBUG\nsymbols = ETH/USD"
    old, new, found = after(folder, ("symbols = BTC/USD", more), ("shards = 2", "shards = 2\n[postgres]\ndsn = host=b"))
    assert found.symbols == ("kraken", "binance/1", "binance/2")
    assert found.settings == ("log_dir", "dsn of [postgres]", "hang_after")
    assert found.log_level
    applied = applicable(old, new)
    assert (applied.log_dir, applied.hang_after_s, applied.postgres_dsn) == (old.log_dir, 15.0, "embedded")
    assert (applied.log_level, applied.OHLCV_SYMBOLS) == ("DEBUG", ["ETH/USD"])
    assert changes(applied, new).settings == found.settings  # said again at the next reload
