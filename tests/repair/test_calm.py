"""When all markets are looked at again."""

from collections.abc import Callable

from ohlcvd.database import Batch
from ohlcvd.market import Instrument
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.calm import CALM_S, DEEP_S, Calm

MARKET = Instrument(1, "kraken", "BTC/USD")


def test_calm_lasts_until_something_changes_and_not_for_ever() -> None:
    book = CoverageBook()
    live_from_us: dict[str, int | None] = {"trades": 5}
    calm = Calm(book, ["trades"], lambda _, kind: live_from_us[kind])
    assert not calm.lasts([MARKET], 0.0), "nobody has looked yet"
    calm.looked([MARKET], 0.0)
    assert calm.lasts([MARKET], 1.0)
    assert not calm.lasts([MARKET], CALM_S)
    assert not calm.lasts([MARKET, MARKET._replace(id=2)], 1.0), "a market more"
    changes: list[Callable[[], None]] = [
        lambda: book.added(MARKET, "trades", [(0, 10)]),  # the first that is covered
        lambda: book.committed(Batch(uncovered={(MARKET, "trades"): [(3, 4)]})),
        lambda: book.unclaimed(MARKET, "trades", 3, 4),
        lambda: book.want(MARKET, "trades", 1),
        lambda: live_from_us.update(trades=6),
    ]
    for change in changes:
        calm.looked([MARKET], 0.0)
        change()
        assert not calm.lasts([MARKET], 1.0)
    live_from_us["trades"] = None
    calm.looked([MARKET], 0.0)
    assert not calm.lasts([MARKET], 0.0), "a stream that is not live is waited for"


def test_more_that_is_covered_is_nothing_to_do() -> None:
    book = CoverageBook()
    book.load(MARKET, "trades", [(0, 10)], 0)
    calm = Calm(book, ["trades"], lambda _, kind: 5)
    calm.looked([MARKET], 0.0)
    book.added(MARKET, "trades", [(10, 20)])
    assert calm.lasts([MARKET], 1.0)


def test_calm_deepens_while_nothing_changes_and_begins_anew_with_a_change() -> None:
    book = CoverageBook()
    calm = Calm(book, ["trades"], lambda _, kind: 5)
    now_s, pauses = 0.0, []
    for _ in range(5):
        calm.looked([MARKET], now_s)
        pause_s = next(pause_s for pause_s in range(1, 100) if not calm.lasts([MARKET], now_s + pause_s))
        pauses.append(pause_s)
        now_s += pause_s
    assert pauses == [CALM_S, DEEP_S, DEEP_S, DEEP_S, DEEP_S]
    book.want(MARKET, "trades", 1)
    calm.looked([MARKET], now_s)
    assert not calm.lasts([MARKET], now_s + CALM_S)
