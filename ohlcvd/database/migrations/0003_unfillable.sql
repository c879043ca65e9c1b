-- What is missing and cannot be fetched, with the evidence.

CREATE TABLE ohlcvd.unfillable (
    instrument_id integer NOT NULL REFERENCES ohlcvd.instruments,
    kind          text NOT NULL CHECK (kind IN ('trades', 'candles')),
    gap           tstzrange NOT NULL CHECK (NOT isempty(gap) AND NOT lower_inf(gap) AND NOT upper_inf(gap)),
    reason        text NOT NULL DEFAULT 'unfillable'
                  CHECK (reason IN ('unfillable', 'venue has no history', 'venue outage')),
    ids           text NOT NULL DEFAULT '',
    asked         text NOT NULL,
    answered      text NOT NULL,
    attempts      integer NOT NULL CHECK (attempts > 0),
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL,
    next_at       timestamptz NOT NULL,
    PRIMARY KEY (instrument_id, kind, gap)
);
COMMENT ON TABLE ohlcvd.unfillable IS
    'Stretches that the venue was asked for and did not give. A row says nothing any more once coverage reaches over it.';
COMMENT ON COLUMN ohlcvd.unfillable.ids IS 'The venue''s trade ids that are missing, where they tell: 123-125.';
COMMENT ON COLUMN ohlcvd.unfillable.asked IS 'The last question.';
COMMENT ON COLUMN ohlcvd.unfillable.answered IS 'What came back.';
COMMENT ON COLUMN ohlcvd.unfillable.next_at IS 'Not asked again before this time.';

-- From the first moment that is wanted (or covered) to the last one covered; where nothing is covered yet, to now.
CREATE OR REPLACE VIEW ohlcvd.gaps AS
WITH bounds AS (
    SELECT c.instrument_id, c.kind, c.covered,
           coalesce(c.wanted_from, lower(c.covered)) AS since,
           coalesce(upper(c.covered), now()) AS until
      FROM ohlcvd.coverage c
     WHERE c.wanted_from IS NOT NULL OR NOT isempty(c.covered)
), lacking AS (
    SELECT b.instrument_id, b.kind,
           tstzmultirange(tstzrange(least(b.since, b.until), b.until)) - b.covered AS missing
      FROM bounds b
), parts AS (
    SELECT l.instrument_id, l.kind, g.gap, 'not yet fetched'::text AS reason
      FROM lacking l
     CROSS JOIN LATERAL unnest(l.missing - coalesce(
               (SELECT range_agg(u.gap) FROM ohlcvd.unfillable u
                 WHERE u.instrument_id = l.instrument_id AND u.kind = l.kind), '{}')) AS g (gap)
     UNION ALL
    SELECT l.instrument_id, l.kind, g.gap, u.reason
      FROM lacking l
      JOIN ohlcvd.unfillable u ON u.instrument_id = l.instrument_id AND u.kind = l.kind
     CROSS JOIN LATERAL unnest(l.missing * tstzmultirange(u.gap)) AS g (gap)
)
SELECT i.exchange, i.symbol, p.kind, p.gap, p.reason
  FROM parts p
  JOIN ohlcvd.instruments i ON i.id = p.instrument_id;
COMMENT ON VIEW ohlcvd.gaps IS
    'What is missing now and why: not yet fetched, venue has no history, venue outage, unfillable (see ohlcvd.unfillable).';
