"""What `status` puts together from what the lock, the supervisor and Redis said."""

from ohlcvd.supervisor.lock import LockState
from ohlcvd.supervisor.report import StatusReport, report_of

RUNNING = LockState(held=True, left_over=False, holder=None)


def report(markets: dict[str, dict[str, object]]) -> StatusReport:
    return report_of(RUNNING, {"pid": 7, "children": [], "servers": []}, markets, [])


def test_a_symbol_that_one_exchange_lists_is_shown_there_only() -> None:
    made = report({"kraken": {"BTC/USD": {"trades": 1}}, "binance": {"BTC/USD": {"unlisted": True}}})
    assert [(market.exchange, market.symbol) for market in made.markets] == [("kraken", "BTC/USD")]
    assert made.notes == ()


def test_a_symbol_that_nobody_lists_is_an_error() -> None:
    made = report({"kraken": {"BTC/USX": {"unlisted": True}}, "binance": {"BTC/USX": {"unlisted": True}}})
    assert made.markets == ()
    assert made.notes == ("ERROR: no exchange that answers lists BTC/USX",)


def test_nothing_running() -> None:
    assert report_of(LockState(held=False, left_over=False, holder=None), None, {}, []).exit_code == 3
    assert report_of(LockState(held=False, left_over=True, holder=None), None, {}, []).exit_code == 1
    assert report_of(RUNNING, None, {}, []).exit_code == 4
