"""Every setting that there is: its section, key, default and environment name, and how its text is read. Pure.

A reader (`read_*`) turns text into a value or raises ValueError with the rest of a sentence whose beginning the caller
knows: 'is "bth": allowed are ohlcv, trade and both'. Where the text may hold a secret the sentence does not repeat it.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from ohlcvd.config import dsn
from ohlcvd.exchange.abilities import ABILITIES
from ohlcvd.exchange.catalog import CLOSED, EXCHANGE_IDS
from ohlcvd.nearest import did_you_mean
from ohlcvd.symbols import is_glob, select

Service = Literal["ohlcv", "trade", "both"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

EXCHANGE_SECTION = "exchange:"

# section -> key -> default. The three directories' defaults depend on where ohlcvd is installed: see layers.py.
SECTIONS: dict[str, dict[str, str]] = {
    "ohlcvd": {
        "service": "both",
        "exchanges": "kraken, binance",
        "symbols": "BTC/USD, ETH/USD, BTC/USDT, ETH/USDT",
        "since": "7d",
        "retention_trades": "forever",
        "retention_candles": "forever",
        "state_dir": "",
        "run_dir": "",
        "log_dir": "",
        "spool_max": "1GiB",
        "log_level": "INFO",
        "hang_after": "15s",
        "drain": "20s",
        "grace": "30s",
    },
    "postgres": {"dsn": dsn.EMBEDDED, "fullon_views": "no"},
    "redis": {"url": dsn.EMBEDDED, "fullon_keys": "no"},
    "http": {"listen": "127.0.0.1:9464"},
}
EXCHANGE_KEYS: dict[str, str] = {
    "symbols": "",
    "rest_url": "",
    "ws_url": "",
    "proxy": "",
    "sandbox": "no",
    "shards": "1",
}

# Environment names that set one key each ...
ENVIRONMENT: dict[str, tuple[str, str]] = {
    "OHLCV_SERVICE": ("ohlcvd", "service"),
    "OHLCV_EXCHANGES": ("ohlcvd", "exchanges"),
    "OHLCV_SYMBOLS": ("ohlcvd", "symbols"),
    "OHLCV_SINCE": ("ohlcvd", "since"),
    "LOG_LEVEL": ("ohlcvd", "log_level"),
}
# ... and those that replace one part of a connection string.
POSTGRES_PARTS = {
    "POSTGRES_HOST": "host",
    "POSTGRES_PORT": "port",
    "POSTGRES_USER": "user",
    "POSTGRES_PASSWORD": "password",
    "POSTGRES_DB": "dbname",
}
REDIS_PARTS = {"REDIS_HOST": "host", "REDIS_PORT": "port", "REDIS_DB": "db", "REDIS_PASSWORD": "password"}
TRADE_SWITCH = "TRADE_COLLECTION_ENABLED"
ENVIRONMENT_NAMES = frozenset({*ENVIRONMENT, *POSTGRES_PARTS, *REDIS_PARTS, TRADE_SWITCH})

MAX_SHARDS = 64
# A child beats every second: with less, a busy machine would look like a hang.
MIN_HANG_S = 3
MAX_TIMEOUT_S = 3600
_MAX_SINCE_DAYS = 10_000
_SINCE_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_FIRST_MARKET = datetime(2009, 1, 1, tzinfo=UTC)
_SIZE_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SMALLEST_SPOOL = 1 << 20
_BOOLEANS = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False, "1": True, "0": False}

Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True, slots=True)
class Since:
    """How much history is wanted: so far back from the first start (`duration_s`, 0 = live only), or from a moment."""

    duration_s: int | None = None
    at_us: int | None = None

    @property
    def live_only(self) -> bool:
        """Nothing from before the start is wanted."""
        return self.duration_s == 0

    def start_us(self, now_us: int) -> int:
        """The first moment wanted, for a market that is started at `now_us`."""
        if self.at_us is not None:
            return min(self.at_us, now_us)
        return now_us - (self.duration_s or 0) * 1_000_000


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """What is to be done at one exchange. `symbols` are names and globs; "!" takes out what matches."""

    name: str
    symbols: tuple[str, ...]
    rest_url: str | None = None
    ws_url: str | None = None
    sandbox: bool = False
    shards: int = 1
    proxy: str | None = None
    # The folder in which it is remembered until when an exchange must not be asked.
    bans: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of `check-config`; secrets are masked."""

    section: str
    key: str
    value: str
    origin: str


def read_service(text: str) -> Service:
    """ohlcv, trade or both."""
    return _one_of(text, ("ohlcv", "trade", "both"))


def read_log_level(text: str) -> LogLevel:
    """A level by name, in either case."""
    return _one_of(text.upper(), ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), found=text)


def read_boolean(text: str) -> bool:
    """yes/no, true/false, on/off, 1/0."""
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"is {shown(text)}: allowed are yes and no")
    return _BOOLEANS[text.lower()]


def read_shards(text: str) -> int:
    """The number of children for one exchange."""
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= MAX_SHARDS:
        raise ValueError(f"is {shown(text)}: allowed is a whole number from 1 to {MAX_SHARDS}")
    return int(text)


def read_hang_after(text: str) -> float:
    """How long a child may be silent."""
    return _seconds(text, MIN_HANG_S)


def read_timeout(text: str) -> float:
    """Seconds that something may take."""
    return _seconds(text, 1)


def _seconds(text: str, least_s: int) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([sm])", text, re.ASCII)
    seconds = int(found[1]) * _SINCE_UNITS_S[found[2]] if found else -1
    if not least_s <= seconds <= MAX_TIMEOUT_S:
        raise ValueError(
            f"is {shown(text)}: allowed is a whole number followed by s or m (minutes), from {least_s}s to "
            f"{MAX_TIMEOUT_S // 60}m"
        )
    return float(seconds)


def read_since(text: str) -> Since:
    """`7d`, `2026-01-01`, `2026-01-01T12:00:00Z`, or `0`."""
    allowed = (
        "allowed are a number followed by s, m (minutes), h, d or w, an ISO date or time in UTC such as 2026-01-31 or "
        "2026-01-31T12:00, and 0 for live only"
    )
    if text == "0":
        return Since(duration_s=0)
    duration = re.fullmatch(r"([0-9]{1,10})([smhdw])", text, re.ASCII)
    if duration:
        seconds = int(duration[1]) * _SINCE_UNITS_S[duration[2]]
        if seconds > _MAX_SINCE_DAYS * 86400:
            raise ValueError(f"is {shown(text)}: at most {_MAX_SINCE_DAYS}d are allowed")
        return Since(duration_s=seconds)
    try:
        if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
            raise ValueError
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is {shown(text)}: {allowed}") from None
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment < _FIRST_MARKET:
        raise ValueError(f"is {shown(text)}: before 2009-01-01 there was no market")
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return Since(at_us=(since_epoch.days * 86400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds)


def read_size(text: str) -> int:
    """Bytes: a whole number with KiB, MiB, GiB or TiB behind it."""
    found = re.fullmatch(r"([0-9]{1,12}) ?([KMGT]iB)", text, re.ASCII)
    size = int(found[1]) * _SIZE_UNITS[found[2]] if found else 0
    if size < _SMALLEST_SPOOL:
        raise ValueError(f"is {shown(text)}: allowed is a number followed by KiB, MiB, GiB or TiB, at least 1MiB")
    return size


def read_exchanges(text: str) -> tuple[str, ...]:
    """Exchange ids, each once, in the order given."""
    names = _items(text)
    if not names:
        raise ValueError("is empty: name at least one exchange, for instance kraken")
    for name in names:
        check_exchange(name)
    return names


def check_exchange(name: str) -> None:
    """Refuse what ccxt does not have (any more)."""
    if name in EXCHANGE_IDS:
        return
    if name.lower() in CLOSED:
        raise ValueError(f'names "{name}": {CLOSED[name.lower()]}; take it out')
    if len(name.split()) > 1:
        raise ValueError(f"has {shown(name)} in it: separate names by commas")
    raise ValueError(
        f"names {shown(name)}, which is none of the {len(EXCHANGE_IDS)} exchanges of ccxt"
        + (did_you_mean(name, EXCHANGE_IDS) or "; allowed are ids such as kraken, binance or coinbase")
    )


def service_fault(service: Service, exchange: str) -> str | None:
    """Why this exchange cannot be collected so, or None. With `both`, what it does not give is left out."""
    ability = ABILITIES[exchange]
    if service == "trade" and not (ability.streams_trades or ability.gives_trades):
        return f"service is trade, but {exchange} gives no public trades: collect ohlcv or both, or leave it out"
    if service == "ohlcv" and not ability.gives_candles:
        return f"service is ohlcv, but {exchange} gives no candles of one minute: with both they are built from trades"
    return None


def read_symbols(text: str) -> tuple[str, ...]:
    """Names and globs as `ohlcvd.symbols` understands them, each once, in the order given."""
    patterns = _items(text)
    if not patterns:
        raise ValueError("is empty: name at least one symbol, for instance BTC/USD or */USDT")
    for pattern in patterns:
        _check_symbol(pattern)
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    if not wanted:
        raise ValueError("only takes symbols out (!): name some to collect too, for instance */USDT")
    if not any(is_glob(pattern) for pattern in wanted) and not select(patterns, dict.fromkeys(wanted, True)).symbols:
        raise ValueError(f"is {shown(text)}: what it names it also takes out, nothing is left")
    return patterns


def read_rest_url(text: str) -> str | None:
    """Where REST goes instead, without a slash at the end; None for the exchange's own."""
    return _server_url(text, ("http", "https"))


def read_ws_url(text: str) -> str | None:
    """Where WebSockets go instead; None for the exchange's own."""
    return _server_url(text, ("ws", "wss"))


def read_proxy(text: str) -> str | None:
    """The HTTP proxy through which an exchange is reached; None for none."""
    return _server_url(text, ("http", "https"))


def read_listen(text: str) -> str:
    """`address:port`, `[IPv6 address]:port`, or "" for not at all."""
    if not text:
        return ""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+)):([0-9]{1,5})", text, re.ASCII)
    if not found or int(found[3]) > 65535:
        raise ValueError(f"is {shown(text)}: allowed is address:port, such as 127.0.0.1:9464 or [::1]:9464")
    return text


def read_dsn(text: str) -> str:
    """`embedded`, or a conninfo string or URI that libpq understands."""
    if not text:
        raise ValueError('is empty: allowed are "embedded", a libpq conninfo string, and a postgresql:// URI')
    if text != dsn.EMBEDDED:
        dsn.parse_postgres(text)
    return text


def read_redis_url(text: str) -> str:
    """`embedded`, or a URL that redis-py understands."""
    if text != dsn.EMBEDDED:
        dsn.parse_redis(text)
    return text


def shown(text: str) -> str:
    """What was found, in quotes, safe to print and not too long."""
    cut = text if len(text) <= 80 else text[:77] + "..."
    return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut) + '"'


def listed(names: Collection[str]) -> str:
    """ "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _one_of(text: str, allowed: Sequence[Choice], found: str | None = None) -> Choice:
    for choice in allowed:
        if text == choice:
            return choice
    raise ValueError(f"is {shown(found or text)}: allowed are {listed(allowed)}{did_you_mean(text, allowed)}")


def _items(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for item in (part.strip() for part in text.split(",")) if item))


def _check_symbol(pattern: str) -> None:
    name = pattern.removeprefix("!")
    if re.search(r"\s", name):
        raise ValueError(f"has {shown(pattern)} in it: separate symbols by commas")
    if not name.isprintable() or re.search("[\"'=;,]", name):
        raise ValueError(f"has {shown(pattern)} in it: write symbols plainly, without quotes: BTC/USD, */USDT")
    if is_glob(name) or re.fullmatch(r"[^/]+/[^/]+", name):
        return
    pair = re.fullmatch(r"([A-Za-z0-9]+)[-_]([A-Za-z0-9]+)", name)
    hint = f"; did you mean {pair[1]}/{pair[2]}?" if pair else ""
    raise ValueError(f"has {shown(pattern)} in it: a symbol is BASE/QUOTE, for instance BTC/USD{hint}")


def _server_url(text: str, schemes: tuple[str, str]) -> str | None:
    if not text:
        return None
    allowed = f"allowed is a URL that begins with {schemes[0]}:// or {schemes[1]}://"
    if "@" in text.partition("//")[2].partition("/")[0]:
        raise ValueError(f"holds a user or a password: {allowed}, without any")
    try:
        url = urlsplit(text)
        if url.scheme not in schemes or not url.hostname or url.port == 0 or re.search(r"\s", text):
            raise ValueError
    except ValueError:
        raise ValueError(f"is {shown(text)}: {allowed} and names a host") from None
    if url.query or url.fragment or text.endswith(("?", "#")):
        raise ValueError(f"is {shown(text)}: {allowed}, without ? or #")
    return text.rstrip("/")
