"""The life of one supervised process: states x events as a table. Pure: `now` is monotonic seconds.

    stopped ──start──> backing_off ──due──> (fork) ──started──> starting ──beat──> ready <──beat──> streaming
                            ^                                      │                │                  │
                            └──── exited (wait, then again) ───────┴─ draining/hung ┴──────────────────┘

Invariant: a process exists exactly in the states of `ALIVE`. A pair that is not in the table cannot happen; if it does,
`step` refuses it aloud and nothing changes. What is to be done (`Effect`) is told, not done: the loop acts.

The goal says what an end means: `run`: a failure, to be tried again after a wait; `restart`: asked for, start at once;
`stop`: the end. Exit code 78 (configuration) parks: trying again cannot help until somebody changes something.
"""

import math
import signal
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, NamedTuple

from ohlcvd.supervisor.restart import STABLE_S, Chance, wait_s

# Signals to end a process, each with the seconds it is given before the next one.
Ladder = tuple[tuple[int, float], ...]


class State(StrEnum):
    """What a supervised process is doing."""

    STARTING = "starting"
    READY = "ready"
    STREAMING = "streaming"
    DRAINING = "draining"
    HUNG = "hung"  # condemned: its stacks are being dumped, then it is killed
    BACKING_OFF = "backing_off"
    PARKED = "parked"
    STOPPED = "stopped"


class Event(StrEnum):
    """What can happen to it."""

    START = "start"
    DUE = "due"
    STARTED = "started"
    START_FAILED = "start_failed"
    BEAT_STARTING = "beat_starting"
    BEAT_READY = "beat_ready"
    BEAT_STREAMING = "beat_streaming"
    BEAT_DRAINING = "beat_draining"
    SILENT = "silent"
    NEVER_READY = "never_ready"
    UNHEALTHY = "unhealthy"
    OVERDUE = "overdue"
    EXITED = "exited"
    REFUSED = "refused"
    RESTART = "restart"
    STOP = "stop"


class Effect(StrEnum):
    """What the loop has to do about it."""

    NONE = "none"
    START = "start"
    SIGNAL = "signal"  # the next one of the ladder
    DUMP = "dump"  # ask for the stacks
    KILL = "kill"


class IllegalTransition(Exception):
    """An event that cannot happen in this state: a bug, or a child that says nonsense."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds. Production values; tests shrink them."""

    beat_timeout_s: float = 15.0
    ready_timeout_s: float = 60.0
    dump_s: float = 1.0
    ladder: Ladder = ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0))

    def __post_init__(self) -> None:
        if min(self.beat_timeout_s, self.ready_timeout_s) < 0.5 or self.dump_s < 0:
            raise ValueError(f"a process needs at least 0.5 s to beat and to become ready: {self}")
        if not self.ladder or self.ladder[-1][0] != signal.SIGKILL:
            raise ValueError(f"a ladder of signals must end with SIGKILL: {self.ladder}")


Goal = Literal["run", "restart", "stop"]


@dataclass(frozen=True, slots=True)
class Life:
    """Everything that decides what happens next to one process."""

    state: State = State.STOPPED
    goal: Goal = "run"
    since: float = 0.0  # in this state
    failures: int = 0  # in a row
    starts: int = 0
    started_at: float = 0.0
    beat_at: float = 0.0
    ready_at: float | None = None
    ready_by: float = math.inf
    overdue_at: float = math.inf
    start_at: float = math.inf
    rung: int = 0  # signals of the ladder already sent


class Rule(NamedTuple):
    """One cell of the table. `name` is what the log says."""

    name: str
    target: State
    effect: Effect = Effect.NONE


class Step(NamedTuple):
    """The outcome of an event: the rule that applied, the life after it, what to do."""

    rule: Rule
    life: Life
    effect: Effect
    signum: int = 0


RUNNING = frozenset({State.STARTING, State.READY, State.STREAMING})
ALIVE = RUNNING | {State.DRAINING, State.HUNG}

_S, _E = State, Event
_EXITED = Rule("ended", _S.BACKING_OFF)
_REFUSED = Rule("refused its configuration, will not be tried again until that changes", _S.PARKED)
_ASKED = Rule("is asked to drain and end", _S.DRAINING, Effect.SIGNAL)
_SILENT = Rule("is silent, will be killed", _S.HUNG, Effect.DUMP)
_UNHEALTHY = Rule("is unhealthy, will drain and be started again", _S.DRAINING, Effect.SIGNAL)
_READY = Rule("is ready", _S.READY)
_STREAMING = Rule("is streaming", _S.STREAMING)
_DRAINS = Rule("drains by itself", _S.DRAINING)
_STOPPED = Rule("stays stopped", _S.STOPPED)

TABLE: dict[tuple[State, Event], Rule] = {
    (_S.STOPPED, _E.START): Rule("will be started", _S.BACKING_OFF),
    (_S.STOPPED, _E.STOP): _STOPPED,
    (_S.PARKED, _E.START): Rule("is tried again", _S.BACKING_OFF),
    (_S.PARKED, _E.RESTART): Rule("is tried again", _S.BACKING_OFF),
    (_S.PARKED, _E.STOP): _STOPPED,
    (_S.BACKING_OFF, _E.DUE): Rule("is due", _S.BACKING_OFF, Effect.START),
    (_S.BACKING_OFF, _E.STARTED): Rule("started", _S.STARTING),
    (_S.BACKING_OFF, _E.START_FAILED): Rule("could not be started", _S.BACKING_OFF),
    (_S.BACKING_OFF, _E.RESTART): Rule("need not wait longer", _S.BACKING_OFF),
    (_S.BACKING_OFF, _E.STOP): _STOPPED,
    (_S.STARTING, _E.BEAT_STARTING): Rule("is starting", _S.STARTING),
    (_S.STARTING, _E.NEVER_READY): Rule("did not become ready, will be killed", _S.HUNG, Effect.DUMP),
    (_S.DRAINING, _E.OVERDUE): Rule("is overdue, gets the next signal", _S.DRAINING, Effect.SIGNAL),
    (_S.DRAINING, _E.RESTART): Rule("is draining already, will be started again", _S.DRAINING),
    (_S.DRAINING, _E.STOP): Rule("is draining already", _S.DRAINING),
    (_S.HUNG, _E.OVERDUE): Rule("is killed", _S.HUNG, Effect.KILL),
    (_S.HUNG, _E.RESTART): Rule("is being killed already, will be started again", _S.HUNG),
    (_S.HUNG, _E.STOP): Rule("is being killed already", _S.HUNG),
    **{(state, _E.BEAT_READY): _READY for state in RUNNING},
    **{(state, _E.BEAT_STREAMING): _STREAMING for state in RUNNING},
    **{(state, _E.BEAT_DRAINING): _DRAINS for state in RUNNING},
    **{(state, _E.SILENT): _SILENT for state in RUNNING},
    **{(state, _E.UNHEALTHY): _UNHEALTHY for state in RUNNING},
    **{(state, _E.RESTART): _ASKED for state in RUNNING},
    **{(state, _E.STOP): _ASKED for state in RUNNING},
    **{(state, _E.EXITED): _EXITED for state in ALIVE},
    **{(state, _E.REFUSED): _REFUSED for state in ALIVE},
    # Beats that were under way when it was asked to end, or a child that comes to while its stacks are dumped.
    **{
        (state, event): Rule("still beats", state)
        for state in (_S.DRAINING, _S.HUNG)
        for event in (_E.BEAT_STARTING, _E.BEAT_READY, _E.BEAT_STREAMING, _E.BEAT_DRAINING)
    },
}


def step(life: Life, event: Event, now: float, limits: Limits, chance: Chance) -> Step:
    """What follows from `event`. IllegalTransition if it cannot happen in this state."""
    rule = TABLE.get((life.state, event))
    if rule is None:
        raise IllegalTransition(f"{event} cannot happen while {life.state}")
    goal = _goal(life, event)
    after = life if goal == life.goal else replace(life, goal=goal)
    target = rule.target
    if event in (_E.EXITED, _E.REFUSED, _E.START_FAILED):
        after, target = _ended(after, event, target, now, chance)
    elif event in (_E.START, _E.RESTART) and target is _S.BACKING_OFF:
        after = replace(after, goal="run", start_at=now, failures=0 if life.state is _S.PARKED else life.failures)
    elif event is _E.STARTED:
        after = replace(after, starts=life.starts + 1, started_at=now, beat_at=now, ready_at=None, rung=0)
        after = replace(after, start_at=math.inf, ready_by=now + limits.ready_timeout_s)
    elif event.startswith("beat_"):
        after = replace(after, beat_at=now)
        if target in (_S.READY, _S.STREAMING) and after.ready_at is None:
            after = replace(after, ready_at=now)
        if target is _S.DRAINING and life.state is not _S.DRAINING:  # whoever told it to, it has as long as if we had
            after = replace(after, overdue_at=now + limits.ladder[0][1], rung=1)
    after, signum = _prepare(after, rule.effect, now, limits)
    if target is not life.state:
        after = replace(after, state=target, since=now)
    return Step(rule, after, rule.effect, signum)


def _goal(life: Life, event: Event) -> Goal:
    if event is _E.STOP:
        return "stop"
    if event is _E.RESTART and life.goal == "run":
        return "restart"
    return life.goal


def _ended(life: Life, event: Event, target: State, now: float, chance: Chance) -> tuple[Life, State]:
    """The process is gone, or never came to be."""
    life = replace(life, overdue_at=math.inf, ready_by=math.inf, rung=0)
    if life.goal == "stop":
        return life, _S.STOPPED
    if event is _E.REFUSED:
        return replace(life, goal="run", failures=life.failures + 1), target
    if life.goal == "restart" and event is _E.EXITED:
        return replace(life, goal="run", start_at=now), target
    failures = life.failures + 1
    return replace(life, goal="run", failures=failures, start_at=now + wait_s(failures, chance)), target


def _prepare(life: Life, effect: Effect, now: float, limits: Limits) -> tuple[Life, int]:
    """Set the deadline that belongs to an effect; the signal to send, or 0."""
    if effect is Effect.DUMP:
        return replace(life, overdue_at=now + limits.dump_s), 0
    if effect is Effect.KILL:
        return replace(life, overdue_at=math.inf), signal.SIGKILL
    if effect is Effect.SIGNAL:
        if life.rung >= len(limits.ladder):  # SIGKILL was sent: only the kernel can keep it now
            return replace(life, overdue_at=math.inf), 0
        signum, wait = limits.ladder[life.rung]
        return replace(life, rung=life.rung + 1, overdue_at=now + wait), signum
    return life, 0


def next_timer(life: Life, limits: Limits) -> tuple[float, Event]:
    """When something happens if nothing else does, and what. `math.inf` if never."""
    if life.state is _S.BACKING_OFF:
        return life.start_at, _E.DUE
    if life.state in (_S.DRAINING, _S.HUNG):
        return life.overdue_at, _E.OVERDUE
    if life.state is _S.STARTING:
        return min((life.beat_at + limits.beat_timeout_s, _E.SILENT), (life.ready_by, _E.NEVER_READY))
    if life.state in RUNNING:
        return life.beat_at + limits.beat_timeout_s, _E.SILENT
    return math.inf, _E.DUE


def postpone(life: Life, gap_s: float) -> Life:
    """The parent slept through `gap_s` seconds: nobody else may be blamed for what did not happen in them."""
    return replace(
        life, beat_at=life.beat_at + gap_s, ready_by=life.ready_by + gap_s, overdue_at=life.overdue_at + gap_s
    )


def settle(life: Life, now: float, moving: bool) -> Life:
    """Forget earlier failures after STABLE_S seconds ready with its work moving."""
    if life.failures == 0 or life.ready_at is None or life.state not in RUNNING:
        return life
    return replace(life, failures=0) if moving and now - life.ready_at >= STABLE_S else life
