"""Puts the layers of a configuration together: file, `.env`, environment, flags. Later wins, and every value keeps the
place it came from, for messages and for `check-config`.

Where ohlcvd is a checkout, relative directories belong to the checkout; where it is installed they must be absolute.
A variable that is set to nothing counts as not set: that is how compose files pass on what they do not know.
"""

import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ohlcvd.config import dsn, retention, settings
from ohlcvd.config.files import Entry, parse_env, parse_ini, read_text
from ohlcvd.config.settings import EXCHANGE_KEYS, EXCHANGE_SECTION, SECTIONS, ExchangeConfig, Service, Setting, shown
from ohlcvd.errors import ConfigError
from ohlcvd.nearest import did_you_mean

# The ladder of a shutdown: a child drains, then is killed, then the embedded servers stop, all before a service manager
# loses its patience (TimeoutStopSec in etc/systemd, stopwaitsecs in etc/supervisor).
SERVERS_STOP_S = 75.0
SERVICE_STOP_S = 120.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where ohlcvd is: a checkout (`root`), or installed (None)."""

    root: Path | None
    file: Path
    directories: Mapping[str, Path]


def place_of(package: Path) -> Place:
    """What the folder that holds the package says about where things are."""
    root = package.resolve().parent
    if (root / "setup.cfg").is_file() and (root / "etc" / "ohlcvd").is_dir():
        var = root / "var"
        directories = {"state_dir": var / "state", "run_dir": var / "run", "log_dir": var / "log"}
        return Place(root, root / "etc" / "ohlcvd" / "ohlcvd.conf", directories)
    directories = {
        "state_dir": Path("/var/lib/ohlcvd"),
        "run_dir": Path("/run/ohlcvd"),
        "log_dir": Path("/var/log/ohlcvd"),
    }
    return Place(None, Path("/etc/ohlcvd/ohlcvd.conf"), directories)


def our_place() -> Place:
    """Where this program is."""
    return place_of(Path(__file__).parent.parent)


def load(
    file: str | Path | None,
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    cwd: Path | None = None,
    place: Place | None = None,
) -> dict[str, object]:
    """The value of each field of `Config`."""
    place = place or our_place()
    warnings: list[str] = []
    path, entries = _file_layer(file, place, warnings)
    variables = _variables(environ, cwd or working_directory(), place, warnings)
    layers = _Layers(place)
    layers.add_file(entries)
    layers.add_variables(variables)
    layers.add_flags(flags)
    since = layers.read("ohlcvd", "since", settings.read_since)
    if since.at_us is not None and since.at_us > time.time_ns() // 1000:
        origin = layers.values["ohlcvd", "since"].origin
        warnings.append(f"{origin}: since lies in the future: nothing from before is kept")
    loaded: dict[str, Any] = {
        "service": layers.service(variables.get(settings.TRADE_SWITCH)),
        "exchanges": layers.exchanges(),
        "since": since,
        **retention.read(layers.read, layers.values, since),
        **{key: layers.directory(key) for key in ("state_dir", "run_dir", "log_dir")},
        "spool_max_bytes": layers.read("ohlcvd", "spool_max", settings.read_size),
        "log_level": layers.read("ohlcvd", "log_level", settings.read_log_level),
        "postgres_dsn": layers.read("postgres", "dsn", settings.read_dsn, dsn.mask_postgres),
        "redis_url": layers.read("redis", "url", settings.read_redis_url, dsn.mask_redis),
        "fullon_views": layers.read("postgres", "fullon_views", settings.read_boolean),
        "fullon_keys": layers.read("redis", "fullon_keys", settings.read_boolean),
        "http_listen": layers.read("http", "listen", settings.read_listen),
        "hang_after_s": layers.read("ohlcvd", "hang_after", settings.read_hang_after),
        **{f"{key}_s": layers.read("ohlcvd", key, settings.read_timeout) for key in ("drain", "grace")},
        "file": path,
    }
    layers.check_ladder()
    layers.check_service(loaded["service"], loaded["exchanges"])
    return loaded | {"warnings": tuple(warnings), "_settings": layers.settings()}


class _Layers:
    """The values that count, by (section, key), and what was read of them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.values = {(s, k): Entry(s, k, text, "default") for s, keys in SECTIONS.items() for k, text in keys.items()}
        for key, path in place.directories.items():
            self.values["ohlcvd", key] = Entry("ohlcvd", key, str(path), "default")
        self._overridden: set[tuple[str, str]] = set()
        self._shown: dict[tuple[str, str], Setting] = {}

    def add_file(self, entries: list[Entry]) -> None:
        """A file's values, all of which must have a name that exists."""
        for entry in entries:
            _check_name(entry)
            if entry.key:
                self.values[entry.section, entry.key] = entry
            elif entry.section.startswith(EXCHANGE_SECTION):  # empty; its line is needed if it is left out
                shards = Entry(entry.section, "shards", EXCHANGE_KEYS["shards"], entry.origin)
                self.values[entry.section, "shards"] = shards

    def add_variables(self, variables: Mapping[str, Entry]) -> None:
        """What `.env` and the environment say."""
        for name, (section, key) in settings.ENVIRONMENT.items():
            if name in variables:
                self._override(section, key, variables[name])
        self._replace_parts("postgres", "dsn", settings.POSTGRES_PARTS, variables, dsn.replace_postgres)
        self._replace_parts("redis", "url", settings.REDIS_PARTS, variables, dsn.replace_redis)

    def add_flags(self, flags: Mapping[str, str]) -> None:
        """What the command line says, by "section.key"."""
        for name, text in flags.items():
            section, _, key = name.rpartition(".")
            if key not in SECTIONS.get(section, ()):
                raise ConfigError(f"there is no setting {name}{did_you_mean(name, _all_names())}")
            self._override(section, key, Entry(section, key, text.strip(), "--" + key.replace("_", "-")))

    def _override(self, section: str, key: str, entry: Entry) -> None:
        self.values[section, key] = Entry(section, key, entry.text, entry.origin)
        self._overridden.add((section, key))

    def read(self, section: str, key: str, reader: Callable[[str], T], mask: Callable[[str], str] | None = None) -> T:
        """The value of one setting, checked."""
        entry = self.values[section, key]
        value = _checked(entry, key, reader)
        text = mask(entry.text) if mask else entry.text
        self._shown[section, key] = Setting(section, key, text, entry.origin)
        return value

    def settings(self) -> tuple[Setting, ...]:
        """All that was read, in the order of the sections and keys."""
        order = [*self.values, *self._shown]
        return tuple(sorted(self._shown.values(), key=lambda s: order.index((s.section, s.key))))

    def service(self, trade_switch: Entry | None) -> Service:
        """What is collected, with the switch for trades applied."""
        service = self.read("ohlcvd", "service", settings.read_service)
        if trade_switch is None or _checked(trade_switch, settings.TRADE_SWITCH, settings.read_boolean):
            return service
        chosen = self.values["ohlcvd", "service"]
        if service == "trade":
            raise ConfigError(
                f"{trade_switch.origin}: {settings.TRADE_SWITCH} is {shown(trade_switch.text)}, but service is trade "
                f"({chosen.origin}): nothing would be collected; change one of the two"
            )
        if service == "both":
            self._shown["ohlcvd", "service"] = Setting("ohlcvd", "service", "ohlcv", trade_switch.origin)
        return "ohlcv"

    def directory(self, key: str) -> Path:
        """An absolute path."""
        return self.read("ohlcvd", key, self._absolute)

    def _absolute(self, text: str) -> Path:
        if not text or text.startswith("~"):
            raise ValueError(f"is {shown(text)}: write the whole path of a directory")
        path = Path(os.path.normpath(text))
        if path.is_absolute():
            return path
        if self.place.root is None:
            raise ValueError(f"is {shown(text)}: must be an absolute path")
        return self.place.root / path

    def check_ladder(self) -> None:
        """Refuse timeouts of which a later one would cut off an earlier one."""
        drain, grace = (self.values["ohlcvd", key] for key in ("drain", "grace"))
        if settings.read_timeout(drain.text) >= settings.read_timeout(grace.text):
            raise ConfigError(
                f"{drain.origin}: drain is {shown(drain.text)} and grace is {shown(grace.text)} ({grace.origin}): a "
                "child would be killed while it drains; drain must be the shorter one"
            )
        longest_s = SERVICE_STOP_S - SERVERS_STOP_S
        if settings.read_timeout(grace.text) >= longest_s:
            raise ConfigError(
                f"{grace.origin}: grace is {shown(grace.text)}: must be shorter than {longest_s:g}s, because a service "
                f"manager waits {SERVICE_STOP_S:g} s and stopping the embedded servers may take {SERVERS_STOP_S:g} s"
            )

    def exchanges(self) -> tuple[ExchangeConfig, ...]:
        """What is done at each exchange."""
        names = self.read("ohlcvd", "exchanges", settings.read_exchanges)
        self.read("ohlcvd", "symbols", settings.read_symbols)
        sections = dict.fromkeys(section for section, _ in self.values if section.startswith(EXCHANGE_SECTION))
        for section in sections:
            name = section.removeprefix(EXCHANGE_SECTION)
            if name not in names:
                self._check_left_out(section, name)
                self._exchange(name)
        self._shown = {k: v for k, v in self._shown.items() if k[0] not in sections}
        return tuple(self._exchange(name) for name in names)

    def _exchange(self, name: str) -> ExchangeConfig:
        section = EXCHANGE_SECTION + name
        everywhere = self.values["ohlcvd", "symbols"]
        if (section, "symbols") not in self.values or ("ohlcvd", "symbols") in self._overridden:
            # What the environment or a flag asks for wins over the whole file.
            self.values[section, "symbols"] = Entry(section, "symbols", everywhere.text, everywhere.origin)
        for key, default in EXCHANGE_KEYS.items():
            self.values.setdefault((section, key), Entry(section, key, default, "default"))
        return ExchangeConfig(
            name,
            self.read(section, "symbols", settings.read_symbols),
            self.read(section, "rest_url", settings.read_rest_url),
            self.read(section, "ws_url", settings.read_ws_url),
            self.read(section, "sandbox", settings.read_boolean),
            self.read(section, "shards", settings.read_shards),
            self.read(section, "proxy", settings.read_proxy),
        )

    def check_service(self, service: Service, exchanges: Sequence[ExchangeConfig]) -> None:
        """Refuse an exchange that does not give the one thing that is collected."""
        origin = self.values["ohlcvd", "service"].origin
        for name in (exchange.name for exchange in exchanges):
            fault = settings.service_fault(service, name)
            if fault is not None:
                raise ConfigError(f"{origin}: {fault}")

    def _check_left_out(self, section: str, name: str) -> None:
        """A section for an exchange that is not collected is a slip, unless the file's list was overridden."""
        if ("ohlcvd", "exchanges") in self._overridden:
            return
        chosen = self.values["ohlcvd", "exchanges"]
        origin = next(entry.origin for (s, _), entry in self.values.items() if s == section)
        raise ConfigError(
            f"{origin}: section [{section}] is for an exchange that is not collected: exchanges is "
            f"{shown(chosen.text)} ({chosen.origin}); add {name} there or take the section out"
        )

    def _replace_parts(
        self,
        section: str,
        key: str,
        parts: Mapping[str, str],
        variables: Mapping[str, Entry],
        replace: Callable[[str, Mapping[str, str]], str],
    ) -> None:
        """POSTGRES_* or REDIS_* take the place of their own part of a connection string."""
        given = {name: variables[name] for name in parts if name in variables}
        if not given:
            return
        base = self.values[section, key]
        embedded = base.text == dsn.EMBEDDED
        first = next(iter(given))
        host = f"{section.upper()}_HOST"
        if embedded and host not in given:
            raise ConfigError(
                f"{given[first].origin}: {first} is set, but [{section}] {key} is embedded ({base.origin}), a private "
                f"server that is not reached by it; set {host} too, or take {first} out"
            )
        for name, entry in given.items():
            _checked(entry, name, partial(dsn.check_part, parts[name]))
        if not embedded:
            self.read(section, key, settings.read_dsn if section == "postgres" else settings.read_redis_url)
        origins = [] if embedded else [base.origin]
        origin = ", ".join(dict.fromkeys([*origins, *(entry.origin for entry in given.values())]))
        try:
            text = replace("" if embedded else base.text, {parts[name]: entry.text for name, entry in given.items()})
        except ValueError as error:
            raise ConfigError(f"{origin}: [{section}] {key} {error}") from None
        self.values[section, key] = Entry(section, key, text, origin)


def _checked(entry: Entry, label: str, reader: Callable[[str], T]) -> T:
    try:
        return reader(entry.text)
    except ValueError as error:
        quoted = len(entry.text) > 1 and entry.text[0] == entry.text[-1] and entry.text[0] in "\"'"
        hint = " (write values without quotes)" if quoted else ""
        raise ConfigError(f"{entry.origin}: {label} {error}{hint}") from None


def _check_name(entry: Entry) -> None:
    """Refuse a section or a key that does not exist."""
    section, key = entry.section, entry.key
    if section.startswith(EXCHANGE_SECTION):
        try:
            settings.check_exchange(section.removeprefix(EXCHANGE_SECTION))
        except ValueError as error:
            raise ConfigError(f"{entry.origin}: section [{section}] {error}") from None
    elif section not in SECTIONS:
        known = [f"[{name}]" for name in (*SECTIONS, EXCHANGE_SECTION + "NAME")]
        hint = did_you_mean(f"[{section}]", known)
        raise ConfigError(f"{entry.origin}: unknown section [{section}]: allowed are {settings.listed(known)}{hint}")
    allowed = EXCHANGE_KEYS if section.startswith(EXCHANGE_SECTION) else SECTIONS[section]
    if not key or key in allowed:
        return
    homes = [name for name, keys in SECTIONS.items() if key in keys]
    if key in EXCHANGE_KEYS:
        homes.append(EXCHANGE_SECTION + "NAME")
    hint = f"; it belongs into [{homes[0]}]" if homes else did_you_mean(key, allowed)
    names = settings.listed(allowed)
    raise ConfigError(f"{entry.origin}: unknown key {shown(key)} in [{section}]: allowed are {names}{hint}")


def _all_names() -> list[str]:
    return [f"{section}.{key}" for section, keys in SECTIONS.items() for key in keys]


def _file_layer(file: str | Path | None, place: Place, warnings: list[str]) -> tuple[Path | None, list[Entry]]:
    """The INI file, by its name or (None) the usual one, which need not exist."""
    path = place.file if file is None else Path(file)
    name = str(path)
    if file is None and place.root is not None:
        name = str(path.relative_to(place.root))
    text = read_text(path, name, missing_ok=file is None)
    if text is None:
        return None, []
    entries = parse_ini(text, name)
    if any(_holds_password(entry) for entry in entries):
        _warn_if_readable(path, name, warnings)
    return path, entries


def _holds_password(entry: Entry) -> bool:
    mask = {("postgres", "dsn"): dsn.mask_postgres, ("redis", "url"): dsn.mask_redis}.get((entry.section, entry.key))
    try:
        return mask is not None and dsn.MASK in mask(entry.text)
    except ValueError:
        return False  # said when it is read


def _warn_if_readable(path: Path, name: str, warnings: list[str]) -> None:
    if os.stat(path).st_mode & stat.S_IROTH:
        warnings.append(f"{name}: holds a password and every user of this machine can read it; chmod 640 {path}")


def _variables(environ: Mapping[str, str], cwd: Path | None, place: Place, warnings: list[str]) -> dict[str, Entry]:
    """Our variables of `.env` and the environment, which wins; empty ones are left out."""
    found: dict[str, Entry] = {}
    folders = [folder for folder in (cwd, place.root) if folder is not None]
    for folder in folders:
        path = folder / ".env"
        if os.path.isfile(path):  # a folder of this name is a Python environment
            found |= _dotenv_layer(path, ".env" if folder == cwd else str(path), warnings)
            break
    for name, text in environ.items():
        if name in settings.ENVIRONMENT_NAMES or name.startswith("OHLCV_"):
            origin = f"environment {name}"
            found[name] = Entry("", name, text, origin) if text.strip() or name not in found else found[name]
    for name in [name for name in found if name not in settings.ENVIRONMENT_NAMES]:
        hint = did_you_mean(name, settings.ENVIRONMENT_NAMES)
        warnings.append(f"{found.pop(name).origin}: {name} is no setting and is not read{hint}")
    return {name: _cleaned(entry) for name, entry in found.items() if entry.text.strip()}


def _dotenv_layer(path: Path, name: str, warnings: list[str]) -> dict[str, Entry]:
    owner = os.stat(path).st_uid
    if not is_trusted(owner, os.stat(path.parent).st_uid, os.geteuid()):
        warnings.append(f"{path}: is not read: it belongs to another user (uid {owner})")
        return {}
    found = parse_env(read_text(path, name), name, settings.ENVIRONMENT_NAMES)
    if any("PASSWORD" in variable and entry.text for variable, entry in found.items()):
        _warn_if_readable(path, name, warnings)
    return found


def is_trusted(owner: int, folder_owner: int, user: int) -> bool:
    """Whether `user` takes settings from a file of `owner`: a stranger in /tmp must not choose our database."""
    return owner in (user, 0, folder_owner)


def _cleaned(entry: Entry) -> Entry:
    text = entry.text if "PASSWORD" in entry.key else entry.text.strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{entry.origin}: the value of {entry.key} is not UTF-8 text") from None
    return Entry(entry.section, entry.key, text, entry.origin)


def working_directory() -> Path | None:
    """Where we are, if that is anywhere."""
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed under us; there is no .env in it
        return None
