"""The table of states and events: every pair, and random lives."""

import math
import signal
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.supervisor.restart import STABLE_S
from ohlcvd.supervisor.states import (
    ALIVE,
    RUNNING,
    TABLE,
    Effect,
    Event,
    IllegalTransition,
    Life,
    Limits,
    State,
    next_timer,
    postpone,
    settle,
    step,
)

LIMITS = Limits()
BEATS = {Event.BEAT_STARTING, Event.BEAT_READY, Event.BEAT_STREAMING, Event.BEAT_DRAINING}


def after(*events: Event, chance: float = 0.5, now: float = 100.0) -> Life:
    """A life that these events, one second apart, led to."""
    life = Life()
    for event in events:
        life = step(life, event, now, LIMITS, lambda: chance).life
        now += 1.0
    return life


UP = (Event.START, Event.DUE, Event.STARTED)


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_is_in_the_table_or_refused_aloud(state: State, event: Event) -> None:
    life = Life(state=state)
    if (state, event) in TABLE:
        outcome = step(life, event, 1.0, LIMITS, lambda: 0.0)
        assert outcome.rule.name
        assert outcome.life.state in State
    else:
        with pytest.raises(IllegalTransition, match=f"{event} cannot happen while {state}"):
            step(life, event, 1.0, LIMITS, lambda: 0.0)


def test_the_table_knows_where_processes_are() -> None:
    """Beats and ends come from processes; only where there is none can one be started."""
    for (state, event), rule in TABLE.items():
        if event in BEATS | {Event.EXITED, Event.REFUSED, Event.SILENT, Event.OVERDUE, Event.NEVER_READY}:
            assert state in ALIVE
        if event in {Event.START, Event.DUE, Event.STARTED, Event.START_FAILED}:
            assert state not in ALIVE
        if rule.effect in {Effect.SIGNAL, Effect.DUMP, Effect.KILL}:
            assert state in ALIVE
    for state in ALIVE:
        assert {Event.EXITED, Event.REFUSED, Event.STOP, Event.RESTART} <= {e for s, e in TABLE if s is state}
    assert all((state, Event.STOP) in TABLE for state in State)


def test_the_usual_life() -> None:
    life = after(*UP, Event.BEAT_STARTING, Event.BEAT_READY, Event.BEAT_STREAMING)
    assert (life.state, life.starts, life.failures, life.goal) == (State.STREAMING, 1, 0, "run")
    assert (life.since, life.ready_at, life.started_at) == (105.0, 104.0, 102.0)
    outcome = step(life, Event.STOP, 110.0, LIMITS, lambda: 0.5)
    assert (outcome.life.state, outcome.effect, outcome.signum) == (State.DRAINING, Effect.SIGNAL, signal.SIGTERM)
    outcome = step(outcome.life, Event.EXITED, 111.0, LIMITS, lambda: 0.5)
    assert (outcome.life.state, outcome.life.start_at) == (State.STOPPED, math.inf)


def test_failures_wait_longer_and_longer() -> None:
    life = after(*UP)
    waits = []
    for _ in range(10):
        life = step(life, Event.EXITED, 200.0, LIMITS, lambda: 1.0).life
        waits.append(life.start_at - 200.0)
        assert next_timer(life, LIMITS) == (life.start_at, Event.DUE)
        life = step(
            step(life, Event.DUE, 200.0, LIMITS, lambda: 1.0).life, Event.STARTED, 200.0, LIMITS, lambda: 1.0
        ).life
    assert waits[0] <= 0.3
    assert waits[1:] == pytest.approx([2, 4, 8, 16, 32, 60, 60, 60, 60])


def test_a_restart_that_was_asked_for_is_no_failure_and_waits_for_nothing() -> None:
    life = after(*UP, Event.BEAT_READY, Event.RESTART, Event.EXITED)
    assert (life.state, life.goal, life.failures, life.start_at) == (State.BACKING_OFF, "run", 0, 105.0)


def test_a_stop_wins_over_a_restart() -> None:
    for events in ((Event.RESTART, Event.STOP), (Event.STOP, Event.RESTART)):
        assert after(*UP, Event.BEAT_READY, *events, Event.EXITED).state is State.STOPPED


def test_the_ladder_of_signals_ends_with_kill_and_then_waits() -> None:
    life = after(*UP, Event.BEAT_READY, Event.STOP)
    assert next_timer(life, LIMITS) == (104.0 + 30.0, Event.OVERDUE)
    outcome = step(life, Event.OVERDUE, 134.0, LIMITS, lambda: 0.0)
    assert outcome.signum == signal.SIGKILL
    outcome = step(outcome.life, Event.OVERDUE, 139.0, LIMITS, lambda: 0.0)
    assert (outcome.signum, next_timer(outcome.life, LIMITS)[0]) == (0, math.inf)


def test_silence_is_a_dump_and_then_a_kill() -> None:
    assert (LIMITS.beat_timeout_s, LIMITS.ready_timeout_s) == (15.0, 60.0)
    life = after(*UP, Event.BEAT_READY)
    assert next_timer(life, LIMITS) == (103.0 + 15.0, Event.SILENT)
    outcome = step(life, Event.SILENT, 118.0, LIMITS, lambda: 0.0)
    assert (outcome.life.state, outcome.effect) == (State.HUNG, Effect.DUMP)
    assert next_timer(outcome.life, LIMITS) == (119.0, Event.OVERDUE)
    outcome = step(outcome.life, Event.OVERDUE, 119.0, LIMITS, lambda: 0.0)
    assert (outcome.effect, outcome.signum) == (Effect.KILL, signal.SIGKILL)


def test_beats_do_not_excuse_one_that_never_becomes_ready() -> None:
    life = after(*UP, *[Event.BEAT_STARTING] * 50)
    assert next_timer(life, LIMITS) == (102.0 + 60.0, Event.NEVER_READY)


def test_draining_by_itself_has_a_deadline_and_is_a_failure() -> None:
    life = after(*UP, Event.BEAT_READY, Event.BEAT_DRAINING)
    assert next_timer(life, LIMITS) == (104.0 + 30.0, Event.OVERDUE)
    assert step(life, Event.OVERDUE, 134.0, LIMITS, lambda: 0.0).signum == signal.SIGKILL
    assert step(life, Event.EXITED, 105.0, LIMITS, lambda: 0.0).life.failures == 1


def test_refused_configuration_parks_until_somebody_starts_it() -> None:
    life = after(*UP, Event.REFUSED)
    assert (life.state, next_timer(life, LIMITS)[0]) == (State.PARKED, math.inf)
    again = step(life, Event.START, 200.0, LIMITS, lambda: 1.0).life
    assert (again.state, again.start_at, again.failures) == (State.BACKING_OFF, 200.0, 0)


def test_a_pause_of_the_supervisor_extends_every_deadline() -> None:
    for life in (after(*UP), after(*UP, Event.BEAT_READY), after(*UP, Event.BEAT_READY, Event.STOP)):
        when, event = next_timer(life, LIMITS)
        assert next_timer(postpone(life, 60.0), LIMITS) == (when + 60.0, event)


def test_failures_are_forgotten_after_two_stable_minutes_with_commits() -> None:
    assert STABLE_S == 120.0
    life = replace(after(*UP, Event.BEAT_STREAMING), failures=7)
    ready_at = life.ready_at or 0.0
    assert settle(life, ready_at + 119.9, moving=True) is life
    assert settle(life, ready_at + 500.0, moving=False) is life
    assert settle(life, ready_at + 120.0, moving=True).failures == 0


def test_limits_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        Limits(beat_timeout_s=0.1)
    with pytest.raises(ValueError, match="must end with SIGKILL"):
        Limits(ladder=((signal.SIGTERM, 5.0),))


@given(st.lists(st.tuples(st.sampled_from(Event), st.floats(0.0, 100.0)), max_size=60), st.floats(0.0, 0.999))
def test_random_lives_keep_the_invariants(events: list[tuple[Event, float]], chance: float) -> None:
    """A process exists exactly in ALIVE; who waits has a time; who was told to stop never starts again by itself."""
    life, now, exists = Life(), 0.0, False
    for event, pause_s in events:
        now += pause_s
        if event is Event.STARTED and life.start_at > now:
            continue  # the loop starts nothing before it is due
        try:
            outcome = step(life, event, now, LIMITS, lambda: chance)
        except IllegalTransition:
            continue
        before, life = life, outcome.life
        exists = True if event is Event.STARTED else exists and event not in (Event.EXITED, Event.REFUSED)
        assert exists == (life.state in ALIVE)
        if outcome.signum:
            assert exists
        if life.state is State.BACKING_OFF:
            assert now <= life.start_at <= now + 60.0 or life.start_at == before.start_at
            assert life.goal == "run"
        if before.goal == "stop" and event is not Event.START:
            assert life.goal == "stop"
        if life.state in RUNNING:
            assert next_timer(life, LIMITS)[0] < math.inf
