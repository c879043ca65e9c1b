"""The line of a minute: what each exchange did in it, through restarts and shards, and how many lines make a day."""

import json
import re
from pathlib import Path

from ohlcvd.log import setup_logging, shutdown_logging
from ohlcvd.monitor.child import tell_minute
from ohlcvd.monitor.knowledge import Knowledge
from ohlcvd.monitor.summary import SUMMARY_S, Minutes
from ohlcvd.monitor.totals import Totals
from tests.monitor.documents import answer, child, market

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
NOW_US = 1_767_323_045_000_000
DAY_S = 86_400
MOST_LINES = 2_000


def test_each_exchange_is_summed_up_through_restarts() -> None:
    totals = Totals()
    known = Knowledge(totals)
    markets = {"kraken": {"BTC/USD": market(missing_s=60), "ETH/USD": market(missing_s=5)}}
    known.supervisor_said(answer(child("kraken"), child("binance/1", 12), child("binance/2", 13)), 0.0)
    known.redis_said({}, markets)
    known.look(NOW_US, 1.0)
    minutes = Minutes(totals)
    kraken = child("kraken", trades=65, candles=4, reconnects=1, lag_rows=60, lag_total_us=500_000, streams_live=3)
    known.supervisor_said(answer(kraken, child("binance/1", 12, trades=1_550), child("binance/2", 13)), 59.0)
    known.supervisor_said(answer(kraken, child("binance/1", 14, 1, trades=7), child("binance/2", 13)), 60.0)
    known.look(NOW_US, 60.0)
    said = minutes.summary(known.report, totals)
    assert said is not None
    # The third process of Binance begins at zero, and what it says is all new.
    assert said[0] == (
        "in the last minute: binance 1,507 trades, 2 candles, 1 repaired; "
        "kraken 15 trades, 2 candles, 3 of 4 streams live, 1 reconnect"
    )
    numbers = said[1]["kraken"]
    assert {name: numbers[name] for name in ("lag_ms", "missing_s", "backlog", "frames")} == {
        "lag_ms": 10.0, "missing_s": 65, "backlog": 4, "frames": 0,
    }  # fmt: skip
    again = minutes.summary(known.report, totals)
    assert again is not None
    assert again[0].startswith("in the last minute: binance 0 trades, 0 candles; kraken 0 trades")
    assert again[1]["kraken"]["lag_ms"] is None


def test_there_is_no_line_without_an_exchange() -> None:
    known = Knowledge(Totals())
    assert Minutes(known.totals).summary(known.report, known.totals) is None


def test_a_day_is_a_readable_number_of_lines_with_the_documented_fields(tmp_path: Path) -> None:
    """The minutes of two exchanges, one of which dies every hour; what else is told has room beside them."""
    documented = set(re.findall(r"`(\w+)`", README[README.index("| field | is |") : README.index("Exit codes:")]))
    totals = Totals()
    known, minutes = Knowledge(totals), Minutes(totals)
    setup_logging(file=tmp_path / "monitor.log", level="INFO", terminal=False)
    try:
        for minute in range(round(DAY_S / SUMMARY_S)):
            hour, trades = minute // 60, minute % 60 * 100
            known.supervisor_said(answer(child("kraken", 100 + hour, hour, trades=trades), child("binance", 12)), 0.0)
            known.look(NOW_US, 0.0)
            tell_minute(minutes, known)
    finally:
        shutdown_logging()
    lines = [json.loads(line) for line in (tmp_path / "monitor.log").read_text().splitlines()]
    assert len(lines) <= MOST_LINES * 3 / 4
    assert {field for line in lines for field in line} <= documented
    told = [of for line in lines for of in line["exchanges"].values()]
    assert len(told) == 2 * 1440
    assert {field for of in told for field in of} <= documented
    assert sum(line["exchanges"]["kraken"]["trades"] for line in lines) == 24 * 5900
