"""The table of `status`: one look says it, at 80 and 120 columns, and there is nothing in it that a terminal obeys."""

from dataclasses import replace

import pytest

from ohlcvd.problems import Idle, Problem
from ohlcvd.status import duration, render, size
from ohlcvd.supervisor.report import ChildStatus, MarketStatus, ServerStatus, StatusReport

SINCE, AT = "2026-01-02T03:00:00.000Z", "2026-01-02T03:04:05.000Z"
AT_US = 1_767_323_045_000_000
COUNTERS = {"backlog": 1200, "reconnects": 1, "rejected": 0}

KRAKEN = ChildStatus(
    "kraken", 11, "streaming", SINCE, 125.0, 2, 0, None, None, COUNTERS, 0.4, 48 << 20, 12.34, 0.5, 250.0, 8.2, 12_500.0
)
BINANCE = ChildStatus("binance/1", None, "backing_off", SINCE, None, 7, 3, 12.5, "killed by SIGKILL", {}, None)
POSTGRES = ServerStatus("postgres", 13, "ready", SINCE, 130.0, 0, None, "host=/run")
MONITOR = ChildStatus("monitor", 14, "ready", SINCE, 130.0, 0, 0, None, None, {}, 0.2, 1 << 31)

MARKETS = (
    MarketStatus("kraken", "kraken", "ETH/USD", {"missing_s": 0, "collecting": True}),
    MarketStatus(
        "kraken",
        "kraken",
        "BTC/USD",
        {
            "collecting": True,
            "trades": 98765,
            "last_trade_us": AT_US - 3_000_000,
            "last_price": "50000.10",
            "last_candle_us": AT_US - 65_000_000,
            "missing_s": 95,
            "compared": 57,
            "differences": 1,
        },
    ),
    MarketStatus("binance/1", "binance", "X/\x1b[2J", {"collecting": True, "last_candle_us": AT_US - 86_400_000_000}),
)
PROBLEMS = (
    Problem("binance/1", "backing off", SINCE, "killed by SIGKILL", "it is started again", "2026-01-02T03:04:17.500Z"),
    Problem(
        "kraken BTC/USD", "1 of 57 candles differ from their trades", action="ohlcvd verify kraken BTC/USD shows them"
    ),
)
IDLE = (Idle("binance", "X/\x1b[2J", SINCE, "the process of binance/1 is backing off"),)
REPORT = StatusReport(
    "running", 0, 7, SINCE, "0.1.0", "both", (KRAKEN, BINANCE), (POSTGRES,), MARKETS, ("a note",),
    {"redis": "unix:///x"}, AT, None, MONITOR, PROBLEMS, IDLE,
)  # fmt: skip


def test_80_columns() -> None:
    assert (
        render(REPORT, width=80)
        == """\
ohlcvd 0.1.0: running, pid 7, service both, since 2026-01-02 03:00:00
2 problems: 2 of 3 markets are collected; 1 lacks a part of the history

binance/1: backing off since 2026-01-02 03:00:00 (4m 5s)
  killed by SIGKILL; it is started again in 13s
kraken BTC/USD: 1 of 57 candles differ from their trades
  ohlcvd verify kraken BTC/USD shows them

PROCESS    PID  STATE            UP  RESTARTS  TRADES/S   LAG  MEMORY
kraken      11  streaming     2m 5s         2      12.3  8 ms   48 MB
binance/1    -  backing off       -         7         -     -       -
postgres    13  ready        2m 10s         0
monitor     14  ready        2m 10s         0                  2.0 GB

MARKET             LAST TRADE  LAST CANDLE  MISSING  VERIFIED  STATE
binance X/\\x1b[2J           -  01-01 03:04        -         -  not collected
kraken BTC/USD         3s ago        03:03   1m 35s     56/57  collected
kraken ETH/USD              -            -  nothing         -  collected

a note
redis: unix:///x"""
    )


def test_120_columns() -> None:
    assert (
        render(replace(REPORT, problems=PROBLEMS[:1], notes=(), addresses={}), width=120)
        == """\
ohlcvd 0.1.0: running, pid 7, service both, since 2026-01-02 03:00:00
1 problem: 2 of 3 markets are collected; 1 lacks a part of the history

binance/1: backing off since 2026-01-02 03:00:00 (4m 5s)
  killed by SIGKILL; it is started again in 13s

PROCESS    PID  STATE            UP  RESTARTS  TRADES/S  FRAMES/S   LAG  LONGEST  MEMORY  BACKLOG  RECONNECTS  REJECTED
kraken      11  streaming     2m 5s         2      12.3       250  8 ms      12s   48 MB    1,200           1         0
binance/1    -  backing off       -         7         -         -     -        -       -        -           -         -
postgres    13  ready        2m 10s         0
monitor     14  ready        2m 10s         0                                     2.0 GB

MARKET             TRADES  LAST PRICE  LAST TRADE  LAST CANDLE  MISSING  VERIFIED  STATE
binance X/\\x1b[2J       -           -           -  01-01 03:04        -         -  not collected
kraken BTC/USD     98,765    50000.10      3s ago        03:03   1m 35s     56/57  collected
kraken ETH/USD          -           -           -            -  nothing         -  collected"""
    )


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("height", [10, 24, 40])
def test_it_fits_the_window(width: int, height: int) -> None:
    many = tuple(MarketStatus("kraken", "kraken", f"C{n}/USD", {"collecting": True}) for n in range(620))
    problems = tuple(Problem("kraken", "cut off", SINCE, "a reason that is long " * 10) for _ in range(30))
    report = replace(REPORT, markets=(*MARKETS, *many), problems=problems)
    lines = render(report, width=width, height=height).split("\n")
    assert max(map(len, lines)) <= width
    if height >= 24:
        assert len(lines) <= height
    assert "30 problems" in lines[1]
    assert any(line.startswith("... and ") for line in lines)


def test_colours_say_the_same_words() -> None:
    plain, coloured = render(REPORT, width=80), render(REPORT, width=80, colour=True)
    assert "\x1b" not in plain
    for code in ("\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[1m", "\x1b[0m"):
        assert code in coloured
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_what_does_not_run() -> None:
    assert render(StatusReport("not running", 3, None, None, None, None)) == "ohlcvd: not running"
    died = StatusReport("died", 1, 7, SINCE, None, None, notes=("`start` works",))
    assert render(died) == "ohlcvd: died, pid 7\n\n`start` works"


def test_durations_and_sizes() -> None:
    seconds = (-1, 0, 59.9, 60, 3600, 90_061, 864_000)
    assert [duration(s) for s in seconds] == ["0s", "0s", "59s", "1m 0s", "1h 0m", "1d 1h", "10d 0h"]
    sizes = (None, 0, 900_000, 5 << 20, 46 << 20, 3 << 30)
    assert [size(count) for count in sizes] == ["-", "0 kB", "879 kB", "5.0 MB", "46 MB", "3.0 GB"]


def test_markets_of_which_nothing_is_known_are_not_called_collected() -> None:
    """Their record goes half a minute after their child; and it does not come while redis is away."""
    kraken = tuple(market for market in MARKETS if market.child == "kraken")
    gone = render(replace(REPORT, markets=kraken, problems=PROBLEMS[:1], not_collecting=())).splitlines()[1]
    assert gone.startswith("1 problem: 2 of 2 known markets are collected; those of binance/1 are not known now")
    all_there = replace(REPORT, not_collecting=(), problems=PROBLEMS[:1])
    assert render(all_there).splitlines()[1].startswith("1 problem, but all 3 markets are collected")
