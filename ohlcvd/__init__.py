"""ohlcvd: collects 1-minute candles and trades from exchanges and proves that nothing is missing."""

__version__ = "0.1.0"
