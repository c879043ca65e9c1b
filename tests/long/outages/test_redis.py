"""Redis is killed for twenty seconds: nothing is lost, and heartbeats and streams are back within five seconds."""

import signal
import time
from pathlib import Path

import redis

from tests.process.sites import EXCHANGES, Server, Site, collecting, site

BACK_S = 5.0


def test_redis_is_killed(tmp_path: Path, database: Server, cache: Server) -> None:
    with site(tmp_path, database.address, cache.address) as here, collecting(here) as from_us:
        pids = here.pids()
        cache.end(signal.SIGKILL)
        newest_us = here.newest_us()
        time.sleep(20)
        storing_s = here.wait_until_storing(newest_us + 19_000_000)
        ready_s = cache.start()
        while not is_back(here):
            assert time.monotonic() - ready_s < BACK_S
            time.sleep(0.05)
        back_s = time.monotonic() - ready_s
        figures = here.check(from_us)
        assert here.pids() == pids
    print(f"redis killed for 20 s: {figures}; storing went on ({storing_s:.1f} s), all back after {back_s:.1f} s")


def is_back(here: Site) -> bool:
    """Every child's heartbeat, and streams of trades of both exchanges."""
    try:
        with here.daemon.redis() as client:
            streams = [key.decode() for key in client.scan_iter("ohlcvd:trades:*")]
            beats = [client.get(f"ohlcvd:heartbeat:{name}") for name in EXCHANGES]
    except redis.RedisError:
        return False
    return all(beats) and all(any(f":{name}:" in key for key in streams) for name in EXCHANGES)
