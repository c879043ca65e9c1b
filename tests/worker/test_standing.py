"""What a child says of itself: its pace, how each market stands, and the line of some minutes."""

from ohlcvd.exchange.sink import StreamCounters
from ohlcvd.worker.standing import CERTAIN_US, RECENT_S, Pace, Retelling, Standing, summary, trouble_of

SECOND_US = 1_000_000


def test_pace_is_what_happened_within_the_last_seconds() -> None:
    pace = Pace("trades")
    assert pace.note({"trades": 100, "other": 1}, 0.0) == {"recent_ms": 0, "recent_trades": 0}
    for second in range(1, 31):
        said = pace.note({"trades": 100 + second * 5}, float(second))
        assert said["recent_trades"] == 5 * min(second, int(RECENT_S))
        assert said["recent_ms"] == 1000 * min(second, int(RECENT_S))
    assert pace.note({"trades": 250}, 100.0) == {"recent_ms": 70_000, "recent_trades": 0}  # it was paused


def test_what_is_new_is_told_at_once_and_what_is_not_at_every_third_beat() -> None:
    retelling = Retelling(3)
    known = [1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3]
    told = [retelling.is_due(one) for one in known]
    assert told == [True, False, False, True, False, True, False, True, False, False, True, False]


def test_since_when_a_market_is_down_and_until_when_it_was_whole() -> None:
    standing = Standing()
    assert standing.facts("BTC/USD", "not subscribed yet", 5, None)["received_until_us"] is None
    up = standing.facts("BTC/USD", None, 10, 100 * SECOND_US)
    assert up == {
        "collecting": True,
        "down_reason": None,
        "down_since_us": None,
        "received_until_us": 100 * SECOND_US - CERTAIN_US,
    }
    for now_us in (20, 30):
        down = standing.facts("BTC/USD", "trades: closed", now_us, 200 * SECOND_US)
        assert (down["collecting"], down["down_since_us"], down["down_reason"]) == (False, 20, "trades: closed")
        assert down["received_until_us"] == 100 * SECOND_US - CERTAIN_US
    assert standing.facts("BTC/USD", None, 40, 300 * SECOND_US)["down_since_us"] is None
    assert standing.facts("BTC/USD", "closed", 50, None)["down_since_us"] == 50


def test_trouble_is_the_newest_reason_since_the_first_and_the_next_try() -> None:
    counters = StreamCounters()
    assert trouble_of(counters.troubles) is None
    counters.cut(0, "closed", 10, 2.0)
    counters.cut(1, "stale", 20, 5.0)
    counters.cut(0, "refused", 30, 1.0)
    assert trouble_of(counters.troubles) == {
        "reason": "stale",
        "connections": 2,
        "since_us": 10,
        "retry_us": 30 + SECOND_US,
    }
    counters.whole(1)
    trouble = trouble_of(counters.troubles)
    assert trouble is not None
    assert (trouble["reason"], trouble["connections"]) == ("refused", 1)
    counters.whole(0)
    counters.whole(0)
    assert trouble_of(counters.troubles) is None


def test_the_line_of_some_minutes() -> None:
    before = {"trades": 10, "lag_rows": 10, "lag_total_us": 1000}
    now = {"trades": 25, "candles": 2, "lag_rows": 27, "lag_total_us": 171_000, "streams": 4, "streams_live": 3}
    message, fields = summary(now, before, 60, 1)
    assert message == "collected 15 trades and 2 candles in the last minute"
    assert (fields["trades"], fields["lag_ms"], fields["missing_s"], fields["streams_live"]) == (15, 10.0, 60, 3)
    assert summary(now, now, 0, 10)[1]["lag_ms"] is None
    assert summary(now, before, 0, 10)[0].endswith("in the last 10 minutes")
