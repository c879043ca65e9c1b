"""One supervised process and its life: what children and embedded servers have in common.

`deliver` is the only way in which a life changes: the table of `states` decides, the outcome is logged by its name, and
signals go out through the pidfd. Starting is left to the loop, which knows how many may start now.
"""

import os
from datetime import UTC, datetime
from typing import Any

from ohlcvd.log import get_component_logger
from ohlcvd.supervisor.process import ExitStatus, Process, signal_name
from ohlcvd.supervisor.restart import Chance, Deaths
from ohlcvd.supervisor.states import (
    ALIVE,
    Effect,
    Event,
    IllegalTransition,
    Life,
    Limits,
    State,
    Step,
    next_timer,
    postpone,
    step,
)

log = get_component_logger("ohlcvd.supervisor")


def utc_text(seconds: float) -> str:
    """Seconds since 1970 as people and JSON readers want it: 2026-01-31T12:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Member:
    """The parent's view of one process. `kind` is `child` or `server`."""

    kind = "member"

    def __init__(self, name: str, limits: Limits, chance: Chance) -> None:
        self.name = name
        self.limits = limits
        self.life = Life()
        self.process: Process | None = None
        self.last_exit: str | None = None
        self._chance = chance
        self._deaths = Deaths()

    @property
    def alive(self) -> bool:
        """A process exists."""
        return self.life.state in ALIVE

    def timer(self) -> tuple[float, Event]:
        """When something happens if nothing else does, and what."""
        return next_timer(self.life, self.limits)

    def postpone(self, gap_s: float) -> None:
        """Extend every deadline: the supervisor itself was not there."""
        self.life = postpone(self.life, gap_s)

    def deliver(self, event: Event, now: float, reason: str = "") -> Effect:
        """Let an event happen. An impossible one is refused aloud and changes nothing."""
        try:
            outcome = step(self.life, event, now, self.limits, self._chance)
        except IllegalTransition as error:
            log.error("%s: %s; ignored", self.name, error, **self._fields())
            return Effect.NONE
        before, self.life = self.life, outcome.life
        if outcome.effect in (Effect.SIGNAL, Effect.KILL) and outcome.signum and self.process:
            self.process.signal(outcome.signum)
        elif outcome.effect is Effect.DUMP:
            self.request_stacks()
        self._say(before, outcome, event, now, reason)
        return outcome.effect

    def request_stacks(self) -> None:
        """Ask the process to write down where it is. Servers cannot."""

    def signal(self, signum: int) -> None:
        """Pass a signal on, if there is a process."""
        if self.process is not None and self.alive:
            self.process.signal(signum)

    def ended(self, status: ExitStatus, now: float) -> None:
        """Remember how the last process ended, and raise an alarm when this happens too often."""
        self.last_exit = str(status)
        if self.life.goal == "run" and (reasons := self._deaths.record(self.last_exit, now)):
            log.error(
                "%s ended %d times within 10 minutes; it is tried for ever, but look at why",
                self.name,
                len(reasons),
                **self._fields(),
                reasons=reasons,
            )

    def fds(self) -> list[int]:
        """Every descriptor held for this process."""
        return [self.process.pidfd] if self.process else []

    def forget(self) -> None:
        """In a freshly forked sibling: close what belongs to the parent."""
        for fd in self.fds():
            os.close(fd)

    def release(self) -> None:
        """The process was reaped: give its descriptors back."""
        if self.process:
            self.process.close()
        self.process = None

    def describe(self, now: float, wall: float) -> dict[str, object]:
        """For `status`. `wall` is what to add to the monotonic clock to get seconds since 1970."""
        return {
            "name": self.name,
            "pid": self.process.pid if self.process else None,
            "state": str(self.life.state),
            "since": utc_text(wall + self.life.since),
            "uptime_s": round(now - self.life.started_at, 3) if self.alive else None,
            "restarts": max(0, self.life.starts - 1),
            "failures": self.life.failures,
            "starts_in_s": round(max(0.0, self.life.start_at - now), 3) if self._waits() else None,
            "last_exit": self.last_exit,
        }

    def _waits(self) -> bool:
        return self.life.state is State.BACKING_OFF

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {self.kind: self.name}
        if self.process:
            fields["child_pid"] = self.process.pid
        return fields

    def _say(self, before: Life, outcome: Step, event: Event, now: float, reason: str) -> None:
        """One line for every transition that means something."""
        after = outcome.life
        if after.state is before.state and outcome.effect in (Effect.NONE, Effect.START) and not reason:
            return
        text = f"{self.name} {outcome.rule.name}" + (f": {reason}" if reason else "")
        if outcome.signum:
            text += f"; sent {signal_name(outcome.signum)}"
        if self._waits() and after.start_at > now:
            text += f"; next start in {after.start_at - now:.2f} s, failure {after.failures} in a row"
        fields = {**self._fields(), "state": str(after.state), "before": str(before.state)}
        say = log.debug if before.state is State.STOPPED else log.info
        if after.state in (State.HUNG, State.PARKED) or event is Event.UNHEALTHY or after.failures > before.failures:
            say = log.warning
        say("%s", text, **fields)
