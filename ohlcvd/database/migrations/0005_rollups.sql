-- Hours, kept beside the minutes: a year is then read as 8,760 rows instead of 525,600.

CREATE TABLE ohlcvd.candles_1h (
    ts            timestamptz NOT NULL,
    first_ts      timestamptz NOT NULL,
    last_ts       timestamptz NOT NULL,
    trades        bigint NOT NULL,
    instrument_id integer NOT NULL,
    minutes       smallint NOT NULL,
    counted       smallint NOT NULL,
    open          numeric NOT NULL,
    high          numeric NOT NULL,
    low           numeric NOT NULL,
    close         numeric NOT NULL,
    volume        numeric NOT NULL,
    PRIMARY KEY (instrument_id, ts)
) WITH (fillfactor = 80);
COMMENT ON TABLE ohlcvd.candles_1h IS
    'What the minutes of each hour in candles_1m add up to. Triggers there keep it so, in the transaction of the change.';
COMMENT ON COLUMN ohlcvd.candles_1h.first_ts IS 'The minute that gave the open; last_ts is the one that gave the close.';
COMMENT ON COLUMN ohlcvd.candles_1h.minutes IS 'How many minutes there are; counted: how many of them state their trades.';

-- Minutes are added and subtracted instead of adding the hour up anew: exact in any order, however many processes write,
-- and in whichever order the triggers of one statement run. What cannot be subtracted (the first, the last, the highest,
-- the lowest) is looked up, by a statement that begins after the hour is locked and so sees all that was committed.
CREATE FUNCTION ohlcvd.keep_hours() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone record;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        TRUNCATE ohlcvd.candles_1h;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO ohlcvd.candles_1h AS h
               (instrument_id, ts, first_ts, last_ts, open, high, low, close, volume, trades, minutes, counted)
        SELECT n.instrument_id, n.hour, n.first_ts, n.last_ts,
               (SELECT f.open FROM ohlcvd.candles_1m AS f WHERE f.instrument_id = n.instrument_id AND f.ts = n.first_ts),
               n.high, n.low,
               (SELECT l.close FROM ohlcvd.candles_1m AS l WHERE l.instrument_id = n.instrument_id AND l.ts = n.last_ts),
               n.volume, n.trades, n.minutes, n.counted
          FROM (SELECT a.instrument_id, date_bin('1 hour', a.ts, '1970-01-01 00:00+00') AS hour,
                       min(a.ts) AS first_ts, max(a.ts) AS last_ts, max(a.high) AS high, min(a.low) AS low,
                       sum(a.volume) AS volume, coalesce(sum(a.trades), 0) AS trades, count(*) AS minutes,
                       count(a.trades) AS counted
                  FROM added AS a GROUP BY 1, 2) AS n
         ORDER BY 1, 2
            ON CONFLICT (instrument_id, ts) DO UPDATE SET
               open = CASE WHEN excluded.first_ts < h.first_ts THEN excluded.open ELSE h.open END,
               close = CASE WHEN excluded.last_ts > h.last_ts THEN excluded.close ELSE h.close END,
               first_ts = least(h.first_ts, excluded.first_ts),
               last_ts = greatest(h.last_ts, excluded.last_ts),
               high = greatest(h.high, excluded.high),
               low = least(h.low, excluded.low),
               volume = h.volume + excluded.volume,
               trades = h.trades + excluded.trades,
               minutes = h.minutes + excluded.minutes,
               counted = h.counted + excluded.counted;
    END IF;
    IF TG_OP = 'INSERT' THEN
        RETURN NULL;
    END IF;
    -- Corrections are few: hour by hour, so that each statement finds its rows by key, whatever was planned first.
    FOR gone IN
        SELECT o.instrument_id, date_bin('1 hour', o.ts, '1970-01-01 00:00+00') AS hour, sum(o.volume) AS volume,
               coalesce(sum(o.trades), 0) AS trades, count(*) AS minutes, count(o.trades) AS counted
          FROM removed AS o
         GROUP BY 1, 2
         ORDER BY 1, 2
    LOOP
        UPDATE ohlcvd.candles_1h AS h
           SET volume = h.volume - gone.volume, trades = h.trades - gone.trades,
               minutes = h.minutes - gone.minutes, counted = h.counted - gone.counted
         WHERE h.instrument_id = gone.instrument_id AND h.ts = gone.hour;
        DELETE FROM ohlcvd.candles_1h AS h
         WHERE h.instrument_id = gone.instrument_id AND h.ts = gone.hour AND h.minutes = 0;
        CONTINUE WHEN FOUND;
        UPDATE ohlcvd.candles_1h AS h
           SET (first_ts, last_ts, high, low) = (
               SELECT min(c.ts), max(c.ts), max(c.high), min(c.low)
                 FROM ohlcvd.candles_1m AS c
                WHERE c.instrument_id = gone.instrument_id AND c.ts >= gone.hour AND c.ts < gone.hour + interval '1 hour')
         WHERE h.instrument_id = gone.instrument_id AND h.ts = gone.hour;
        UPDATE ohlcvd.candles_1h AS h
           SET open = f.open, close = l.close
          FROM ohlcvd.candles_1m AS f, ohlcvd.candles_1m AS l
         WHERE h.instrument_id = gone.instrument_id AND h.ts = gone.hour
           AND f.instrument_id = gone.instrument_id AND f.ts = h.first_ts
           AND l.instrument_id = gone.instrument_id AND l.ts = h.last_ts;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ohlcvd.keep_hours IS 'Brings candles_1h to what a statement made of candles_1m.';

-- Nobody changes minutes between this and the triggers.
LOCK TABLE ohlcvd.candles_1m IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO ohlcvd.candles_1h
       (instrument_id, ts, first_ts, last_ts, open, high, low, close, volume, trades, minutes, counted)
SELECT h.instrument_id, h.ts, h.first_ts, h.last_ts,
       (SELECT f.open FROM ohlcvd.candles_1m AS f WHERE f.instrument_id = h.instrument_id AND f.ts = h.first_ts),
       h.high, h.low,
       (SELECT l.close FROM ohlcvd.candles_1m AS l WHERE l.instrument_id = h.instrument_id AND l.ts = h.last_ts),
       h.volume, h.trades, h.minutes, h.counted
  FROM (SELECT c.instrument_id, date_bin('1 hour', c.ts, '1970-01-01 00:00+00') AS ts,
               min(c.ts) AS first_ts, max(c.ts) AS last_ts, max(c.high) AS high, min(c.low) AS low,
               sum(c.volume) AS volume, coalesce(sum(c.trades), 0) AS trades, count(*) AS minutes,
               count(c.trades) AS counted
          FROM ohlcvd.candles_1m AS c GROUP BY 1, 2) AS h;

CREATE TRIGGER hours_of_new AFTER INSERT ON ohlcvd.candles_1m
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ohlcvd.keep_hours();
CREATE TRIGGER hours_of_changed AFTER UPDATE ON ohlcvd.candles_1m
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ohlcvd.keep_hours();
CREATE TRIGGER hours_of_removed AFTER DELETE ON ohlcvd.candles_1m
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION ohlcvd.keep_hours();
CREATE TRIGGER hours_of_none AFTER TRUNCATE ON ohlcvd.candles_1m
    FOR EACH STATEMENT EXECUTE FUNCTION ohlcvd.keep_hours();

-- Whoever may read the minutes may read the hours: ohlcv() needs both.
DO $$
DECLARE
    reader record;
BEGIN
    FOR reader IN
        SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS name
          FROM pg_catalog.pg_class AS c, aclexplode(c.relacl) AS a
         WHERE c.oid = 'ohlcvd.candles_1m'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
    LOOP
        EXECUTE 'GRANT SELECT ON ohlcvd.candles_1h TO ' || reader.name;
    END LOOP;
END $$;

-- plpgsql and not sql: the bounds are worked out once, and the aggregates are planned with their values.
CREATE OR REPLACE FUNCTION ohlcvd.ohlcv(exchange text, symbol text, timeframe text,
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
    ELSIF length = interval '1 hour' THEN
        RETURN QUERY
        SELECT h.ts, h.open, h.high, h.low, h.close, h.volume, CASE WHEN h.counted = h.minutes THEN h.trades END
          FROM ohlcvd.candles_1h h
         WHERE h.instrument_id = market AND h.ts >= lower_ts AND h.ts < upper_ts
         ORDER BY h.ts;
    ELSIF date_bin('1 hour', origin + length, origin) = origin + length THEN
        -- Open and close are looked up afterwards by their times: cheaper than ordered aggregates, and than a join, which
        -- the planner sizes for as many buckets as there are rows.
        RETURN QUERY
        WITH buckets AS (
            SELECT date_bin(length, h.ts, origin) AS bucket, min(h.ts) AS first_ts, max(h.ts) AS last_ts,
                   max(h.high) AS high, min(h.low) AS low, sum(h.volume) AS volume,
                   CASE WHEN sum(h.counted) = sum(h.minutes) THEN sum(h.trades)::bigint END AS trades
              FROM ohlcvd.candles_1h h
             WHERE h.instrument_id = market AND h.ts >= lower_ts AND h.ts < upper_ts
             GROUP BY 1
        )
        SELECT b.bucket,
               (SELECT f.open FROM ohlcvd.candles_1h f WHERE f.instrument_id = market AND f.ts = b.first_ts),
               b.high, b.low,
               (SELECT l.close FROM ohlcvd.candles_1h l WHERE l.instrument_id = market AND l.ts = b.last_ts),
               b.volume, b.trades
          FROM buckets b
         ORDER BY 1;
    ELSE
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
    END IF;
END $$;

-- The tables of the fullon programs, as views: made where `fullon_views = yes` asks for them.
CREATE FUNCTION ohlcvd.make_views(market integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    folder text := (SELECT i.exchange FROM ohlcvd.instruments AS i WHERE i.id = market);
    name text := (SELECT lower(regexp_replace(i.symbol, '[^A-Za-z0-9]+', '_', 'g')) FROM ohlcvd.instruments AS i
                   WHERE i.id = market);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ohlcvd.make_views'));
    -- Looking first: IF NOT EXISTS asks for the right to create even where an administrator has made the schema.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = folder) THEN
        EXECUTE format('CREATE SCHEMA %I', folder);
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE VIEW %I.%I AS SELECT ts AS "timestamp", open, high, low, close, volume AS vol
           FROM ohlcvd.candles_1m WHERE instrument_id = %s', folder, name || '_candles1m', market);
    EXECUTE format(
        'CREATE OR REPLACE VIEW %I.%I AS SELECT ts AS "timestamp", price, amount AS volume,
                CASE side WHEN ''b'' THEN ''BUY'' ELSE ''SELL'' END AS side, ''MARKET''::text AS type
           FROM ohlcvd.trades WHERE instrument_id = %s', folder, name || '_trades', market);
END $$;
COMMENT ON FUNCTION ohlcvd.make_views IS
    'Makes <exchange>.<base>_<quote>_candles1m and _trades for one market, as the fullon programs read them.';
