"""Which of an exchange's symbols are collected: names and globs against what it lists. Pure.

`BTC/USD` names one market, `*/USDT` all that match and are active, `!*/BUSD` takes out what matches. A glob without
settlement part (`*/USDT`) speaks of spot markets only; `*/USDT:USDT` of the swaps. Shards split the result by a hash
that is the same on every machine and run.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple
from zlib import crc32


class Selection(NamedTuple):
    """`symbols` to collect, sorted; `unlisted` are plain names that the exchange does not have."""

    symbols: list[str]
    unlisted: list[str]


def select(patterns: Sequence[str], listed: Mapping[str, bool]) -> Selection:
    """Resolve configured `patterns` against `listed` (unified symbol -> active)."""
    chosen: set[str] = set()
    unlisted: list[str] = []
    for pattern in patterns:
        if pattern.startswith("!"):
            continue
        if not is_glob(pattern):
            if pattern in listed:
                chosen.add(pattern)
            elif pattern not in unlisted:
                unlisted.append(pattern)
            continue
        chosen.update(symbol for symbol, active in listed.items() if active and _matches(symbol, pattern))
    excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    chosen = {symbol for symbol in chosen if not any(_matches(symbol, pattern) for pattern in excluded)}
    return Selection(sorted(chosen), unlisted)


def shard_of(symbols: Sequence[str], shard: int, shards: int) -> list[str]:
    """The symbols of shard number `shard` (1 ..= `shards`)."""
    return [symbol for symbol in symbols if crc32(symbol.encode()) % shards == shard - 1]


def is_glob(pattern: str) -> bool:
    """Whether a configured name stands for many symbols."""
    return any(char in pattern for char in "*?[")


def _matches(symbol: str, pattern: str) -> bool:
    return (":" in symbol) == (":" in pattern) and fnmatchcase(symbol, pattern)
