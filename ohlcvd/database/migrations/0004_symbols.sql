-- What is collected beside the configuration: people add and remove symbols while everything runs.

CREATE TABLE ohlcvd.symbols (
    exchange   text NOT NULL,
    symbol     text NOT NULL CHECK (symbol <> ''),
    added      boolean NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (exchange, symbol)
);
COMMENT ON TABLE ohlcvd.symbols IS
    'Additions and removals of symbols on top of the configuration; running children follow within seconds.';
COMMENT ON COLUMN ohlcvd.symbols.symbol IS 'A name (BTC/USD) or a glob (*/USDT).';
COMMENT ON COLUMN ohlcvd.symbols.added IS 'True: collected although not configured; false: not collected although configured.';
