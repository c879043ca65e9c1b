"""Repair as a model: live rows, disconnects, crashes between any two steps, and pages of every kind.

After each step everything that is called covered is stored. At the end everything wanted is covered, or listed as
unfillable for a reason that is true.
"""

import os
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.market import Trade
from ohlcvd.repair.book import Key
from ohlcvd.repair.scheduler import RepairScheduler
from ohlcvd.repair.walk import PROOF_LAG_US
from tests.repair.venues import MARKET, NOON_US, PAGINGS, ModelStore, ModelVenue, seconds

KEY: Key = (MARKET, "trades")
EXAMPLES = int(os.environ.get("OHLCVD_MODEL_EXAMPLES", "150"))


def now(step: Coroutine[Any, Any, object]) -> object:
    """The result of a coroutine that never has to wait."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


class Model:
    """One market being collected."""

    def __init__(self, venue: ModelVenue, wanted_from_us: int) -> None:
        self.venue = venue
        self.wanted_from_us = wanted_from_us
        self.store = ModelStore()
        self.live_from_us: int | None = None
        self.claimed_us = 0
        self.sent = 0
        self.last_live: Trade | None = None
        self.start()

    def start(self) -> None:
        self.store.book.load(*KEY, self.store.covered.get(KEY, []), self.wanted_from_us)
        self.scheduler = RepairScheduler(
            "model", [MARKET], ["trades"], self.venue, self.store, self.store.book, rules=self.venue.rules,
            live_from_us=lambda instrument, kind: self.live_from_us, venue_now_us=lambda: self.venue.now_us,
            records=self.store, now_s=lambda: self.venue.now_us / 1e6,
        )  # fmt: skip

    # what happens

    def wait(self, tenths: int) -> None:
        """Time goes on; the stream brings what happens, the collector claims what is behind it."""
        self.venue.now_us += tenths * 100_000
        if self.live_from_us is None:
            return
        for trade in self.venue.happened()[self.sent :]:
            self.sent += 1
            if trade.id in self.venue.withheld:
                continue
            self.store.add_trades(MARKET, [trade])
            self.notice_jump(trade)
        upper = self.venue.now_us - PROOF_LAG_US
        if upper > self.claimed_us:
            self.store.cover(MARKET, "trades", self.claimed_us, upper)
            self.claimed_us = upper

    def notice_jump(self, trade: Trade) -> None:
        last, self.last_live = self.last_live, trade
        if not self.venue.rules.sequential_ids:
            return
        if last is not None and int(trade.id) != int(last.id) + 1:
            if last.ts_us > self.claimed_us:
                self.store.cover(MARKET, "trades", self.claimed_us, last.ts_us)
            else:
                self.store.uncover(MARKET, "trades", last.ts_us, trade.ts_us + 1)
            self.claimed_us = max(self.claimed_us, trade.ts_us + 1)

    def connect(self, snapshot: int) -> None:
        if self.live_from_us is not None:
            return
        self.live_from_us = self.claimed_us = self.venue.now_us
        self.sent, self.last_live = len(self.venue.happened()), None
        old = [trade for trade in self.venue.happened()[-snapshot:] if trade.id not in self.venue.withheld]
        if snapshot and old:
            self.store.add_trades(MARKET, old)

    def disconnect(self) -> None:
        self.live_from_us = None

    def crash(self) -> None:
        self.disconnect()
        self.store.crash()
        self.start()

    def turn(self, count: int) -> None:
        for _ in range(count):
            now(self.scheduler.turn())
        now(self.scheduler.look())

    def step(self, action: str, value: int) -> None:
        match action:
            case "wait":
                self.wait(value)
            case "turn":
                self.turn(1 + value % 4)
            case "commit":
                self.store.commit(1 + value % 5)
            case "crash":
                self.store.commit(value % 5)
                self.crash()
            case "disconnect":
                self.disconnect()
            case "connect":
                self.connect(value % 4)
            case _:
                self.venue.faults.append(action)
        self.check()

    # what must hold

    def check(self) -> None:
        stored = self.store.trades.get(MARKET, {})
        covered = self.store.covered.get(KEY, [])
        for trade in self.venue.trades:
            if trade.id not in self.venue.withheld and coverage.contains(covered, trade.ts_us, trade.ts_us + 1):
                assert trade.id in stored, f"{trade} is called covered, but is not stored"

    def finish(self) -> None:
        """Everything comes to rest in a few hours, on a stream that does not break any more."""
        self.connect(0)
        self.venue.faults.clear()
        for _ in range(300):
            self.wait(500)
            for _ in range(60):
                if not now(self.scheduler.turn()):
                    break
            self.store.commit(self.store.waiting)
            now(self.scheduler.look())
            self.store.commit(self.store.waiting)
            if not self.left() and self.sent == len(self.venue.happened()):
                break
        self.check()
        assert not self.left(), f"neither covered nor listed: {self.left()}, {self.store.recorded}"

    def left(self) -> list[Range]:
        top = max(self.wanted_from_us, self.venue.now_us - seconds(30))
        missing = coverage.missing([(self.wanted_from_us, top)], self.store.covered.get(KEY, []))
        return coverage.subtract(missing, self.listed())

    def listed(self) -> list[Range]:
        return coverage.normalise(one.gap for one in self.store.recorded.get(KEY, []))


@st.composite
def trades(draw: st.DrawFn, is_numbered: bool) -> list[Trade]:
    """An hour around noon: single trades, clusters of one moment, quiet stretches."""
    pauses = st.sampled_from([0, 0, 0, 1, 400, 999, 1_000, 30_000, seconds(1), seconds(7), seconds(90), seconds(700)])
    ts_us, found = NOON_US - seconds(1800), []
    for number, pause in enumerate(draw(st.lists(pauses, min_size=0, max_size=90))):
        ts_us += pause
        name = str(1000 + number) if is_numbered else f"{(number * 7919) % 10_007:05d}x"
        found.append(Trade(ts_us, name, "100.5", "0.1", "buy"))
    return found


# Later there is more history than one block holds.
HOURS_LATER = st.sampled_from([0, 0, 5 * 3600])
ACTIONS = st.tuples(
    st.sampled_from(
        ["wait", "wait", "wait", "turn", "turn", "turn", "turn", "commit", "commit", "crash", "connect", "connect",
         "disconnect", "empty", "error"]
    ),
    st.integers(0, 900),
)  # fmt: skip


@pytest.mark.parametrize("paging", PAGINGS)
@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_covered_is_stored_and_everything_is_covered_in_the_end(paging: str, data: st.DataObject) -> None:
    is_numbered = PAGINGS[paging].sequential_ids
    venue = ModelVenue(data.draw(trades(is_numbered)), paging, data.draw(st.sampled_from([3, 5, 8])))
    venue.now_us += seconds(data.draw(HOURS_LATER))
    model = Model(venue, NOON_US - seconds(data.draw(st.sampled_from([0, 60, 1500, 2400]))))
    for action, value in data.draw(st.lists(ACTIONS, max_size=40)):
        model.step(action, value)
    model.finish()
    for lower, upper in model.listed():
        siblings = [trade for trade in venue.trades if lower - 1_000 <= trade.ts_us < upper + 1_000]
        is_first = all(trade.ts_us >= upper for trade in venue.trades)  # nothing there that an answer could hold
        assert is_first or len(siblings) >= venue.page_rows, f"[{lower}, {upper}) could have been fetched"


@pytest.mark.parametrize("paging", [name for name, rules in PAGINGS.items() if rules.sequential_ids])
@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_ids_that_never_come_are_listed_and_nothing_else_is(paging: str, data: st.DataObject) -> None:
    all_trades = data.draw(trades(True).filter(bool))
    withheld = data.draw(st.sets(st.sampled_from([trade.id for trade in all_trades]), max_size=5))
    venue = ModelVenue(all_trades, paging, 8, withheld=withheld)
    venue.now_us += seconds(data.draw(HOURS_LATER))
    first = data.draw(st.sampled_from(all_trades))
    wanted_us = data.draw(st.sampled_from([NOON_US - seconds(1801), first.ts_us, first.ts_us + seconds(60)]))
    model = Model(venue, wanted_us)
    for action, value in data.draw(st.lists(ACTIONS, max_size=30)):
        model.step(action, value)
    model.finish()
    came = [trade for trade in all_trades if trade.id not in withheld]
    lacking = [int(trade.id) for trade in all_trades if trade.id in withheld and trade.ts_us >= wanted_us]
    for before, after in pairwise(came):
        is_lacking = any(int(before.id) < number < int(after.id) for number in lacking)
        if not is_lacking or after.ts_us >= venue.now_us - seconds(30):
            continue
        ids = (
            f"{int(before.id) + 1}-{int(after.id) - 1}"
            if int(after.id) > int(before.id) + 2
            else str(int(before.id) + 1)
        )
        listed = [part for one in model.store.recorded.get(KEY, []) for part in one.ids.split(", ")]
        assert ids in listed
