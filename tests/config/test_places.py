"""Files and folders: where they are, who may read them, what is made and what is only warned of."""

import os
from pathlib import Path

import pytest

from ohlcvd.config import Config, prepare_directories
from ohlcvd.config.layers import is_trusted, place_of
from ohlcvd.errors import ConfigError, Exit
from tests.config.loading import ORDINARY_USER, as_other_user, load, open_up

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_password_that_everybody_can_read_is_warned_of(folder: Path) -> None:
    text, env = "[postgres]\ndsn = host=db password=x\n", "REDIS_HOST=h\nREDIS_PASSWORD=y\n"
    load(folder, text, env=env)
    file, dotenv = folder / "etc" / "ohlcvd.conf", folder / "cwd" / ".env"
    file.chmod(0o644)
    dotenv.chmod(0o604)
    warnings = load(folder).warnings
    assert len(warnings) == 2
    assert warnings[0].startswith(
        "etc/ohlcvd.conf: holds a password and every user of this machine can read it; chmod 640"
    )
    file.chmod(0o640)
    dotenv.chmod(0o600)
    assert load(folder).warnings == ()


def test_variables_that_mean_nothing_are_warned_of(folder: Path) -> None:
    config = load(folder, env="OHLCV_SYMBOL=A/B\n", environ={"OHLCV_EXCHANGE": "kraken", "OHLCVD_VENV": "x"})
    assert config.warnings == (
        ".env:1: OHLCV_SYMBOL is no setting and is not read; did you mean OHLCV_SYMBOLS?",
        "environment OHLCV_EXCHANGE: OHLCV_EXCHANGE is no setting and is not read; did you mean OHLCV_EXCHANGES?",
    )


def test_a_future_since_is_warned_of(folder: Path) -> None:
    assert "lies in the future" in load(folder, flags={"ohlcvd.since": "2999-01-01"}).warnings[0]


def test_a_strangers_dotenv_is_not_read(folder: Path) -> None:
    assert [is_trusted(*case) for case in ((5, 5, 5), (0, 7, 5), (7, 7, 5))] == [True, True, True]
    assert [is_trusted(*case) for case in ((7, 0, 5), (7, 5, 5), (7, 0, 0))] == [False, False, False]
    assert load(folder, env="OHLCV_SERVICE=trade").service == "trade"
    if os.geteuid() == 0:  # nobody else can make a file that belongs to another user
        os.chown(folder / "cwd" / ".env", ORDINARY_USER, ORDINARY_USER)
        config = load(folder)
        assert config.service == "both"
        assert "is not read: it belongs to another user" in config.warnings[0]


def test_directories_depend_on_where_ohlcvd_is(folder: Path) -> None:
    place = place_of(CHECKOUT / "ohlcvd")
    assert (place.root, place.file) == (CHECKOUT, CHECKOUT / "etc/ohlcvd/ohlcvd.conf")
    assert place.directories["state_dir"] == CHECKOUT / "var/state"
    installed = place_of(folder / "lib" / "ohlcvd")
    assert (installed.root, installed.file) == (None, Path("/etc/ohlcvd/ohlcvd.conf"))
    assert [str(path) for path in installed.directories.values()] == [
        "/var/lib/ohlcvd",
        "/run/ohlcvd",
        "/var/log/ohlcvd",
    ]

    file = folder / "x.conf"
    file.write_text("[ohlcvd]\nrun_dir = a/../b\n")
    assert Config(file, environ={}, cwd=folder, place=place).run_dir == CHECKOUT / "b"
    with pytest.raises(ConfigError, match="must be an absolute path"):
        Config(file, environ={}, cwd=folder, place=installed)


def test_directories_are_made_closed_and_existing_ones_left_alone(folder: Path) -> None:
    config = load(folder)
    config.log_dir.mkdir(parents=True)
    config.log_dir.chmod(0o755)
    before = os.umask(0o777)
    try:
        (folder / "var").chmod(0o755)
        prepare_directories(config)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (config.state_dir, config.run_dir, config.log_dir)] == [
        0o700,
        0o750,
        0o755,
    ]
    prepare_directories(config)
    config.run_dir.rmdir()
    config.run_dir.write_text("")
    with pytest.raises(ConfigError, match="is not a directory"):
        prepare_directories(config)


def test_directories_that_cannot_be_made_or_written(folder: Path) -> None:
    open_up(folder)
    file = folder / "x.conf"
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    for state_dir, sentence in ((closed / "state", "cannot be made by this user"), (closed, "cannot write into it")):
        file.write_text(f"[ohlcvd]\nstate_dir = {state_dir}\n")
        action = "prepare_directories(Config(folder / 'x.conf', environ={}, cwd=folder))"
        code, said = as_other_user(folder, action)
        assert (code, sentence in said) == (Exit.PERMISSION, True), said
