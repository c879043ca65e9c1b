"""The table of `status`: everything a report holds, aligned, and nothing in it that a terminal obeys."""

from ohlcvd.status import duration, render
from ohlcvd.supervisor.report import ChildStatus, MarketStatus, ServerStatus, StatusReport

SINCE = "2026-01-02T03:04:05Z"
COUNTERS = {"trades": 1234, "candles": 20, "commits": 40, "backlog": 0, "reconnects": 1, "rejected": 0}

KRAKEN = ChildStatus("kraken", 11, "streaming", SINCE, 125.0, 2, 0, None, None, COUNTERS, 0.4)
BINANCE = ChildStatus("binance/1", None, "backing_off", SINCE, None, 7, 3, 12.5, "killed by SIGKILL", {}, None)
SILENT = ChildStatus("okx", 12, "ready", SINCE, 9.0, 0, 0, None, None, {}, 9.2)
POSTGRES = ServerStatus("postgres", 13, "ready", SINCE, 130.0, 0, None, "host=/run")


def market(symbol: str, **facts: object) -> MarketStatus:
    return MarketStatus("kraken", "kraken", symbol, facts)


def test_what_runs() -> None:
    markets = (
        market("ETH/USD", missing_s=0, trades=0, trades_live=True, candles_live=False, last_trade_us=None),
        market(
            "BTC/USD",
            trades=9,
            trades_live=True,
            last_trade_us=1_767_323_045_999_999,
            last_price="50000.10",
            candles_live=True,
            last_candle_us=1_767_322_980_000_000,
            missing_s=95,
        ),
        market("X/\x1b[2J", refused="not a market"),
    )
    children = (KRAKEN, BINANCE, SILENT)
    report = StatusReport("running", 0, 7, SINCE, "0.1.0", "both", children, (POSTGRES,), markets, ("a note",))
    assert (
        render(report)
        == f"""\
ohlcvd 0.1.0: running, pid 7, service both, since {SINCE}

PROCESS    PID  STATE            UP  RESTARTS  TRADES  CANDLES  COMMITS  BACKLOG  RECONNECTS  REJECTED
kraken      11  streaming     2m 5s         2    1234       20       40        0           1         0
binance/1    -  backing off       -         7       -        -        -        -           -         -
okx         12  ready            9s         0       -        -        -        -           -         -
postgres    13  ready        2m 10s         0

MARKET            TRADES  LAST TRADE           LAST PRICE  LAST CANDLE       MISSING  STATE
kraken BTC/USD         9  2026-01-02 03:04:05    50000.10  2026-01-02 03:03   1m 35s  live
kraken ETH/USD         0  -                             -  -                 nothing  waiting for candles
kraken X/\\x1b[2J       -  -                             -  -                       -  refused: not a market

binance/1: backing off since {SINCE}, starts again in 12s; last end: killed by SIGKILL
okx: no heartbeat for 9s
a note"""
    )


def test_what_does_not_run() -> None:
    assert render(StatusReport("not running", 3, None, None, None, None)) == "ohlcvd: not running"
    died = StatusReport("died", 1, 7, SINCE, None, None, notes=("`start` works",))
    assert render(died) == "ohlcvd: died, pid 7\n\n`start` works"


def test_durations() -> None:
    seconds = (-1, 0, 59.9, 60, 3600, 90_061, 864_000)
    assert [duration(s) for s in seconds] == ["0s", "0s", "59s", "1m 0s", "1h 0m", "1d 1h", "10d 0h"]
