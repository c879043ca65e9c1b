"""`ohlcvd markets`, and the part of `check-config --online` that asks: what an exchange can give, and what it lists."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from ohlcvd.config import Config, ExchangeConfig
from ohlcvd.errors import ExchangeError, UsageError
from ohlcvd.exchange.capabilities import Capability, capability_of
from ohlcvd.exchange.catalog import CLOSED, EXCHANGE_IDS
from ohlcvd.nearest import did_you_mean
from ohlcvd.symbols import select
from ohlcvd.terminal import table


@dataclass(frozen=True)
class Markets:
    """`listed`: symbol -> whether it is traded now; None: `trouble` says why it is not known."""

    capability: Capability
    listed: Mapping[str, bool] | None
    trouble: str | None
    collected: frozenset[str] = frozenset()


def read(config: Config, exchange: str) -> Markets:
    """Ask the exchange. UsageError for one that ccxt does not have."""
    check_exchange(exchange)
    configured = {one.name: one for one in config.exchanges}
    settings = configured.get(exchange) or ExchangeConfig(exchange, ())
    try:
        listed = asyncio.run(_listed(settings))
    except ExchangeError as error:
        return Markets(capability_of(exchange), None, str(error))
    collected = select(settings.symbols, listed).symbols if exchange in configured else []
    return Markets(capability_of(exchange), listed, None, frozenset(collected))


def check_exchange(exchange: str) -> None:
    """UsageError, with the reason or the nearest name, for an exchange that ccxt does not have."""
    if exchange not in EXCHANGE_IDS:
        unknown = f'ccxt has no exchange "{exchange}"{did_you_mean(exchange, EXCHANGE_IDS)}'
        raise UsageError(CLOSED.get(exchange.lower(), unknown))


async def _listed(settings: ExchangeConfig) -> Mapping[str, bool]:
    from ohlcvd.exchange import ExchangeHandler  # with it comes ccxt

    handler = ExchangeHandler(settings)
    try:
        await handler.connect()
        return dict(handler.symbols())
    finally:
        await handler.close()


def render(markets: Markets) -> str:
    """For people; "*" marks what is collected."""
    lines = [f"{name:<16} {text}" for name, text in markets.capability.lines()]
    if markets.listed is not None:
        rows = [
            ["*" if symbol in markets.collected else "", symbol, "" if is_active else "not traded now"]
            for symbol, is_active in sorted(markets.listed.items())
        ]
        lines += ["", *table(["", f"{len(rows)} markets", ""], rows)]
    return "\n".join(line.rstrip() for line in lines)


def as_dict(markets: Markets) -> dict[str, object]:
    """For JSON."""
    listed = None if markets.listed is None else dict(sorted(markets.listed.items()))
    return {
        **markets.capability.as_dict(),
        "markets": listed,
        "collected": sorted(markets.collected),
        "trouble": markets.trouble,
    }


@dataclass(slots=True)
class OnlineCheck:
    """What the configured exchanges say of the configured symbols."""

    sentences: list[str] = field(default_factory=list)
    unreachable: int = 0
    collectable: int = 0  # markets


def check_online(config: Config) -> OnlineCheck:
    """Ask every configured exchange whether it lists what is wanted of it."""
    check = OnlineCheck()
    for settings in config.exchanges:
        try:
            listed = asyncio.run(_listed(settings))
        except ExchangeError as error:
            check.unreachable += 1
            check.sentences.append(f"{settings.name}: cannot be asked: {error}")
            continue
        chosen = select(settings.symbols, listed)
        check.collectable += len(chosen.symbols)
        missing = f"; it does not list {', '.join(chosen.unlisted)}" if chosen.unlisted else ""
        check.sentences.append(f"{settings.name}: {len(chosen.symbols)} of {len(listed)} markets are wanted{missing}")
    return check
