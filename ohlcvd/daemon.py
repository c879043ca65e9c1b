"""The service: what `run`, `start`, `stop`, `restart` and `status` do. Every other command is somewhere else.

`run` takes the lock, prepares the embedded servers, loads the venue classes, and hands over to the supervisor. `start`
is the same in a process of its own, and returns when that is up. The others find the running supervisor through its
lock, never through a pid alone. Everything raises an OhlcvdError whose `exit_code` is the command's.
"""

import argparse
import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import setproctitle

from ohlcvd import __version__
from ohlcvd.config import Config, prepare_directories
from ohlcvd.embedded import EmbeddedServer, prepare_postgres, prepare_valkey
from ohlcvd.errors import Exit, OhlcvdError, PermissionRefused, ServiceUnavailable, UsageError
from ohlcvd.log import get_component_logger, setup_logging
from ohlcvd.supervisor.child import ChildSpec
from ohlcvd.supervisor.control import ask
from ohlcvd.supervisor.detach import Launch, detached
from ohlcvd.supervisor.lock import Holder, LockState, ServiceLock, look
from ohlcvd.supervisor.loop import Supervisor
from ohlcvd.supervisor.report import StatusReport, report_of
from ohlcvd.supervisor.states import Limits

EMBEDDED = "embedded"

START_S = 120.0  # the first start makes a database
SERVERS_STOP_S = 80.0  # the embedded servers' own ladders of signals
MARGIN_S = 5.0
ANSWER_S = 3.0  # it answers within milliseconds, unless it is stopped or gone

log = get_component_logger("ohlcvd.daemon")


def run(config: Config, *, terminal: bool = False) -> int:
    """The service in the foreground, until TERM or INT. The exit code; AlreadyRunning if there is one already."""
    return _serve(config, terminal=terminal, launch=None)


def start(config: Config) -> int:
    """The service in the background. Returns 0 once it is up; else raises what kept it from coming up."""
    pid = detached(lambda launch: _serve(config, terminal=False, launch=launch), START_S)
    print(f"ohlcvd: started, pid {pid}")
    return Exit.OK


def stop(config: Config) -> int:
    """Drain and end the running service, if there is one. 0: nothing runs any more; 1: it had to be killed."""
    holder = _find_holder(config.run_dir)
    if holder is None:
        print("ohlcvd: not running")
        return Exit.OK
    patience_s = config.grace_s + SERVERS_STOP_S + MARGIN_S
    with ExitStack() as stack:
        pidfds = [_hold(stack, pid) for pid in (holder.pid, *_children_of(holder.pid))]
        supervisor, family = pidfds[0], {pidfd for pidfd in pidfds if pidfd is not None}
        if supervisor is not None and _find_holder(config.run_dir) == holder:  # still the same process
            _send(supervisor, signal.SIGTERM, holder.pid)
        clean = _wait_gone(family, patience_s)
        if not clean:
            for pidfd in (supervisor, *family):
                if pidfd is not None:
                    _send(pidfd, signal.SIGKILL, holder.pid)
            _wait_gone(family, SERVERS_STOP_S)
    if not clean:
        print(f"ohlcvd: pid {holder.pid} did not stop within {patience_s:.0f} s and was killed", file=sys.stderr)
        return Exit.NO
    print(f"ohlcvd: stopped, pid {holder.pid}")
    return Exit.OK


def restart(config: Config) -> int:
    """`stop`, then `start`."""
    stop(config)
    return start(config)


def status(config: Config) -> StatusReport:
    """What runs, as far as it can be known: from the control socket, the lock, and Redis for the markets."""
    lock = look(config.run_dir)
    document: dict[str, object] | None = None
    notes: list[str] = []
    if lock.held:
        try:
            document = ask(config.run_dir, {"command": "status"}, ANSWER_S)
        except (OSError, ValueError) as error:
            notes.append(f"the supervisor does not answer on its control socket: {type(error).__name__}: {error}")
    markets: dict[str, dict[str, object]] = {}
    if document is not None:
        url = document.get("redis") if config.redis_url == EMBEDDED else config.redis_url
        try:
            markets = asyncio.run(_markets(str(url)))
        except OhlcvdError as error:
            notes.append(f"the markets' states cannot be read from redis: {error}")
    return report_of(lock, document, markets, notes)


async def _markets(url: str) -> dict[str, dict[str, object]]:
    from ohlcvd.cache.reader import CacheReader

    async with CacheReader(url) as reader:
        return await reader.markets()


# --- serving


def _serve(config: Config, *, terminal: bool, launch: Launch | None) -> int:
    """Everything in order: directories, lock, log, servers, venue classes, supervisor. The lock is given back last."""
    prepare_directories(config)
    with ServiceLock(config.run_dir) as lock, _ends_by_signal():
        setup_logging(file=config.log_dir / "ohlcvd.log", level=config.log_level, terminal=terminal)
        setproctitle.setproctitle("ohlcvd: supervisor")
        for warning in config.warnings:
            log.warning(warning)
        try:
            with ExitStack() as stack:
                return _supervise(config, lock, stack, launch)
        except _Ended as ended:
            log.info("the supervisor ends: it received %s before it was up", ended)
            return Exit.OK
        except OhlcvdError as error:
            log.error("the supervisor ends: %s", error, exit_code=int(error.exit_code))
            raise
        except Exception as error:
            log.exception("the supervisor ends because of a bug: %s: %s", type(error).__name__, error)
            raise


def _supervise(config: Config, lock: ServiceLock, stack: ExitStack, launch: Launch | None) -> int:
    servers: list[EmbeddedServer] = []
    postgres, redis = config.postgres_dsn, config.redis_url
    if postgres == EMBEDDED:
        servers.append(prepare_postgres(config.state_dir))
        stack.callback(servers[-1].release)
        postgres = servers[-1].address
    if redis == EMBEDDED:
        servers.append(prepare_valkey(config.state_dir))
        stack.callback(servers[-1].release)
        redis = servers[-1].address
    supervisor = Supervisor(
        _child_specs(config, postgres, redis),
        servers,
        run_dir=config.run_dir,
        limits=Limits(ladder=((signal.SIGTERM, config.grace_s), (signal.SIGKILL, 5.0))),
        about={
            "version": __version__,
            "service": config.service,
            "config": str(config.file) if config.file else None,
            "redis": redis if config.redis_url == EMBEDDED else None,
            "postgres": postgres if config.postgres_dsn == EMBEDDED else None,
        },
        on_up=launch.up if launch else None,
        forget=[lock.forget, *([launch.forget] if launch else [])],
    )
    return supervisor.run()


def _child_specs(config: Config, postgres: str, redis: str) -> list[ChildSpec]:
    """One child per exchange or shard. Loads what children need, so that they share its memory."""
    from ohlcvd.exchange import preload
    from ohlcvd.worker import worker_main

    preload([exchange.name for exchange in config.exchanges])
    return [ChildSpec(child, partial(worker_main, config, child, postgres, redis)) for child in child_names(config)]


def child_names(config: Config) -> list[str]:
    """kraken; binance/1, binance/2 where an exchange has more than one shard."""
    names: list[str] = []
    for exchange in config.exchanges:
        shards = exchange.shards
        names += [exchange.name] if shards <= 1 else [f"{exchange.name}/{shard}" for shard in range(1, shards + 1)]
    return names


class _Ended(BaseException):
    """TERM or INT while the service was not up yet: let everything on the stack clean up, then end."""


@contextmanager
def _ends_by_signal() -> Iterator[None]:
    def end(signum: int, _frame: object) -> NoReturn:
        raise _Ended(signal.Signals(signum).name)

    before = {signum: signal.signal(signum, end) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


# --- finding and ending what runs


def _find_holder(run_dir: Path) -> Holder | None:
    """The supervisor that holds the lock, or None if nobody does. One that is just starting is waited for."""
    state: LockState = look(run_dir)
    deadline = time.monotonic() + MARGIN_S
    while state.held and state.holder is None:
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"{run_dir}: the lock is held by a process that does not say which one it is")
        time.sleep(0.02)
        state = look(run_dir)
    return state.holder


def _children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _hold(stack: ExitStack, pid: int) -> int | None:
    """A pidfd, closed with the stack; None if the process is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, pidfd)
    return pidfd


def _send(pidfd: int, signum: int, pid: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise PermissionRefused(f"process {pid} belongs to another user: {error.strerror}") from error


def _wait_gone(pidfds: set[int], timeout_s: float) -> bool:
    """Wait until every process has ended (also one whose parent is slow to reap it)."""
    deadline = time.monotonic() + timeout_s
    waiting = select.poll()
    for pidfd in pidfds:
        waiting.register(pidfd, select.POLLIN)
    left = set(pidfds)
    while left:
        for pidfd, _ in waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            waiting.unregister(pidfd)
            left.discard(pidfd)
        if left and time.monotonic() >= deadline:
            return False
    return True


# --- python -m ohlcvd.daemon


class _Parser(argparse.ArgumentParser):
    """Wrong words are exit code 64."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def main(argv: Sequence[str] | None = None) -> int:
    """`run` with flags."""
    parser = _Parser(prog="python -m ohlcvd.daemon", description="Run the collector in the foreground.")
    parser.add_argument("--config", metavar="FILE", help="configuration file")
    for key, words in (
        ("service", "ohlcv, trade or both"),
        ("exchanges", "exchanges, separated by commas"),
        ("symbols", "symbols or globs, separated by commas"),
        ("since", "history wanted, for instance 7d"),
    ):
        parser.add_argument(f"--{key}", metavar=key.upper(), help=words)
    try:
        given = vars(parser.parse_args(argv))
        file = given.pop("config")
        flags = {f"ohlcvd.{key}": value for key, value in given.items() if value is not None}
        return run(Config(file, flags=flags), terminal=sys.stderr.isatty())
    except OhlcvdError as error:
        print(f"ohlcvd: {error}", file=sys.stderr)
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
