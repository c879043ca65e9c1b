"""The two kinds of file that hold settings, read line by line so that every value knows its line.

An INI file: `[section]`, `key = value`, comment lines that begin with ; or #, and a comment after " ;" on any line. A
value that ends with a comma goes on in the next line if that one is indented. A `.env` file: NAME=VALUE, an `export`
before it, quotes around the value, comments after #; lines for other programs are passed over.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from ohlcvd.config.settings import shown
from ohlcvd.errors import ConfigError, PermissionRefused

MAX_BYTES = 1 << 20

_COMMENT = re.compile(r"(?:^|\s);.*$")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)", re.ASCII | re.DOTALL)
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE_QUOTED = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DIRECTORY = re.compile(r"\s*(state_dir|run_dir|log_dir)\s*=\s*(\S.*?)\s*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One value as it was written; `origin` says where ("ohlcvd.conf:12")."""

    section: str
    key: str
    text: str
    origin: str


@overload
def read_text(path: Path, name: str, *, missing_ok: Literal[False] = False) -> str: ...
@overload
def read_text(path: Path, name: str, *, missing_ok: bool) -> str | None: ...
def read_text(path: Path, name: str, *, missing_ok: bool = False) -> str | None:
    """The whole of a small UTF-8 file; `name` is what messages call it. None if it may be missing and is."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        if missing_ok:
            return None
        raise ConfigError(f"{name}: there is no such file") from error
    except PermissionError as error:
        raise PermissionRefused(f"{name}: cannot be read by this user ({error.strerror})") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{name}: is a directory, not a file") from error
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{name}: is larger than {MAX_BYTES >> 20} MiB, which no configuration is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text (byte {data[error.start]:#04x})") from error


def parse_ini(text: str, name: str) -> list[Entry]:
    """The values of an INI file in their order; whether sections and keys exist is not known here."""
    entries: list[Entry] = []
    sections: dict[str, int] = {}
    keys: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in _logical_lines(text, name):
        origin = f"{name}:{number}"
        if line.startswith("["):
            section = _section(line, origin)
            if section in sections:
                raise ConfigError(f"{origin}: section [{section}] was already begun in line {sections[section]}")
            sections[section] = number
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key:
            raise ConfigError(f"{origin}: {shown(line)} is neither a [section] nor key = value nor a comment (; or #)")
        if not section:
            raise ConfigError(f"{origin}: {shown(key)} stands before any [section]; begin with [ohlcvd]")
        if (section, key) in keys:
            raise ConfigError(f"{origin}: {key} was already set in line {keys[section, key]}; keep one of the two")
        keys[section, key] = number
        entries.append(Entry(section, key, value, origin))
    # An empty section is checked like one with keys.
    entries += [Entry(s, "", "", f"{name}:{n}") for s, n in sections.items() if not any(k[0] == s for k in keys)]
    return entries


def parse_env(text: str, name: str, wanted: Collection[str]) -> dict[str, Entry]:
    """The values of the `wanted` names in a `.env` file (the last one of a name counts), and names like ours."""
    found: dict[str, Entry] = {}
    for number, line in enumerate(text.split("\n"), 1):
        origin = f"{name}:{number}"
        assignment = _ASSIGNMENT.fullmatch(line.rstrip("\r"))
        if assignment:
            variable, value = assignment.groups()
            if variable in wanted:
                found[variable] = Entry("", variable, _env_value(value.strip(), origin, variable), origin)
            elif variable.startswith("OHLCV_"):
                found[variable] = Entry("", variable, "", origin)
            continue
        words = line.split()
        if words and words[0] != "#" and (words[0] in wanted or (words[0] == "export" and set(words) & set(wanted))):
            raise ConfigError(f"{origin}: has no = after the name; write NAME=VALUE")
    return found


def _logical_lines(text: str, name: str) -> Iterator[tuple[int, str]]:
    """Number and content of each line that says something, comments gone, continuations joined."""
    begun: tuple[int, str] | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.removesuffix("\r")
        content = "" if line.lstrip().startswith("#") else _COMMENT.sub("", line).strip()
        if not content:
            continue
        if not content.replace("\t", " ").isprintable():
            raise ConfigError(f"{name}:{number}: holds a control character: {shown(content)}")
        if begun and begun[1].endswith(",") and line[0] in " \t":
            begun = (begun[0], f"{begun[1]} {content}")
            continue
        if begun:
            yield begun
        begun = (number, content)
    if begun:
        yield begun


def _section(line: str, origin: str) -> str:
    if not line.endswith("]") or not line[1:-1].strip():
        raise ConfigError(f"{origin}: {shown(line)} is not a section; write [name]")
    kind, colon, exchange = line[1:-1].partition(":")
    return kind.strip() + colon + exchange.strip()


def _env_value(value: str, origin: str, variable: str) -> str:
    for quote, pattern in (('"', _DOUBLE_QUOTED), ("'", _SINGLE_QUOTED)):
        if value.startswith(quote):
            quoted = pattern.fullmatch(value)
            if not quoted:
                # The value itself is not shown: it may be a password.
                raise ConfigError(f"{origin}: the value of {variable} begins with {quote} and does not end with it")
            if quote == "'":
                return quoted[1]
            return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), quoted[1])
    return re.sub(r"(^|\s)#.*$", "", value).strip()


def directories_in(path: Path) -> dict[str, str]:
    """The directories that an INI file names, by key, whatever else is wrong with it; none if it cannot be read."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found = (_DIRECTORY.fullmatch(_COMMENT.sub("", line)) for line in lines)
    return {match[1]: match[2] for match in found if match}
