"""`python -m ohlcvd` is the command line."""

from ohlcvd.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
