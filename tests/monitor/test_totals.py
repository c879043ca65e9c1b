"""Counters never fall, whatever starts again, and nothing is counted twice."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.monitor.totals import Totals

NAMES = ("trades", "commits")


def test_a_new_life_begins_at_zero_and_adds_to_what_was() -> None:
    totals = Totals()
    totals.observe("kraken", "kraken", "1", {"trades": 10})
    totals.observe("kraken", "kraken", "1", {"trades": 15})
    totals.observe("kraken", "kraken", "2", {"trades": 20})  # further than the old one was: no fall to see it by
    assert totals.of("kraken", NAMES) == {"trades": 35, "commits": 0}
    totals.observe("kraken", "kraken", "2", {"trades": 4})  # a market was taken away, and its part with it
    totals.observe("kraken", "kraken", "2", {"trades": 6})
    assert totals.of("kraken", NAMES)["trades"] == 37


def test_shards_are_one_exchange_and_stay_so_when_their_number_changes() -> None:
    totals = Totals()
    totals.observe("binance", "binance", "1", {"trades": 5})
    totals.observe("binance/1", "binance", "2", {"trades": 3})
    totals.observe("binance/2", "binance", "3", {"trades": 4})
    assert totals.exchanges() == ["binance"]
    assert totals.of("binance", NAMES)["trades"] == 12


@given(
    st.lists(st.tuples(st.sampled_from(["observe", "child", "monitor"]), st.integers(0, 50)), min_size=1, max_size=60)
)
def test_totals_equal_all_growth_seen_through_restarts_of_children_and_monitor(steps: list[tuple[str, int]]) -> None:
    totals, life, value, seen, before = Totals(), 0, 0, 0, 0
    last = 0
    for what, growth in steps:
        if what == "child":
            life, value, last = life + 1, 0, 0
        elif what == "monitor":
            totals = Totals(json.loads(json.dumps(totals.saved())))
        else:
            value += growth
            seen += value - last
            last = value
            totals.observe("kraken", "kraken", str(life), {"trades": value})
        total = totals.of("kraken", NAMES)["trades"]
        assert total == seen
        assert total >= before
        before = total


def test_what_was_saved_by_something_else_is_forgotten() -> None:
    strange: list[object] = [
        None,
        [],
        "x",
        {"a": 1},
        {"a": {"exchange": "x", "life": "", "last": {"t": -1}, "total": {}}},
    ]
    for saved in strange:
        totals = Totals(saved)
        assert totals.exchanges() == []
