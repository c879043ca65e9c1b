"""How long rows take from the wire to their COMMIT."""

from ohlcvd.database.lag import RECENT_S, Arrivals, CommitLag


def test_mean_and_longest_of_the_last_seconds_and_sums_that_only_grow() -> None:
    lag = CommitLag()
    assert lag.recent_us(0.0) == (0, 0)
    arrivals = Arrivals()
    arrivals.add(1, 100.0)
    arrivals.add(3, 100.2)
    lag.committed(arrivals, 100.3)
    lag.committed(Arrivals(), 100.4)  # coverage alone
    assert lag.recent_us(100.5) == (150_000, 300_000)
    assert (lag.rows, lag.total_us) == (4, 600_000)
    second = Arrivals()
    second.add(4, 101.0)
    lag.committed(second, 101.01)
    assert lag.recent_us(101.1) == (80_000, 300_000)
    assert lag.recent_us(100.4 + RECENT_S) == (10_000, 10_000)
    assert lag.recent_us(200.0) == (0, 0)
    assert (lag.rows, lag.total_us) == (8, 640_000)
