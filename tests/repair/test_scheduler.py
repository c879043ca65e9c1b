"""The scheduler's single decisions: markets that come and go, a venue that is out of order, the end of a hole."""

import asyncio
from collections.abc import Callable
from typing import Any

from ohlcvd.errors import ExchangeUnavailable
from ohlcvd.exchange.sink import TradePage
from ohlcvd.market import SECOND_US, Instrument, Trade
from ohlcvd.repair import plan
from ohlcvd.repair.handed import BEHIND_S, UNSTORED_ROWS
from ohlcvd.repair.outage import OUTAGE_S, TELL_AGAIN_S, VenueHealth
from ohlcvd.repair.plan import Market
from ohlcvd.repair.scheduler import RepairScheduler
from ohlcvd.repair.walk import PROOF_LAG_US, TradeWalk
from tests.repair.venues import MARKET, NOON_US, OTHER, PAGINGS, ModelStore, ModelVenue

HOUR_US = 3_600 * SECOND_US
RULES = PAGINGS["by id"]._replace(trades_page=100)
TRADES = [Trade(NOON_US - HOUR_US + number * SECOND_US, str(number + 1), "1", "2", "buy") for number in range(3_600)]


class HeldVenue(ModelVenue):
    """Answers when it is told to, or not at all."""

    def __init__(self) -> None:
        super().__init__(TRADES, "by id", 100, now_us=NOON_US)
        self.may_answer = asyncio.Event()
        self.asked = asyncio.Event()
        self.is_out = False
        self.symbols: list[str] = []

    async def get_trades(self, symbol: str, **words: Any) -> TradePage:
        self.asked.set()
        self.symbols.append(symbol)
        if self.is_out:
            raise ExchangeUnavailable("nobody there")
        await self.may_answer.wait()
        return await super().get_trades(symbol, **words)


def scheduler(
    venue: ModelVenue, store: ModelStore, *instruments: Instrument,
    waiting_since_s: Callable[[], float | None] = lambda: None,
) -> RepairScheduler:  # fmt: skip
    for instrument in instruments:
        load(store, instrument)
    return RepairScheduler(
        "model", instruments, ["trades"], venue, store, store.book, rules=RULES,
        live_from_us=lambda instrument, kind: NOON_US - 30 * SECOND_US, venue_now_us=lambda: venue.now_us,
        records=store, waiting_since_s=waiting_since_s, now_s=lambda: venue.now_us / 1e6,
    )  # fmt: skip


def load(store: ModelStore, instrument: Instrument) -> None:
    store.book.load(instrument, "trades", [], NOON_US - HOUR_US)


async def complete(repair: RepairScheduler, store: ModelStore, *instruments: Instrument) -> None:
    wanted = [(NOON_US - HOUR_US, NOON_US - 30 * SECOND_US)]
    for _ in range(200):
        await repair.turn()
        store.commit(store.waiting)
        if all(store.covered.get((instrument, "trades")) == wanted for instrument in instruments):
            return
    raise AssertionError(store.covered)


async def test_a_market_removed_while_it_is_asked_for_gets_nothing_any_more() -> None:
    venue, store = HeldVenue(), ModelStore()
    repair = scheduler(venue, store, MARKET, OTHER)
    asking = asyncio.create_task(repair.turn())
    await venue.asked.wait()
    repair.remove([MARKET])
    venue.may_answer.set()
    assert await asking
    assert not store.waiting
    await complete(repair, store, OTHER)
    assert MARKET not in store.trades


async def test_a_market_that_comes_back_begins_with_what_is_committed() -> None:
    venue, store = HeldVenue(), ModelStore()
    repair = scheduler(venue, store, MARKET)
    asking = asyncio.create_task(repair.turn())
    await venue.asked.wait()
    repair.remove([MARKET])
    load(store, MARKET)
    repair.add([MARKET, OTHER])
    load(store, OTHER)
    venue.may_answer.set()
    await asking
    await complete(repair, store, MARKET, OTHER)
    assert len(store.trades[MARKET]) == len(store.trades[OTHER]) == 3_570 + 1  # the one behind the end proves it


async def test_markets_take_turns_page_by_page() -> None:
    venue, store = HeldVenue(), ModelStore()
    venue.may_answer.set()
    markets = [MARKET, OTHER, Instrument(77, "model", "THIRD/USD")]
    repair = scheduler(venue, store, *markets)
    for _ in range(30):
        await repair.turn()
        store.commit(store.waiting)
        asked = [venue.symbols.count(market.symbol) for market in markets]
        assert max(asked) - min(asked) <= 1, venue.symbols
    assert sum(asked) == 30


async def test_a_heavy_live_load_does_not_keep_repair_from_asking() -> None:
    venue, store = HeldVenue(), ModelStore()
    venue.may_answer.set()
    repair = scheduler(venue, store, MARKET, waiting_since_s=lambda: venue.now_us / 1e6 - 0.5)
    wanted = [(NOON_US - HOUR_US, NOON_US - 30 * SECOND_US)]
    for _ in range(200):  # whatever it adds is committed, and something of the stream's always waits
        await repair.turn()
        store.commit(store.waiting)
        venue.now_us += SECOND_US
    assert store.covered[MARKET, "trades"] == wanted


async def test_little_of_what_is_fetched_is_not_committed() -> None:
    venue, store = HeldVenue(), ModelStore()
    venue.may_answer.set()
    began_s = venue.now_us / 1e6
    waiting_since_s: list[float | None] = [began_s]
    repair = scheduler(venue, store, MARKET, waiting_since_s=lambda: waiting_since_s[0])
    while await repair.turn():
        pass
    assert UNSTORED_ROWS < venue.rows <= UNSTORED_ROWS + 2 * 100
    waiting_since_s[0] = None
    assert await repair.turn()


async def test_a_database_that_is_far_behind_is_not_given_more_to_do() -> None:
    venue, store = HeldVenue(), ModelStore()
    venue.may_answer.set()
    waiting_since_s = venue.now_us / 1e6 - BEHIND_S
    repair = scheduler(venue, store, MARKET, waiting_since_s=lambda: waiting_since_s)
    assert await repair.turn()
    venue.now_us += SECOND_US
    assert not await repair.turn()


async def test_a_venue_out_of_order_is_told_of_and_forgotten_with_its_first_answer() -> None:
    venue, store = HeldVenue(), ModelStore()
    venue.may_answer.set()
    repair = scheduler(venue, store, MARKET, OTHER)
    venue.is_out = True
    for _ in range(int(OUTAGE_S) + 10):
        await repair.turn()
        await repair.look()
        venue.now_us += SECOND_US
    wanted = [(NOON_US - HOUR_US, NOON_US - 30 * SECOND_US)]
    assert store.outages == {(MARKET, "trades"): wanted, (OTHER, "trades"): wanted} | {
        (market, "candles"): [] for market in (MARKET, OTHER)
    }
    assert 8 <= repair.counters.failures <= 24  # it is asked now and then
    venue.is_out = False
    venue.now_us += 5 * SECOND_US
    assert await repair.turn(), "soon after its end"
    assert not store.outages
    await complete(repair, store, MARKET, OTHER)


def test_an_outage_is_one_after_a_minute_without_any_right_answer() -> None:
    health = VenueHealth()
    for second in range(0, 60, 5):
        health.failed("this", "that", float(second), second)
        assert health.to_tell(float(second)) is None
    silence = health.to_tell(OUTAGE_S)
    assert silence is not None
    assert (silence.since_us, silence.last_us, silence.attempts, silence.asked) == (0, 55, 12, "this")
    assert health.to_tell(OUTAGE_S + TELL_AGAIN_S - 1) is None
    assert health.to_tell(OUTAGE_S + TELL_AGAIN_S) is not None
    assert health.answered()
    assert health.failed("this", "that", 70.0, 70) == 0.0
    assert health.to_tell(70.0) is None
    assert not health.answered()


def test_a_venue_out_of_order_rests_longer_the_longer_it_is() -> None:
    health = VenueHealth()
    rests = [health.failed("this", "that", 0.0, 0) for _ in range(9)]
    assert rests == [0, 0, 0, 1, 2, 4, 5, 5, 5]
    assert health.failed("this", "that", 200.0, 0) == 10
    assert health.failed("this", "that", 3600.0, 0) == 30


def test_the_last_question_of_a_walk_waits_until_its_answer_proves_the_end() -> None:
    upper = NOON_US
    quiet = TradeWalk((upper - 60 * SECOND_US, upper), RULES, near=TRADES[0], trades_per_s=0.1)
    assert quiet.not_before_us == upper + PROOF_LAG_US
    busy = TradeWalk((upper - 60 * SECOND_US, upper), RULES, near=TRADES[0], trades_per_s=10)
    assert busy.not_before_us == 0
    ended = TradeWalk((upper - 60 * SECOND_US, upper), RULES, near=TRADES[0], far=Trade(upper, "9", "1", "2", "buy"))
    assert ended.not_before_us == 0
    ended.extend(upper + SECOND_US)
    assert ended.hole[1] == upper + SECOND_US
    assert ended.not_before_us == upper + SECOND_US + PROOF_LAG_US


def test_a_hole_that_reaches_to_the_present_is_begun_when_its_end_is_known() -> None:
    now_us, begin_us = NOON_US, NOON_US - HOUR_US
    live_us = now_us - 3 * SECOND_US
    market = Market([(begin_us, live_us)], [], [])
    long = Market([(begin_us - HOUR_US, live_us)], [], [], "awaited")
    assert plan.missing(long, now_us) == []
    assert plan.missing(long, now_us, begins_long=True) == [(begin_us - HOUR_US, now_us - PROOF_LAG_US)]
    assert plan.missing(market._replace(end="awaited"), now_us, begins_long=True) == []
    assert plan.missing(market._replace(end="awaited"), now_us) == []
    assert plan.missing(market._replace(end="known"), now_us) == [(begin_us, live_us)]
    assert plan.missing(market._replace(end="open"), now_us) == [(begin_us, now_us - PROOF_LAG_US)]
    short = Market([(live_us - SECOND_US, live_us)], [], [], "known")
    assert plan.missing(short, now_us) == []
    assert plan.missing(short, live_us + PROOF_LAG_US) == [(live_us - SECOND_US, live_us)]
