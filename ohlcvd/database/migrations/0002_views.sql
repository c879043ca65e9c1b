-- What people read.

CREATE VIEW ohlcvd.named_trades AS
SELECT i.exchange, i.symbol, t.ts,
       coalesce(t.venue_id, t.trade_id::text) AS trade_id,
       t.price, t.amount,
       CASE t.side WHEN 'b' THEN 'buy' ELSE 'sell' END AS side
  FROM ohlcvd.trades t JOIN ohlcvd.instruments i ON i.id = t.instrument_id;

CREATE VIEW ohlcvd.named_candles AS
SELECT i.exchange, i.symbol, c.ts, c.open, c.high, c.low, c.close, c.volume, c.trades,
       CASE c.source WHEN 'v' THEN 'venue' ELSE 'trades' END AS source
  FROM ohlcvd.candles_1m c JOIN ohlcvd.instruments i ON i.id = c.instrument_id;

CREATE VIEW ohlcvd.named_coverage AS
SELECT i.exchange, i.symbol, c.kind, c.covered
  FROM ohlcvd.coverage c JOIN ohlcvd.instruments i ON i.id = c.instrument_id;

-- From the first moment that is wanted (or covered) to the last one covered; where nothing is covered yet, to now.
CREATE VIEW ohlcvd.gaps AS
WITH bounds AS (
    SELECT c.instrument_id, c.kind, c.covered,
           coalesce(c.wanted_from, lower(c.covered)) AS since,
           coalesce(upper(c.covered), now()) AS until
      FROM ohlcvd.coverage c
     WHERE c.wanted_from IS NOT NULL OR NOT isempty(c.covered)
)
SELECT i.exchange, i.symbol, b.kind, g.gap, 'not yet fetched'::text AS reason
  FROM bounds b
  JOIN ohlcvd.instruments i ON i.id = b.instrument_id
 CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(least(b.since, b.until), b.until)) - b.covered) AS g (gap);

CREATE FUNCTION ohlcvd.timeframe_interval(timeframe text) RETURNS interval
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    IF timeframe !~ '^[1-9][0-9]{0,3}[mhdw]$' THEN
        RAISE EXCEPTION 'timeframe is "%", expected a number and m (minutes), h, d or w, such as 15m', timeframe
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN left(timeframe, -1)::integer * CASE right(timeframe, 1)
        WHEN 'm' THEN interval '1 minute'
        WHEN 'h' THEN interval '1 hour'
        WHEN 'd' THEN interval '1 day'
        ELSE interval '7 days'
    END;
END $$;
COMMENT ON FUNCTION ohlcvd.timeframe_interval IS 'How long a candle of this timeframe is: 15m, 4h, 1d, 1w.';

-- plpgsql and not sql: the bounds are worked out once, and the aggregate is planned with their values.
CREATE FUNCTION ohlcvd.ohlcv(exchange text, symbol text, timeframe text,
                             since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
RETURNS TABLE (ts timestamptz, open numeric, high numeric, low numeric, close numeric, volume numeric, trades bigint)
LANGUAGE plpgsql STABLE SET jit = off AS $$
#variable_conflict use_column
DECLARE
    length interval := ohlcvd.timeframe_interval(timeframe);
    -- 1970-01-05 was a Monday: weeks start there.
    origin timestamptz := CASE WHEN timeframe LIKE '%w' THEN '1970-01-05 00:00+00' ELSE '1970-01-01 00:00+00' END;
    market integer := (SELECT i.id FROM ohlcvd.instruments i WHERE i.exchange = ohlcv.exchange AND i.symbol = ohlcv.symbol);
    lower_ts timestamptz := since;
    upper_ts timestamptz := until;
BEGIN
    -- Only whole candles: the first one opens at or after since, the last one before until.
    IF isfinite(since) THEN
        lower_ts := date_bin(length, since + length - interval '1 microsecond', origin);
    END IF;
    IF isfinite(until) THEN
        upper_ts := date_bin(length, until + length - interval '1 microsecond', origin);
    END IF;
    IF length = interval '1 minute' THEN
        RETURN QUERY
        SELECT c.ts, c.open, c.high, c.low, c.close, c.volume, c.trades
          FROM ohlcvd.candles_1m c
         WHERE c.instrument_id = market AND c.ts >= lower_ts AND c.ts < upper_ts
         ORDER BY c.ts;
        RETURN;
    END IF;
    -- Open and close are looked up afterwards by their times: cheaper than ordered aggregates, and than a join, which
    -- the planner sizes for as many buckets as there are minutes.
    RETURN QUERY
    WITH buckets AS (
        SELECT date_bin(length, c.ts, origin) AS bucket, min(c.ts) AS first_ts, max(c.ts) AS last_ts,
               max(c.high) AS high, min(c.low) AS low, sum(c.volume) AS volume,
               CASE WHEN count(c.trades) = count(*) THEN sum(c.trades)::bigint END AS trades
          FROM ohlcvd.candles_1m c
         WHERE c.instrument_id = market AND c.ts >= lower_ts AND c.ts < upper_ts
         GROUP BY 1
    )
    SELECT b.bucket,
           (SELECT f.open FROM ohlcvd.candles_1m f WHERE f.instrument_id = market AND f.ts = b.first_ts),
           b.high, b.low,
           (SELECT l.close FROM ohlcvd.candles_1m l WHERE l.instrument_id = market AND l.ts = b.last_ts),
           b.volume, b.trades
      FROM buckets b
     ORDER BY 1;
END $$;
COMMENT ON FUNCTION ohlcvd.ohlcv IS
    'Candles of any timeframe whose open time is in [since, until); a candle whose minutes are not all there yet is given '
    'as far as it goes. trades is null where it is null for any minute.';
