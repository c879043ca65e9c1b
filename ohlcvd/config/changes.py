"""What follows from a changed configuration, child by child. Pure.

Children take new symbols and a new log level while they run; whatever else concerns an exchange starts its children
again with it; and what the supervisor itself was started with (directories, servers, timeouts) waits for a restart of
the service. A shard is a child: another number of shards moves symbols between them, so all of them start again.
"""

from copy import copy
from dataclasses import dataclass, replace

from ohlcvd.config import Config, ExchangeConfig

# Fields of Config that only a restart of the service changes, with what the user calls them.
_FIXED = {
    "state_dir": "state_dir",
    "run_dir": "run_dir",
    "log_dir": "log_dir",
    "postgres_dsn": "dsn of [postgres]",
    "redis_url": "url of [redis]",
    "hang_after_s": "hang_after",
    "drain_s": "drain",
    "grace_s": "grace",
}


# Fields of which every child reads its own.
_EVERYTHING = ("service", "since", "retention_trades_us", "retention_candles_us")


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of children, each in at most one place; `settings` are those that wait for a restart of the service."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()  # told to a running child
    unchanged: tuple[str, ...] = ()
    log_level: bool = False
    settings: tuple[str, ...] = ()


def child_names(config: Config) -> list[str]:
    """kraken; binance/1, binance/2 where an exchange has more than one shard."""
    return [name for exchange in config.exchanges for name in _shards(exchange)]


def changes(old: Config, new: Config) -> Changes:
    """What is to be done so that what runs with `old` runs with `new`."""
    before, after = _children(old), _children(new)
    everything = any(getattr(old, name) != getattr(new, name) for name in _EVERYTHING)
    kept = [name for name in after if name in before]
    restart = [name for name in kept if everything or _rest(before[name]) != _rest(after[name])]
    symbols = [name for name in kept if name not in restart and before[name].symbols != after[name].symbols]
    return Changes(
        start=tuple(name for name in after if name not in before),
        stop=tuple(name for name in before if name not in after),
        restart=tuple(restart),
        symbols=tuple(symbols),
        unchanged=tuple(name for name in kept if name not in (*restart, *symbols)),
        log_level=old.log_level != new.log_level,
        settings=tuple(word for name, word in _FIXED.items() if getattr(old, name) != getattr(new, name)),
    )


def applicable(old: Config, new: Config) -> Config:
    """`new`, with what only a restart of the service changes as it was."""
    config = copy(new)
    for name in _FIXED:
        object.__setattr__(config, name, getattr(old, name))
    return config


def _children(config: Config) -> dict[str, ExchangeConfig]:
    return {name: exchange for exchange in config.exchanges for name in _shards(exchange)}


def _shards(exchange: ExchangeConfig) -> list[str]:
    shards = range(1, exchange.shards + 1)
    return [exchange.name] if exchange.shards <= 1 else [f"{exchange.name}/{shard}" for shard in shards]


def _rest(exchange: ExchangeConfig) -> ExchangeConfig:
    """All but the symbols."""
    return replace(exchange, symbols=())
