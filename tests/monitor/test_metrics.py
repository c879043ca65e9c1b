"""What Prometheus is told: names that alerts and dashboard use, series that stay, counters that never fall."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ohlcvd.monitor.knowledge import Knowledge
from ohlcvd.monitor.metrics import COUNTERS
from ohlcvd.monitor.totals import Totals
from tests.monitor.documents import answer, child, market
from tests.monitor.promql import Samples, alerts, evaluate, names_in, parsed

ETC = Path(__file__).parents[2] / "etc"
ALERTS = alerts(ETC / "prometheus" / "alerts.yml")
NOW_US = 1_767_323_045_000_000
MARKETS = {"kraken": {"BTC/USD": market(), "ETH/USD": market(last_trade_us=None)}, "binance": {"BTC/USDT": market()}}


def knowledge(totals: Totals | None = None) -> Knowledge:
    known = Knowledge(totals or Totals())
    known.supervisor_said(answer(child("kraken"), child("binance", 12)), 0.0)
    known.redis_said({}, MARKETS)
    known.weighed({7: 26 << 20, 11: 32 << 20, 12: 36 << 20, 99: 24 << 20}, 99)
    known.look(NOW_US, 1.0)
    return known


def scraped(known: Knowledge) -> Samples:
    text, content_type = known.metrics("text/plain")
    assert content_type.startswith("text/plain")
    return parsed(text.decode())


def test_every_name_that_alerts_and_dashboard_use_is_exported() -> None:
    exported = set(scraped(knowledge()))
    used = {name for expression in ALERTS.values() for name in names_in(expression)}
    dashboard = json.loads((ETC / "grafana" / "ohlcvd.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [variable["query"] for variable in dashboard["templating"]["list"]]
    drawn = {name for expression in expressions for name in names_in(expression)}
    assert used - exported == set()
    assert drawn - exported == set()
    assert exported - drawn - used == {"ohlcvd_duplicate_trades_total", "ohlcvd_commits_total"}


def test_names_follow_the_conventions() -> None:
    text = knowledge().metrics("")[0].decode()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        assert name.startswith("ohlcvd_")
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(ms|us|minutes|kb|mb)\b", name), name
    labels = {name for series in scraped(knowledge()).values() for labels in series for name, _ in labels}
    assert labels == {"exchange", "symbol"}


def test_values() -> None:
    samples = scraped(knowledge())
    kraken, btc = (("exchange", "kraken"),), (("exchange", "kraken"), ("symbol", "BTC/USD"))
    assert samples["ohlcvd_trades_stored_total"][kraken] == 50
    assert samples["ohlcvd_commit_lag_seconds_sum"][kraken] == 0.4
    assert samples["ohlcvd_commit_lag_seconds_count"][kraken] == 50
    assert samples["ohlcvd_commit_lag_max_seconds"][kraken] == 0.041
    assert samples["ohlcvd_memory_bytes"][kraken] == 32 << 20
    assert samples["ohlcvd_monitor_memory_bytes"][()] == 24 << 20
    assert samples["ohlcvd_exchange_state"][kraken] == 3
    assert samples["ohlcvd_last_trade_timestamp_seconds"] == {
        btc: 1_767_323_045,
        (("exchange", "binance"), ("symbol", "BTC/USDT")): 1_767_323_045,
    }


def test_shards_are_one_series() -> None:
    known = Knowledge(Totals())
    known.supervisor_said(answer(child("binance/1"), child("binance/2", None, state="backing_off")), 0.0)
    known.look(NOW_US, 1.0)
    samples = scraped(known)
    binance = (("exchange", "binance"),)
    assert samples["ohlcvd_exchange_up"] == {binance: 0}
    assert samples["ohlcvd_exchange_state"] == {binance: 0}
    assert samples["ohlcvd_trades_stored_total"] == {binance: 50}


def test_through_1000_restarts_no_counter_falls_and_the_series_stay_the_same() -> None:
    known, before, trades, supervisor = knowledge(), scraped(knowledge()), 50, 7
    series = names_of(before)
    quiet = {"kraken": {"BTC/USD": market(last_trade_us=None), "ETH/USD": market(last_trade_us=None)}}

    def tell(row: dict[str, Any], restart: int) -> None:
        known.supervisor_said(answer(row, child("binance", 12), pid=supervisor), restart)
        known.redis_said({}, quiet)
        known.weighed(dict.fromkeys(known.pids(), 1 << 20) | {99: 1 << 20}, 99)
        known.look(NOW_US + restart, restart)

    for restart in range(1, 1001):
        # It dies, and comes back with counters at zero; at times the supervisor and the monitor begin anew as well.
        supervisor += restart % 250 == 0
        if restart % 100 == 0:
            known = knowledge(Totals(json.loads(json.dumps(known.totals.saved()))))
            trades += 50  # of the process that `knowledge` tells of
        tell(child("kraken", None, restart % 250, "backing_off"), restart)
        if restart % 10 == 5:
            assert names_of(scraped(known)) == series
        grown = restart % 7 * 10
        trades += grown
        tell(child("kraken", 100 + restart, restart % 250, "streaming", trades=grown), restart)
        if restart % 10 == 0:
            samples = scraped(known)
            assert names_of(samples) == series
            for counter in (f"ohlcvd_{name}_total" for name, _ in COUNTERS.values()):
                assert all(samples[counter][labels] >= value for labels, value in before[counter].items()), counter
            before = samples
    assert before["ohlcvd_trades_stored_total"][(("exchange", "kraken"),)] == trades
    assert len(series) < 80


def names_of(samples: Samples) -> set[tuple[str, object]]:
    return {(name, labels) for name, values in samples.items() for labels in values}


@pytest.mark.parametrize(
    ("alert", "change"),
    [
        ("OhlcvdSupervisorDown", "silent supervisor"),
        ("OhlcvdExchangeDown", "dead child"),
        ("OhlcvdMarketStale", "cut off"),
        ("OhlcvdMarketNotCollecting", "cut off"),
        ("OhlcvdNotStored", "database away"),
        ("OhlcvdDatabaseDown", "database away"),
        ("OhlcvdRedisDown", "redis away"),
        ("OhlcvdRestarting", "many restarts"),
        ("OhlcvdSlowCommits", "slow commits"),
        ("OhlcvdHistoryMissing", "history missing"),
        ("OhlcvdCandlesDiffer", "differences"),
        ("OhlcvdRowsQuarantined", "refused rows"),
    ],
)
def test_each_alert_is_silent_while_all_is_well_and_speaks_for_what_it_is_made_for(alert: str, change: str) -> None:
    known, now_s = knowledge(), NOW_US / 1e6
    well = scraped(known)
    assert [name for name in ALERTS if evaluate(ALERTS[name], well, now_s, well)] == []
    late_s, now = now_s, 1.0
    if change == "silent supervisor":
        known.supervisor_silent("timed out")
        now = 60.0
    elif change == "dead child":
        known.supervisor_said(answer(child("kraken", None, 1, "backing_off"), child("binance", 12)), now)
    elif change == "cut off":
        known.supervisor_said(answer(child("kraken", state="ready", streams_live=0), child("binance", 12)), now)
        late_s += 31
    elif change == "database away":
        known.supervisor_said(answer(child("kraken", database_up=0), child("binance", 12)), now)
        late_s += 121
    elif change == "redis away":
        known.redis_silent("no answer")
    elif change == "history missing":
        known.redis_said({}, {"kraken": {"BTC/USD": market(missing_s=60)}})
    else:
        counters = {"slow commits": "lag_max_us", "differences": "differences", "refused rows": "quarantined"}
        grown = {counters[change]: 6_000_000} if change in counters else {}
        restarts = 6 if change == "many restarts" else 0
        known.supervisor_said(answer(child("kraken", 11, restarts, "streaming", **grown), child("binance", 12)), now)
    known.look(NOW_US, now)
    found = evaluate(ALERTS[alert], scraped(known), late_s, well)
    assert found
    if change not in ("silent supervisor", "redis away"):
        assert any(("exchange", "kraken") in labels for labels in found)


def test_what_was_known_of_a_market_outlives_its_record_but_not_its_exchange() -> None:
    known = knowledge()
    known.redis_said({}, {})
    known.supervisor_said(answer(child("kraken", None, 1, "backing_off"), child("binance", 12)), 1.0)
    known.look(NOW_US, 1.0)
    collecting = scraped(known)["ohlcvd_market_collecting"]
    assert {labels[1][1]: value for labels, value in collecting.items()} == {"BTC/USD": 0, "ETH/USD": 0, "BTC/USDT": 1}
    known.supervisor_said(answer(child("binance", 12)), 2.0)
    known.look(NOW_US, 2.0)
    assert {labels[1][1] for labels in scraped(known)["ohlcvd_market_collecting"]} == {"BTC/USDT"}


def test_a_symbol_that_no_exchange_lists_is_known_when_all_have_spoken() -> None:
    known = Knowledge(Totals())
    assert known.listed_nowhere() is None
    known.supervisor_said(answer(child("kraken"), child("binance", 12), child("monitor", 13)), 0.0)
    known.redis_said({}, {"kraken": {"BTC/USD": market(), "X/USD": {"unlisted": True}, "BTC/USDT": {"unlisted": True}}})
    assert known.listed_nowhere() is None
    known.redis_said({}, {"binance": {"BTC/USDT": market(), "X/USD": {"unlisted": True}}})
    assert known.listed_nowhere() == ["X/USD"]
