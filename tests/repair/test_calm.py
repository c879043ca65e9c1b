"""When all markets are looked at again."""

from collections.abc import Callable

from ohlcvd.market import Instrument
from ohlcvd.repair.book import CoverageBook
from ohlcvd.repair.calm import CALM_S, Calm

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
        lambda: book.added(MARKET, "trades", [(0, 10)]),
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
