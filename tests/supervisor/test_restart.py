"""Waits, the limit on starts, the alarm: pure arithmetic over given times."""

from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.supervisor.restart import (
    FIRST_RESTART_S,
    LONGEST_WAIT_S,
    MANY_DEATHS,
    MANY_DEATHS_WINDOW_S,
    STARTS,
    Deaths,
    StartLimiter,
    wait_bound_s,
    wait_s,
)


def test_bounds() -> None:
    assert (FIRST_RESTART_S, LONGEST_WAIT_S, STARTS) == (0.3, 60.0, 4)
    assert wait_bound_s(1) < 0.3
    assert [wait_bound_s(n) for n in range(2, 10)] == [2, 4, 8, 16, 32, 60, 60, 60]
    assert wait_bound_s(10**9) == 60.0


@given(st.integers(1, 200), st.floats(0.0, 1.0, exclude_max=True))
def test_full_jitter(failures: int, chance: float) -> None:
    assert wait_s(failures, lambda: chance) == chance * wait_bound_s(failures)


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60))
def test_never_more_than_the_limit_in_any_second(pauses: list[float]) -> None:
    limiter, now, started = StartLimiter(), 0.0, list[float]()
    for pause in pauses:
        now = max(now + pause, limiter.allowed_at(now + pause))
        assert limiter.allowed_at(now) == now
        limiter.record(now)
        started.append(now)
    for start in started:
        assert sum(start <= other <= start + 1.0 for other in started) <= 4


def test_the_limit_does_not_delay_a_single_child() -> None:
    limiter = StartLimiter()
    for now in (0.0, 2.0, 4.0, 6.0, 8.0):
        assert limiter.allowed_at(now) == now
        limiter.record(now)


def test_alarm_for_every_fifth_death_within_ten_minutes() -> None:
    assert (MANY_DEATHS, MANY_DEATHS_WINDOW_S) == (5, 600.0)
    deaths = Deaths()
    alarms = [deaths.record(f"death {number}", number * 10.0) for number in range(12)]
    assert [number for number, alarm in enumerate(alarms) if alarm] == [4, 9]
    assert alarms[4] == [f"death {number}" for number in range(5)]


def test_no_alarm_for_rare_deaths() -> None:
    deaths = Deaths()
    assert not any(deaths.record("x", number * 200.0) for number in range(50))
