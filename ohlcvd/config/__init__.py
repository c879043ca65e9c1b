"""The configuration: one INI file, then `.env`, then the environment, then flags; later wins. Frozen once it is loaded.

`Config(...)` reads and checks everything and raises ConfigError with one sentence that names the place and what is
allowed there; what it returns is valid. It never makes or changes anything (`prepare_directories` does) and needs
neither ccxt nor a database, so it is quick. No output of it (`repr`, `effective()`) shows a password.

`settings.py` knows every setting and how its text is read, `files.py` the two file formats, `dsn.py` connection
strings, and `layers.py` puts them together.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import NamedTuple

from ohlcvd.config import dsn, retention
from ohlcvd.config.files import directories_in
from ohlcvd.config.layers import Place, load, our_place, working_directory
from ohlcvd.config.settings import ExchangeConfig, LogLevel, Service, Setting, Since
from ohlcvd.errors import ConfigError, PermissionRefused
from ohlcvd.market import Kind

__all__ = ["Config", "ExchangeConfig", "Place", "Setting", "Since", "prepare_directories"]


class _Sources(NamedTuple):
    """Where a configuration was read from; absolute, because a daemon leaves the directory it was started in."""

    file: Path | None
    flags: Mapping[str, str]
    environ: Mapping[str, str]
    cwd: Path | None
    place: Place | None


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Config:
    """Everything that is configured. Two are equal when they ask for the same, wherever each value came from."""

    service: Service
    exchanges: tuple[ExchangeConfig, ...]
    since: Since
    retention_trades_us: int | None  # None: everything is kept
    retention_candles_us: int | None
    state_dir: Path
    run_dir: Path
    log_dir: Path
    spool_max_bytes: int
    log_level: LogLevel
    postgres_dsn: str  # "embedded", or what libpq understands
    redis_url: str  # "embedded", or what redis-py understands
    fullon_views: bool
    fullon_keys: bool
    http_listen: str  # "" is off
    hang_after_s: float
    drain_s: float
    grace_s: float
    file: Path | None = field(compare=False)  # None: there was no file
    warnings: tuple[str, ...] = field(compare=False)
    _settings: tuple[Setting, ...] = field(compare=False)
    _sources: "_Sources" = field(compare=False)

    def __init__(
        self,
        file: str | Path | None = None,
        *,
        flags: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        place: Place | None = None,
    ) -> None:
        """Load `file` (None: the usual one, if it exists), `.env`, `environ` and `flags` ("ohlcvd.since" -> "7d")."""
        sources = _Sources(
            Path(file).absolute() if file else None,
            dict(flags or {}),
            dict(os.environ if environ is None else environ),
            cwd or working_directory(),
            place,
        )
        loaded = load(file, sources.flags, sources.environ, sources.cwd, place) | {"_sources": sources}
        for name in (f.name for f in fields(self)):
            object.__setattr__(self, name, loaded[name])
        bans = str(self.state_dir / "bans")
        object.__setattr__(self, "exchanges", tuple(replace(exchange, bans=bans) for exchange in self.exchanges))

    def reloaded(self) -> "Config":
        """What the same file, `.env`, environment and flags say now. ConfigError if that is wrong."""
        file, flags, environ, cwd, place = self._sources
        return Config(file, flags=flags, environ=environ, cwd=cwd, place=place)

    @classmethod
    def last_resort(cls, file: str | Path | None, place: Place | None = None) -> "Config":
        """The defaults, with the directories that a file names which is wrong elsewhere: to find what still runs."""
        place = place or our_place()
        found = directories_in(Path(file) if file else place.file)
        flags = {f"ohlcvd.{key}": text for key, text in found.items()}
        return cls(flags=flags, environ={}, cwd=Path("/"), place=replace(place, file=place.file.with_name("none")))

    @property
    def collects_trades(self) -> bool:
        """Whether trades are collected."""
        return self.service != "ohlcv"

    @property
    def collects_candles(self) -> bool:
        """Whether the venues' candles are collected (`trade` alone builds candles from trades)."""
        return self.service != "trade"

    def exchange(self, name: str) -> ExchangeConfig:
        """The part of one exchange; KeyError if it is not configured."""
        for exchange in self.exchanges:
            if exchange.name == name:
                return exchange
        raise KeyError(name)

    def not_kept(self, now_us: int) -> list[str]:
        """Sentences on what is dropped when it is old."""
        return retention.sentences({kind: self.retention_us(kind) for kind in ("trades", "candles")}, now_us)

    def retention_us(self, kind: Kind) -> int | None:
        """How long rows are kept; None: for ever."""
        return self.retention_trades_us if kind == "trades" else self.retention_candles_us

    def effective(self) -> list[Setting]:
        """Every setting with its value and where that came from."""
        return list(self._settings)

    def __repr__(self) -> str:
        values = ", ".join(f"{s.section}.{s.key}={s.value!r}" for s in self._settings)
        return f"Config({values})"

    # The names that programs of this ecosystem read.

    @property
    def OHLCV_SERVICE(self) -> str:
        return self.service

    @property
    def OHLCV_EXCHANGES(self) -> list[str]:
        return [exchange.name for exchange in self.exchanges]

    @property
    def OHLCV_SYMBOLS(self) -> list[str]:
        """The symbols of all exchanges, each once."""
        return list(dict.fromkeys(symbol for exchange in self.exchanges for symbol in exchange.symbols))

    @property
    def TRADE_COLLECTION_ENABLED(self) -> bool:
        return self.collects_trades

    @property
    def LOG_LEVEL(self) -> str:
        return self.log_level

    @property
    def POSTGRES_HOST(self) -> str | None:
        return self._postgres("host")

    @property
    def POSTGRES_PORT(self) -> int | None:
        """The (first) port; None where libpq's default or a private server is used."""
        port = (self._postgres("port") or "").partition(",")[0]
        return int(port) if port else None

    @property
    def POSTGRES_USER(self) -> str | None:
        return self._postgres("user")

    @property
    def POSTGRES_PASSWORD(self) -> str | None:
        return self._postgres("password")

    @property
    def POSTGRES_DB(self) -> str | None:
        return self._postgres("dbname")

    @property
    def REDIS_HOST(self) -> str | None:
        """The host, or the path of the socket."""
        url = self._redis()
        return (url.host or url.path) if url else None

    @property
    def REDIS_PORT(self) -> int | None:
        url = self._redis()
        return url.port or None if url else None

    @property
    def REDIS_DB(self) -> int | None:
        url = self._redis()
        return url.db if url else None

    @property
    def REDIS_PASSWORD(self) -> str | None:
        url = self._redis()
        return url.password or None if url else None

    def _postgres(self, part: str) -> str | None:
        return None if self.postgres_dsn == dsn.EMBEDDED else dsn.parse_postgres(self.postgres_dsn).get(part)

    def _redis(self) -> dsn.RedisUrl | None:
        return None if self.redis_url == dsn.EMBEDDED else dsn.parse_redis(self.redis_url)


def prepare_directories(config: Config) -> None:
    """Make the three directories where they are missing, closed to strangers; those that exist are left as they are."""
    for path, mode in ((config.state_dir, 0o700), (config.run_dir, 0o750), (config.log_dir, 0o750)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir()
            except FileExistsError:
                pass
            else:
                path.chmod(mode)  # whatever the umask is
        except PermissionError as error:
            raise PermissionRefused(f"{path}: cannot be made by this user ({error.strerror})") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be made: {error.strerror}") from error
        if not path.is_dir():
            raise ConfigError(f"{path}: is not a directory")
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionRefused(f"{path}: this user cannot write into it")
