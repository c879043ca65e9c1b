"""A goal is called met only when it was measured and is."""

from dataclasses import replace

import pytest

from tests.bench.results import Result, percentile, table

LIVE = Result("live", 60_000.0, "trades/CPU-s", 90_000.0, reference=100_000.0, ratio_goal=0.6)
START = Result("start", 1.5, "s", 1.5, "less")


@pytest.mark.parametrize(
    ("result", "met"),
    [
        (LIVE, True),
        (replace(LIVE, value=59_999.0), False),
        (replace(LIVE, reference=None), False),
        (replace(LIVE, ratio_goal=None), False),
        (replace(LIVE, ratio_goal=None, value=90_000.0), True),
        (START, True),
        (replace(START, value=1.501), False),
        (replace(START, value=None), False),
        (replace(START, value=None, is_optional=True), None),
    ],
)
def test_met(result: Result, met: bool | None) -> None:
    assert result.met is met
    assert result.as_dict()["met"] is met


def test_the_table_says_no_where_it_is_not_met() -> None:
    lines = table([LIVE, replace(START, value=2.0), replace(START, value=None, note="no exchange")]).splitlines()
    assert lines[0].split() == ["CASE", "VALUE", "UNIT", "GOAL", "REFERENCE", "RATIO", "MET", "NOTE"]
    assert lines[1].split() == ["live", "60,000", "trades/CPU-s", "ratio", "0.6", "100,000", "0.60", "yes"]
    assert lines[2].split() == ["start", "2", "s", "<=", "1.5", "NO"]
    assert lines[3].split() == ["start", "-", "s", "<=", "1.5", "NO", "no", "exchange"]


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (51.0, 100.0, 100.0)
