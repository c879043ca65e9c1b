"""Hands out one connected-or-connectable handler per exchange to everybody in the process who asks for it."""

from typing import TYPE_CHECKING, ClassVar, Literal

from ohlcvd.config import Config, ExchangeConfig
from ohlcvd.exchange.handler import ExchangeHandler

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExchangeQueue:
    """Handlers shared by name and counted: the last `release_handler` closes one, `shutdown_factory` closes all."""

    _configs: ClassVar["Mapping[str, ExchangeConfig] | None"] = None
    _handlers: ClassVar[dict[str, ExchangeHandler]] = {}
    _users: ClassVar[dict[str, int]] = {}

    @classmethod
    async def initialize_factory(cls, config: Config | None = None) -> None:
        """Take the exchanges' settings from `config`, or from the configuration that applies here."""
        exchanges = (config or Config()).exchanges
        cls._configs = {exchange.name: exchange for exchange in exchanges}

    @classmethod
    async def get_handler(cls, exchange: str, kind: Literal["ohlcv", "trade"] = "ohlcv") -> ExchangeHandler:
        """The handler of an exchange, not connected yet the first time. Candles and trades share one.

        An exchange that is not configured is reached with ccxt's own settings. Raises ConfigError if ccxt has none.
        """
        if cls._configs is None:
            await cls.initialize_factory()
        if exchange not in cls._handlers:
            config = (cls._configs or {}).get(exchange) or ExchangeConfig(exchange, ())
            cls._handlers[exchange] = ExchangeHandler(config)
        cls._users[exchange] = cls._users.get(exchange, 0) + 1
        return cls._handlers[exchange]

    @classmethod
    async def release_handler(cls, handler: ExchangeHandler) -> None:
        """One user less; the last one closes it."""
        cls._users[handler.name] -= 1
        if cls._users[handler.name] == 0:
            del cls._users[handler.name], cls._handlers[handler.name]
            await handler.close()

    @classmethod
    async def shutdown_factory(cls) -> None:
        """Close every handler and forget the settings."""
        handlers = list(cls._handlers.values())
        cls._handlers.clear()
        cls._users.clear()
        cls._configs = None
        for handler in handlers:
            await handler.close()
