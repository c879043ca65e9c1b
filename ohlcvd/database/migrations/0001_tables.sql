-- The tables. One for all markets, keyed by instrument: a table per market is 20 to 40 times slower to write.

CREATE TABLE ohlcvd.instruments (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    exchange   text NOT NULL,
    symbol     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (exchange, symbol)
);
COMMENT ON TABLE ohlcvd.instruments IS 'One market of one exchange; what every other table calls instrument_id.';

-- Columns are ordered for size: fixed ones first, and the two that most venues never fill cost nothing while null.
-- No foreign key: checking it would cost more than storing the row.
CREATE TABLE ohlcvd.trades (
    ts            timestamptz NOT NULL,
    trade_id      bigint NOT NULL,
    instrument_id integer NOT NULL,
    side          "char" NOT NULL,
    price         numeric NOT NULL,
    amount        numeric NOT NULL,
    venue_id      text,
    ordinal       integer,
    PRIMARY KEY (instrument_id, ts, trade_id)
) PARTITION BY RANGE (ts);
COMMENT ON TABLE ohlcvd.trades IS
    'Executions. Partitions are made by the program, days for the present and months for older history; see named_trades.';
COMMENT ON COLUMN ohlcvd.trades.trade_id IS
    'The venue''s id where that is a whole number; else a negative hash of venue_id.';
COMMENT ON COLUMN ohlcvd.trades.side IS 'Of the taker: b bought, s sold.';
COMMENT ON COLUMN ohlcvd.trades.venue_id IS 'The venue''s id, exactly, where it is not a whole number.';
COMMENT ON COLUMN ohlcvd.trades.ordinal IS
    'Order of execution among trades of one time, where the venue''s id does not tell it.';

-- A row must never fail for want of a partition.
CREATE TABLE ohlcvd.trades_default PARTITION OF ohlcvd.trades DEFAULT;

CREATE TABLE ohlcvd.candles_1m (
    ts            timestamptz NOT NULL,
    trades        bigint,
    corrected_at  timestamptz,
    instrument_id integer NOT NULL,
    corrections   smallint NOT NULL DEFAULT 0,
    source        "char" NOT NULL CHECK (source IN ('v', 't')),
    open          numeric NOT NULL,
    high          numeric NOT NULL,
    low           numeric NOT NULL,
    close         numeric NOT NULL,
    volume        numeric NOT NULL CHECK (volume >= 0),
    PRIMARY KEY (instrument_id, ts),
    CHECK (date_bin('1 minute', ts, '1970-01-01 00:00+00') = ts),
    CHECK (low <= open AND low <= close AND high >= open AND high >= close)
);
COMMENT ON TABLE ohlcvd.candles_1m IS 'Closed minutes that had a trade; ts is the open time. See named_candles and ohlcv().';
COMMENT ON COLUMN ohlcvd.candles_1m.source IS 'v: the venue''s own candle; t: built from its trades.';
COMMENT ON COLUMN ohlcvd.candles_1m.corrections IS 'How often the venue changed its own candle after it was stored.';

-- Updated with nearly every batch: room for the new row version beside the old one keeps the index out of it.
CREATE TABLE ohlcvd.coverage (
    instrument_id integer NOT NULL REFERENCES ohlcvd.instruments,
    kind          text NOT NULL CHECK (kind IN ('trades', 'candles')),
    wanted_from   timestamptz,
    covered       tstzmultirange NOT NULL DEFAULT '{}',
    PRIMARY KEY (instrument_id, kind)
) WITH (fillfactor = 50);
COMMENT ON TABLE ohlcvd.coverage IS
    'What is known complete: extended in the transaction that stores the rows it speaks of, never ahead of them.';
COMMENT ON COLUMN ohlcvd.coverage.wanted_from IS 'History is wanted from here on; what was once wanted stays wanted.';
