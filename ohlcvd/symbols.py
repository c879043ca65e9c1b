"""Which of an exchange's symbols are collected: names and globs against what it lists. Pure.

`BTC/USD` names one market, `*/USDT` all that match and are active, `!*/BUSD` takes out what matches. A glob without
settlement part (`*/USDT`) speaks of spot markets only; `*/USDT:USDT` of the swaps. Shards split the result by a hash
that is the same on every machine and run.

On top of what is configured come the additions and removals that people make while everything runs; a plain name that
was added counts more than a glob that was removed. `Roster` follows all of it, and the exchange's listing, for one
child: a market that is no longer listed or traded is parked until it is again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
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


def choose(
    configured: Sequence[str], listed: Mapping[str, bool], added: Sequence[str] = (), removed: Sequence[str] = ()
) -> Selection:
    """`select`, with what people added and removed on top."""
    basic, more = select(configured, listed), select(added, listed)
    named = {name for name in added if name in listed}
    chosen = {
        symbol
        for symbol in (*basic.symbols, *more.symbols)
        if symbol in named or not any(_matches(symbol, pattern) for pattern in removed)
    }
    unlisted = [name for name in (*basic.unlisted, *more.unlisted) if name not in removed]
    return Selection(sorted(chosen), list(dict.fromkeys(unlisted)))


def shard_of(symbols: Sequence[str], shard: int, shards: int) -> list[str]:
    """The symbols of shard number `shard` (1 ..= `shards`)."""
    return [symbol for symbol in symbols if crc32(symbol.encode()) % shards == shard - 1]


def is_glob(pattern: str) -> bool:
    """Whether a configured name stands for many symbols."""
    return any(char in pattern for char in "*?[")


def _matches(symbol: str, pattern: str) -> bool:
    return (":" in symbol) == (":" in pattern) and fnmatchcase(symbol, pattern)


class Decision(NamedTuple):
    """What one child is to collect. `parked`: wanted, and not traded at the exchange any more. `of`: how many symbols
    all shards together are to collect."""

    symbols: list[str]
    unlisted: list[str]
    parked: list[str]
    of: int


class Roster:
    """Which symbols one child collects. Set the attributes as they change, tell `read` each listing, then `decide`."""

    # An exchange in trouble may list half of its markets for a moment: so many answers in a row have to agree.
    BELIEVED_AFTER = 2

    def __init__(self, configured: Sequence[str], shard: int = 1, shards: int = 1) -> None:
        self.configured = tuple(configured)
        self.added: tuple[str, ...] = ()
        self.removed: tuple[str, ...] = ()
        self._shard = shard
        self._shards = shards
        self._listed: dict[str, bool] = {}
        self._absent: dict[str, int] = {}  # symbols that were traded, and how many answers in a row do not say so
        self._parked: set[str] = set()
        self._follows: tuple[object, bool] = (None, False)  # of what is wanted, whether it follows the listing

    def read(self, listed: Mapping[str, bool]) -> None:
        """The exchange has said what it lists, and whether that is traded now."""
        was_traded = [symbol for symbol, active in self._listed.items() if active]
        for symbol in {*was_traded, *self._absent}:
            if listed.get(symbol):
                self._absent.pop(symbol, None)
            else:
                self._absent[symbol] = self._absent.get(symbol, 0) + 1
        self._listed = dict(listed)
        self._follows = (None, False)

    def decide(self, collected: Collection[str], is_trading: Callable[[str], bool]) -> Decision:
        """What is to be collected, coming from `collected`. `is_trading`: it had trades lately, whatever is listed."""
        # As if nothing had been delisted: what is wanted at all.
        listed = {**self._listed, **dict.fromkeys((*collected, *self._parked), True)}
        wanted = choose(self.configured, listed, self.added, self.removed)
        believed = {symbol for symbol, times in self._absent.items() if times >= self.BELIEVED_AFTER}
        gone = {
            symbol
            for symbol in wanted.symbols
            if symbol in believed and not (symbol in collected and is_trading(symbol))
        }
        self._parked = gone
        mine = set(shard_of(wanted.symbols, self._shard, self._shards))
        return Decision(sorted(mine - gone), wanted.unlisted, sorted(mine & gone), len(wanted.symbols) - len(gone))

    @property
    def wanted(self) -> tuple[tuple[str, ...], ...]:
        """What people want, as they say it."""
        return self.configured, self.added, self.removed

    @property
    def has_absent(self) -> bool:
        """Whether a market that was traded seems not to be."""
        return bool(self._absent)

    @property
    def has_doubts(self) -> bool:
        """Whether a market seems to be gone, and another answer has to tell."""
        return any(times < self.BELIEVED_AFTER for times in self._absent.values())

    @property
    def follows_listing(self) -> bool:
        """Whether a change of the listing may change what is collected, beyond the loss of a market."""
        if self._follows[0] != self.wanted:
            globs = any(is_glob(pattern) for pattern in (*self.configured, *self.added) if not pattern.startswith("!"))
            unlisted = choose(self.configured, self._listed, self.added, self.removed).unlisted
            self._follows = self.wanted, globs or bool(unlisted)
        return self._follows[1]
