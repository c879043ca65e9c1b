"""What can be asked over the control socket: one JSON object in, one out; `{"error": ..., "exit_code": ...}` if not."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ohlcvd.errors import Exit, OhlcvdError, UsageError
from ohlcvd.log import get_component_logger, set_level
from ohlcvd.supervisor.family import Family
from ohlcvd.supervisor.states import Event

SUPERVISOR = "supervisor"  # as a name of a process, beside those of the children
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

log = get_component_logger("ohlcvd.supervisor.control")

Request = Mapping[str, object]


class Supervised(Protocol):
    """What a supervisor can do for whoever asks."""

    @property
    def family(self) -> Family: ...
    def reload(self, now: float) -> dict[str, object]: ...
    def describe(self, now: float) -> dict[str, object]: ...


def answer(supervisor: Supervised, request: Request) -> Request:
    """The answer to a request, whatever it is."""
    command = request.get("command")
    known = _COMMANDS.get(command) if isinstance(command, str) else None
    if known is None:
        return _refusal(UsageError(f"unknown command {command!r:.100}; known: {', '.join(_COMMANDS)}"))
    try:
        return known(supervisor, request, time.monotonic())
    except OhlcvdError as error:
        return _refusal(error)
    except Exception as error:
        log.exception("the request %r failed: %s: %s", command, type(error).__name__, error)
        return {"error": f"{type(error).__name__}: {error}; see the log", "exit_code": int(Exit.BUG)}


def _status(supervisor: Supervised, request: Request, now: float) -> Request:
    return supervisor.describe(now)


def _reload(supervisor: Supervised, request: Request, now: float) -> Request:
    return supervisor.reload(now)


def _restart(supervisor: Supervised, request: Request, now: float) -> Request:
    child = supervisor.family.find(request.get("child"))
    if child is None:
        raise UsageError(f"no such child to restart: {request.get('child')!r:.100}")
    child.deliver(Event.RESTART, now)
    return {"state": str(child.life.state)}


def _log_level(supervisor: Supervised, request: Request, now: float) -> Request:
    level, name = request.get("level"), request.get("child")
    if level not in _LEVELS:
        raise UsageError(f"no such log level: {level!r:.100}; allowed are {', '.join(_LEVELS)}")
    if name not in (None, SUPERVISOR) and supervisor.family.find(name) is None:
        raise UsageError(f"no such child: {name!r:.100}")
    done = (
        [] if name == SUPERVISOR else supervisor.family.set_log_level(str(level), None if name is None else str(name))
    )
    if name in (None, SUPERVISOR):
        set_level(str(level))
        done = [SUPERVISOR, *done]
    return {"level": level, "changed": done}


def _refusal(error: OhlcvdError) -> Request:
    return {"error": str(error), "exit_code": int(error.exit_code)}


_COMMANDS: dict[str, Callable[[Supervised, Request, float], Request]] = {
    "status": _status,
    "reload": _reload,
    "restart": _restart,
    "log-level": _log_level,
}
