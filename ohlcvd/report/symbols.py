"""`symbols`: what is configured, what was added and removed on top of it, and what is collected now."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ohlcvd import daemon
from ohlcvd.config import Config
from ohlcvd.database import Database, SymbolRepository
from ohlcvd.errors import UsageError
from ohlcvd.nearest import did_you_mean
from ohlcvd.report.access import ask_database
from ohlcvd.symbols import choose, is_glob

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """One exchange. `collected`: by the running children, by name; empty when none runs."""

    exchange: str
    configured: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    collected: tuple[str, ...]
    unlisted: tuple[str, ...]
    parked: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def read(config: Config, exchange: str | None = None) -> list[Choice]:
    """Of every configured exchange, or of one."""
    names = [one.name for one in config.exchanges] if exchange is None else [_configured(config, exchange)]

    async def ask(database: Database) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        found = [await SymbolRepository(database).get_by_exchange(name) for name in names]
        return {one.name: (one.added, one.removed) for one in found}

    changes = ask_database(config, ask)
    report = daemon.status(config)
    choices = []
    for name in names:
        rows = {market.symbol: market.facts for market in report.markets if market.exchange == name}
        parked = tuple(sorted(symbol for symbol, facts in rows.items() if facts.get("parked")))
        collected = tuple(sorted(rows.keys() - set(parked)))
        wanted = (*config.exchange(name).symbols, *changes[name][0])
        unlisted = choose(wanted, dict.fromkeys(rows, True), removed=changes[name][1]).unlisted if rows else []
        choices.append(Choice(name, config.exchange(name).symbols, *changes[name], collected, tuple(unlisted), parked))
    return choices


def add(config: Config, exchange: str, symbols: Sequence[str]) -> None:
    """Collect these, too, from now on."""
    _configured(config, exchange)

    async def ask(database: Database) -> None:
        for symbol in symbols:
            await SymbolRepository(database).add(exchange, symbol)

    ask_database(config, ask)


def remove(config: Config, exchange: str, symbols: Sequence[str]) -> None:
    """Collect these no longer. UsageError for one that nobody wants anyway."""
    configured = config.exchange(_configured(config, exchange)).symbols

    async def ask(database: Database) -> None:
        repository = SymbolRepository(database)
        known = await repository.get_by_exchange(exchange)
        for symbol in symbols:
            wanted = choose(configured, {symbol: True}, known.added).symbols or symbol in (*configured, *known.added)
            if not wanted and not is_glob(symbol):
                names = [name for name in (*configured, *known.added) if not is_glob(name)]
                raise UsageError(
                    f'symbol "{symbol}" of {exchange} is neither configured nor added{did_you_mean(symbol, names)}'
                )
        for symbol in symbols:
            await repository.remove(exchange, symbol)

    ask_database(config, ask)


def render(choices: Sequence[Choice]) -> str:
    """For people."""
    lines = []
    for choice in choices:
        lines.append(choice.exchange)
        for name in ("configured", "added", "removed", "collected", "unlisted", "parked"):
            symbols = getattr(choice, name)
            if symbols or name in ("configured", "collected"):
                lines.append(f"  {name:<10}  {_shown(symbols, all_of_them=name != 'collected')}")
    return "\n".join(lines)


def _shown(symbols: Sequence[str], *, all_of_them: bool) -> str:
    if not symbols:
        return "nothing"
    if all_of_them or len(symbols) <= _SHOWN:
        return ", ".join(symbols)
    return f"{', '.join(symbols[:_SHOWN])} and {len(symbols) - _SHOWN} more"


def _configured(config: Config, exchange: str) -> str:
    names = [one.name for one in config.exchanges]
    if exchange not in names:
        hint = did_you_mean(exchange, names) or f"; there is {' and '.join(names)}"
        raise UsageError(f'exchange "{exchange}" is not configured{hint}')
    return exchange
