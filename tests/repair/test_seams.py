"""Where the live stream took over: what neither side brought is noticed by the numbers, once, and taken back."""

from ohlcvd.log import get_component_logger
from ohlcvd.market import Instrument, Kind, Trade
from ohlcvd.repair.seams import LOOK_AGAIN_S, SeamCheck
from tests.repair.venues import MARKET, NOON_US, ModelStore, seconds

LIVE_US = NOON_US
BEFORE, AFTER = seconds(-20), seconds(20)


def trade(number: int, offset_us: int) -> Trade:
    return Trade(NOON_US + offset_us, str(number), "1", "2", "buy")


def stored(*trades: Trade, covered: tuple[int, int] = (seconds(-60), seconds(60))) -> ModelStore:
    store = ModelStore()
    store.book.load(MARKET, "trades", [], NOON_US - seconds(60))
    store.add_trades(MARKET, trades)
    store.cover(MARKET, "trades", NOON_US + covered[0], NOON_US + covered[1])
    store.commit(store.waiting)
    return store


def check_of(store: ModelStore) -> SeamCheck:
    def live_from_us(instrument: Instrument, kind: Kind) -> int | None:
        return LIVE_US

    return SeamCheck(store.book, store, store, live_from_us, get_component_logger("ohlcvd.tests"))


async def test_neighbours_keep_their_claim() -> None:
    store = stored(trade(10, BEFORE), trade(11, AFTER))
    await check_of(store).run([MARKET], 0.0)
    assert store.waiting == 0


async def test_a_number_left_out_takes_the_claim_between_back_and_only_that() -> None:
    store = stored(trade(10, BEFORE), trade(12, AFTER))
    check = check_of(store)
    await check.run([MARKET], 0.0)
    assert store.waiting == 1
    store.commit(1)
    assert store.covered[MARKET, "trades"] == [
        (NOON_US - seconds(60), NOON_US + BEFORE),
        (NOON_US + AFTER + 1, NOON_US + seconds(60)),
    ]
    store.cover(MARKET, "trades", NOON_US + BEFORE, NOON_US + AFTER + 1)
    store.commit(store.waiting)
    await check.run([MARKET], 10 * LOOK_AGAIN_S)
    assert store.waiting == 0, "one look for each time that a stream began"


async def test_a_seam_that_is_not_covered_yet_is_looked_at_later() -> None:
    store = stored(trade(10, BEFORE), trade(12, AFTER), covered=(seconds(-60), seconds(10)))
    check = check_of(store)
    await check.run([MARKET], 0.0)
    assert store.waiting == 0
    store.cover(MARKET, "trades", NOON_US, NOON_US + seconds(60))
    store.commit(store.waiting)
    await check.run([MARKET], LOOK_AGAIN_S / 2)
    assert store.waiting == 0
    await check.run([MARKET], LOOK_AGAIN_S)
    assert store.waiting == 1


async def test_a_quiet_market_is_looked_at_when_it_trades_again() -> None:
    store = stored(trade(10, BEFORE))
    check = check_of(store)
    await check.run([MARKET], 0.0)
    store.add_trades(MARKET, [trade(12, AFTER)])
    store.commit(store.waiting)
    await check.run([MARKET], 1.0)
    assert store.waiting == 0, "nothing said that there was a trade"
    check.traded([MARKET])
    await check.run([MARKET], 2.0)
    assert store.waiting == 1


async def test_a_seam_that_stays_open_is_looked_at_less_and_less_whatever_is_traded() -> None:
    store = stored(trade(10, -seconds(100)), trade(12, AFTER))  # of a snapshot, older than what is wanted
    check, looks = check_of(store), []
    for second in range(1000):
        before = store.seams_asked
        check.traded([MARKET])
        await check.run([MARKET], float(second))
        if store.seams_asked > before:
            looks.append(second)
    assert looks == [0, 30, 90, 210, 450, 750]
