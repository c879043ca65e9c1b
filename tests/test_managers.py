"""Who runs the daemon, as far as it can be told from files; the managers themselves are met in tests/long/package."""

import os
from pathlib import Path

import pytest

from ohlcvd import managers
from ohlcvd.config import Config
from ohlcvd.supervisor.lock import Holder


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("0::/system.slice/ohlcvd.service\n", True),
        ("9:name=systemd:/system.slice/ohlcvd.service\n8:pids:/\n0::/\n", True),
        ("0::/machine.slice/box/system.slice/ohlcvd.service/child\n", True),
        ("0::/system.slice/supervisor.service\n", False),
        ("0::/system.slice/my-ohlcvd.service\n", False),
        ("0::/user.slice/user-0.slice/session-1.scope\n", False),
        ("", False),
    ],
)
def test_the_unit_is_read_from_the_control_group(groups: str, expected: bool) -> None:
    assert managers.is_in_unit(groups) is expected


def test_supervisorctl_is_the_one_beside_supervisord(tmp_path: Path) -> None:
    beside = tmp_path / "supervisorctl"
    daemon = str(tmp_path / "supervisord")
    assert managers.supervisorctl_of(["/usr/bin/python3", daemon, "-n", "-c", "/a.conf"]) == (
        "supervisorctl",
        "-c",
        "/a.conf",
    )
    beside.touch()
    assert managers.supervisorctl_of(["/usr/bin/python3", daemon, "-n"]) == (str(beside),)
    assert managers.supervisorctl_of([daemon, "--configuration", "/b"]) == (str(beside), "-c", "/b")
    assert managers.supervisorctl_of(["supervisord"]) == ("supervisorctl",)
    assert managers.supervisorctl_of(["/bin/sh", "-c", "ohlcvd run"]) is None
    assert managers.supervisorctl_of([]) is None


def test_this_process_and_one_that_is_gone_have_no_manager() -> None:
    assert managers.manager_of_process(os.getpid()) is None
    assert managers.manager_of_process(2**22) is None


def test_a_checkout_is_nobodys(tmp_path: Path) -> None:
    config = Config(flags={"ohlcvd.run_dir": str(tmp_path)}, environ={})
    assert not managers.is_installed()
    assert managers.manager_of(config, Holder(os.getpid(), "now")) is None
    assert managers.start(config, ["--since"]) is None
    assert managers.stop(config) is None
    assert managers.restart(config, []) is None
    assert managers.remarks(config, None) == []
    before = os.getuid()
    assert managers.as_owner(config) is config
    assert os.getuid() == before
