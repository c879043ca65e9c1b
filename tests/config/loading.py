"""Configurations made for one test, and what they are refused with."""

import os
from pathlib import Path

import pytest

from ohlcvd.config import Config, Place, prepare_directories
from ohlcvd.errors import ConfigError, PermissionRefused

ORDINARY_USER = 65534


def load(
    folder: Path,
    text: str | None = None,
    *,
    env: str | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, str] | None = None,
) -> Config:
    """A Config of this file, `.env`, environment and flags and of nothing else."""
    file = folder / "etc" / "ohlcvd.conf"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    if env is not None:
        (folder / "cwd" / ".env").write_text(env, encoding="utf-8")
    place = Place(folder, file, {f"{name}_dir": folder / "var" / name for name in ("state", "run", "log")})
    return Config(flags=flags, environ=environ or {}, cwd=folder / "cwd", place=place)


def refusal(folder: Path, text: str | None = None, **layers: object) -> str:
    """The sentence that this configuration is refused with."""
    with pytest.raises(ConfigError) as refused:
        load(folder, text, **layers)  # type: ignore[arg-type]
    assert refused.value.exit_code == 78
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def origin_of(config: Config, section: str, key: str) -> str:
    return next(s.origin for s in config.effective() if (s.section, s.key) == (section, key))


def as_other_user(folder: Path, action: str) -> tuple[int, str]:
    """Exit code and output of a child that runs `action` as an ordinary user (as ourselves where we are one)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(ORDINARY_USER)
                os.setuid(ORDINARY_USER)
            scope: dict[str, object] = {"folder": folder, "Config": Config, "prepare_directories": prepare_directories}
            exec(action, scope)
            code = 0
        except PermissionRefused as error:
            os.write(write, str(error).encode())
            code = error.exit_code
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said


def open_up(folder: Path) -> None:
    """Let every user pass to `folder`, which pytest closes."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and parent.stat().st_mode & 0o001 == 0:
            parent.chmod(0o755)
