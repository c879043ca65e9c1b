"""The lock of a directory, and the directories of sockets."""

import os
import re
from pathlib import Path

import pytest

from ohlcvd.embedded import prepare_valkey, running
from ohlcvd.embedded.lock import DirectoryLock, processes_holding
from ohlcvd.errors import EmbeddedServerError
from tests.servers import owner, private_directory


def test_children_of_the_owner_do_not_hold_the_lock(tmp_path: Path) -> None:
    held = DirectoryLock(tmp_path / "x.lock")
    with owner(os.geteuid(), list) as (child, _):
        assert child not in processes_holding(tmp_path / "x.lock")
        held.release()
        DirectoryLock(tmp_path / "x.lock", wait_s=0).release()


def test_who_waits_says_so_once_and_names_the_holder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def take() -> list[int]:
        return [DirectoryLock(tmp_path / "x.lock").duplicate()]

    with owner(os.geteuid(), take) as (pid, _), caplog.at_level("INFO"):
        holder = rf"{re.escape(str(tmp_path))}/x\.lock is held by process {pid} \(.+\)"
        with pytest.raises(EmbeddedServerError, match=rf"{holder}, still after 0\.3 s; stop it or choose"):
            DirectoryLock(tmp_path / "x.lock", wait_s=0.3)
    (message,) = caplog.messages
    assert re.fullmatch(rf"{holder}; waiting up to 0\.3 s for it to leave", message)
    DirectoryLock(tmp_path / "x.lock", wait_s=5).release()


def test_a_released_lock_cannot_be_given_to_a_server(tmp_path: Path) -> None:
    held = DirectoryLock(tmp_path / "x.lock")
    held.release()
    held.release()
    with pytest.raises(EmbeddedServerError, match=r"x\.lock was released"):
        held.duplicate()


def test_a_lock_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.lock").symlink_to("elsewhere")
    with pytest.raises(EmbeddedServerError, match=r"cannot open the lock .*x\.lock: Too many levels of symbolic links"):
        DirectoryLock(tmp_path / "x.lock")


def test_a_socket_directory_of_somebody_else_is_not_trusted() -> None:
    with private_directory() as folder:
        server = prepare_valkey(folder / ("x" * 150))
        os.mkdir(server.sockets)
        os.chmod(server.sockets, 0o777)
        with pytest.raises(EmbeddedServerError, match=r"must be a directory of uid .* with mode 0700"):
            server.spawn()
        server.release()
        assert not server.sockets.exists()


def test_a_socket_directory_that_was_half_made_is_finished() -> None:
    with private_directory() as folder:
        (folder / "valkey.socket").mkdir(0o700)
        with running(prepare_valkey(folder)) as server:
            assert server.is_ready()
