"""The service itself, from the lock to the end of the supervisor, in the process that becomes the supervisor.

In order: directories, lock, log, embedded servers, venue classes, supervisor. What children do is passed to the
supervisor as functions; so is the way to read the configuration again.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NoReturn

import setproctitle

from ohlcvd import __version__
from ohlcvd.config import Config, prepare_directories
from ohlcvd.config.changes import applicable, changes, child_names
from ohlcvd.config.dsn import EMBEDDED
from ohlcvd.embedded import EmbeddedServer, prepare_postgres, prepare_valkey
from ohlcvd.errors import Exit, OhlcvdError
from ohlcvd.log import get_component_logger, reopen_logs, set_level, setup_logging
from ohlcvd.supervisor.child import ChildSpec
from ohlcvd.supervisor.commands import Update
from ohlcvd.supervisor.detach import Launch
from ohlcvd.supervisor.family import Plan
from ohlcvd.supervisor.lock import ServiceLock
from ohlcvd.supervisor.loop import Supervisor
from ohlcvd.supervisor.report import MONITOR
from ohlcvd.supervisor.states import Limits

LATER = "{} is changed in the configuration; restart the service to apply it"

log = get_component_logger("ohlcvd.daemon")


def serve(config: Config, *, terminal: bool, launch: Launch | None = None) -> int:
    """Until TERM or INT; the exit code. The lock is given back last."""
    prepare_directories(config)
    with ServiceLock(config.run_dir) as lock, _ends_by_signal():
        setup_logging(file=config.log_dir / "ohlcvd.log", level=config.log_level, terminal=terminal)
        setproctitle.setproctitle("ohlcvd: supervisor")
        for warning in config.warnings:
            log.warning(warning)
        try:
            with ExitStack() as stack:
                return _supervise(config, lock, stack, launch, terminal)
        except _Ended as ended:
            log.info("the supervisor ends: it received %s before it was up", ended)
            return Exit.OK
        except OhlcvdError as error:
            log.error("the supervisor ends: %s", error, exit_code=int(error.exit_code))
            raise
        except Exception as error:
            log.exception("the supervisor ends because of a bug: %s: %s", type(error).__name__, error)
            raise


def _announce(config: Config) -> None:
    """For the journal, or whatever else keeps what a service says on stderr; the reason of an end comes there too."""
    exchanges = ", ".join(exchange.name for exchange in config.exchanges)
    with contextlib.suppress(OSError, ValueError):  # nobody is listening
        print(f"ohlcvd {__version__} is up: {exchanges}; logs are in {config.log_dir}", file=sys.stderr, flush=True)


def _supervise(config: Config, lock: ServiceLock, stack: ExitStack, launch: Launch | None, terminal: bool) -> int:
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
    children = Children(config, postgres, redis)
    supervisor = Supervisor(
        children.specs(),
        servers,
        run_dir=config.run_dir,
        limits=Limits(
            beat_timeout_s=config.hang_after_s, ladder=((signal.SIGTERM, config.grace_s), (signal.SIGKILL, 5.0))
        ),
        about=children.about,
        on_up=launch.up if launch else None if terminal else partial(_announce, config),
        reload=children.reload,
        forget=[lock.forget, *([launch.forget] if launch else [])],
    )
    return supervisor.run()


class Children:
    """The children of a configuration, and how they change when it is read again."""

    def __init__(self, config: Config, postgres: str, redis: str) -> None:
        self.config = config
        self.postgres, self.redis = postgres, redis

    def about(self) -> dict[str, object]:
        """What `status` says of the service."""
        config = self.config
        return {
            "version": __version__,
            "service": config.service,
            "config": str(config.file) if config.file else None,
            "redis": self.redis if config.redis_url == EMBEDDED else None,
            "postgres": self.postgres if config.postgres_dsn == EMBEDDED else None,
        }

    def specs(self, config: Config | None = None) -> list[ChildSpec]:
        """One child per exchange or shard, and the monitor. Loads what they need, so that they share its memory."""
        from ohlcvd.exchange import preload
        from ohlcvd.monitor.child import monitor_main
        from ohlcvd.worker import worker_main

        config = config or self.config
        preload([exchange.name for exchange in config.exchanges])
        specs = [
            ChildSpec(
                child,
                partial(worker_main, config, child, self.postgres, self.redis),
                log_file=config.log_dir / f"{child.replace('/', '-')}.log",
            )
            for child in child_names(config)
        ]
        monitor = partial(monitor_main, config, self.redis)
        return [*specs, ChildSpec(MONITOR, monitor, collects=False, log_file=config.log_dir / "monitor.log")]

    def reload(self) -> Plan:
        """Read the configuration again. ConfigError if it is wrong; then nothing has changed."""
        old, read = self.config, self.config.reloaded()
        new = applicable(old, read)
        specs = self.specs(new)
        what = changes(old, read)
        for warning in new.warnings:
            log.warning(warning)
        set_level(new.log_level)
        self.config = new
        level = new.log_level if what.log_level else None
        updates = {name: Update(log_level=level) for name in (*what.unchanged, MONITOR)} if level else {}
        for name in what.symbols:
            updates[name] = Update(new.exchange(name.partition("/")[0]).symbols, level)
        if what.start or what.stop:
            updates[MONITOR] = Update(None, level, tuple(child_names(new)))
        restart = [*what.restart, *([MONITOR] if old.http_listen != new.http_listen else [])]
        return Plan(specs, frozenset(restart), updates, tuple(map(LATER.format, what.settings)))


class _Ended(BaseException):
    """TERM or INT while the service was not up yet: let everything on the stack clean up, then end."""


@contextmanager
def _ends_by_signal() -> Iterator[None]:
    def end(signum: int, _frame: object) -> NoReturn:
        raise _Ended(signal.Signals(signum).name)

    before = {signum: signal.signal(signum, end) for signum in (signal.SIGTERM, signal.SIGINT)}
    # whoever rotates the logs takes the lock for a sign that somebody understands this
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda *_: reopen_logs())
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
