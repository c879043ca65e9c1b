"""Only a child whose beat is missing in a Redis that works is stale."""

from ohlcvd.monitor.staleness import GRACE_S, STALE_S, Staleness
from ohlcvd.worker.telling import QUIET_BEATS

NAMES = ("kraken", "binance")


def beats(second: int, *names: str) -> dict[str, dict[str, object]]:
    return {name: {"pid": 1, "beats": second} for name in names}


def run(staleness: Staleness, seconds: range, *fresh: str, stuck: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Look every second; the last verdict."""
    found: tuple[str, ...] = ()
    for second in seconds:
        found = staleness.judge(NAMES, beats(second, *fresh) | beats(0, *stuck), float(second))
    return found


def test_one_that_stops_beating_or_vanishes_is_stale_while_another_is_fresh() -> None:
    staleness = Staleness()
    assert run(staleness, range(20), *NAMES, "monitor") == ()
    late = 20 + int(STALE_S)
    assert run(staleness, range(20, late - 1), "binance", "monitor", stuck=("kraken",)) == ()
    assert run(staleness, range(late - 1, late + 3), "binance", "monitor", stuck=("kraken",)) == ("kraken",)
    assert run(staleness, range(late + 3, late + 6), "binance", "monitor") == ("kraken",)
    assert run(staleness, range(late + 6, late + 8), *NAMES, "monitor") == ()


def test_a_quiet_child_beats_in_redis_every_third_second_and_one_of_these_may_come_late() -> None:
    assert STALE_S > 2 * QUIET_BEATS
    staleness = Staleness()
    for second in range(60):
        quiet = 27 if second == 30 else second - second % QUIET_BEATS
        assert staleness.judge(NAMES, beats(quiet, *NAMES) | beats(second, "monitor"), float(second)) == ()


def test_a_single_child_is_held_against_the_monitors_own_beat() -> None:
    staleness = Staleness()
    run(staleness, range(20), *NAMES, "monitor")
    assert run(staleness, range(20, 26), "monitor") == ("binance", "kraken")


def test_nobody_is_stale_when_redis_takes_no_writes() -> None:
    staleness = Staleness()
    run(staleness, range(20), *NAMES, "monitor")
    assert run(staleness, range(20, 60), stuck=(*NAMES, "monitor")) == ()
    assert run(staleness, range(60, 90)) == ()


def test_a_redis_that_was_away_leaves_time_to_come_back() -> None:
    staleness = Staleness()
    run(staleness, range(20), *NAMES, "monitor")
    for second in range(20, 60):
        assert staleness.judge(NAMES, None, float(second)) == ()
    assert run(staleness, range(60, 60 + int(GRACE_S)), "monitor") == ()
    assert run(staleness, range(60 + int(GRACE_S), 61 + int(GRACE_S)), "monitor") == ("binance", "kraken")


def test_a_child_that_has_just_started_has_time_for_its_first_beat() -> None:
    staleness = Staleness()
    for second in range(30):
        staleness.judge(("binance",), beats(second, "binance", "monitor"), float(second))
    assert run(staleness, range(30, 30 + int(GRACE_S)), "binance", "monitor") == ()
    assert run(staleness, range(40, 41), "binance", "monitor") == ("kraken",)


def test_another_process_under_the_same_name_is_fresh() -> None:
    staleness = Staleness()
    run(staleness, range(20), *NAMES, "monitor")
    for second in range(20, 30):
        found = staleness.judge(
            NAMES, beats(second, "binance") | {"kraken": {"pid": second, "beats": 1}}, float(second)
        )
        assert found == ()
    assert STALE_S < GRACE_S
