-- The newest candles, of one market or of all: people ask named_candles for them by time only (ORDER BY ts DESC LIMIT 10).
-- The key cannot answer that, because the market's id is known only once the statement runs. 10 MB for a year of a market.
CREATE INDEX candles_1m_ts ON ohlcvd.candles_1m (ts);
