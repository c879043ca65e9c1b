"""Markets, rows and commits for these tests."""

from dataclasses import dataclass, field

from ohlcvd.market import MINUTE_US, Candle, Instrument, Kind, Trade

NOW_US = 1_763_798_400_000_000  # 2025-11-22 08:00:00 UTC, on the minute
BTC = Instrument(1, "kraken", "BTC/USD")
ETH = Instrument(2, "kraken", "ETH/USD")


@dataclass
class Commit:
    """What a writer hands over after a commit."""

    trades: dict[Instrument, list[Trade]] = field(default_factory=dict)
    candles: dict[Instrument, list[Candle]] = field(default_factory=dict)
    covered: dict[tuple[Instrument, Kind], list[tuple[int, int]]] = field(default_factory=dict)


def trade(number: int, ts_us: int = NOW_US) -> Trade:
    return Trade(ts_us, str(number), "86000.10", "0.00010000", "buy")


def candle(minute: int) -> Candle:
    return Candle(NOW_US + minute * MINUTE_US, "1.10", "1.30", "1.00", "1.20", "12.500", None, "venue")
