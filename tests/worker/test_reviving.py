"""When the market of a failed collector is started again. Pure."""

from ohlcvd.worker.reviving import FORGIVEN_S, Reviving


def test_each_failure_in_a_row_waits_longer_up_to_five_minutes() -> None:
    reviving, now_s, pauses = Reviving(), 0.0, []
    for _ in range(10):
        pauses.append(reviving.failed("BTC/USD", now_s, chance=1.0))
        assert reviving.due(now_s + pauses[-1] - 0.1) == []
        now_s += pauses[-1]
        assert reviving.due(now_s) == ["BTC/USD"]
        assert reviving.due(now_s) == []
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert reviving.failed("BTC/USD", now_s, chance=0.0) == 150


def test_symbols_wait_by_themselves_and_are_forgiven() -> None:
    reviving = Reviving()
    for _ in range(5):
        reviving.failed("BTC/USD", 0.0, chance=1.0)
    assert reviving.failed("ETH/USD", 0.0, chance=1.0) == 2
    assert reviving.due(2.0) == ["ETH/USD"]
    assert reviving.failed("BTC/USD", FORGIVEN_S + 1.0, chance=1.0) == 2
    reviving.forget("BTC/USD")
    assert reviving.due(1e9) == []
