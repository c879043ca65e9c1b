"""What is not well is named once, with since when, why, and what is done about it."""

from typing import Any

from ohlcvd.problems import Idle, Problem
from ohlcvd.supervisor.lock import LockState
from ohlcvd.supervisor.report import StatusReport, report_of
from tests.monitor.documents import answer, child, market

NOW_US = 1_767_323_045_000_000  # 2026-01-02T03:04:05Z
SINCE = "2026-01-02T03:04:05.000Z"
RUNNING = LockState(held=True, left_over=False, holder=None)
TROUBLE = {"reason": "NetworkError: closed", "connections": 1, "since_us": NOW_US, "retry_us": NOW_US + 7_000_000}


def report(
    *children: dict[str, Any], trouble: str | None = None, **markets: dict[str, dict[str, object]]
) -> StatusReport:
    beats = {trouble: {"trouble": TROUBLE}} if trouble else {}
    return report_of(RUNNING, answer(*children), markets, [], beats=beats, now_us=NOW_US)


def test_all_is_well() -> None:
    made = report(child("kraken"), kraken={"BTC/USD": market()})
    assert (made.problems, made.not_collecting) == ((), ())
    assert made.as_dict()["healthy"] is True


def test_an_exchange_that_is_cut_off_is_one_problem_and_all_its_markets_are_idle() -> None:
    down = market(collecting=False, down_reason="trades: NetworkError: closed", down_since_us=NOW_US)
    made = report(
        child("kraken", state="ready", streams_live=0), trouble="kraken", kraken={"BTC/USD": down, "ETH/USD": market()}
    )
    again = "2026-01-02T03:04:12.000Z"
    assert made.problems == (Problem("kraken", "cut off", SINCE, "closed", "connecting again", again),)
    assert made.not_collecting == (
        Idle("kraken", "BTC/USD", SINCE, "trades: closed"),
        Idle("kraken", "ETH/USD", SINCE, "closed"),  # said so before it was cut off
    )
    assert made.as_dict()["healthy"] is False


def test_a_part_that_is_cut_off() -> None:
    down = market(collecting=False, refused="no such market", down_reason="refused: no such market")
    made = report(child("kraken", streams_live=3), trouble="kraken", kraken={"BTC/USD": down, "ETH/USD": market()})
    assert [(problem.subject, problem.what) for problem in made.problems] == [
        ("kraken", "3 of 4 streams live"),
        ("kraken BTC/USD", "not collected"),
    ]
    assert [one.symbol for one in made.not_collecting] == ["BTC/USD"]


def test_a_process_that_is_not_there() -> None:
    dead = child("kraken", None, 3, "backing_off")
    made = report(dead, child("okx", None, 0, "parked"), kraken={"BTC/USD": market()})
    assert made.problems[0] == Problem(
        "kraken", "backing off", SINCE, "killed by SIGKILL", "it is started again", "2026-01-02T03:04:06.500Z"
    )
    assert made.problems[1].action == "it waits for a changed configuration: ohlcvd reload"
    why = "the process of kraken is backing off, last end: killed by SIGKILL"
    assert made.not_collecting[0] == Idle("kraken", "BTC/USD", SINCE, why)
    assert (made.not_collecting[1].exchange, made.not_collecting[1].symbol) == ("okx", None)


def test_what_a_child_waits_for_before_it_collects() -> None:
    reasons = [
        report(child("kraken", state="ready", streams=0, streams_live=0, **more)).problems[0].reason
        for more in ({"database_up": 0}, {})
    ]
    assert reasons == ["postgresql is away", "not connected yet"]
    assert report(child("kraken", streams_live=1)).not_collecting[0].reason == "not all streams are live"


def test_a_child_without_a_symbol_of_its_own_is_well() -> None:
    made = report(child("kraken/1"), child("kraken/2", streams=0, streams_live=0), kraken={"BTC/USD": market()})
    assert (made.problems, made.not_collecting) == ((), ())


def test_services_that_are_away() -> None:
    made = report(
        child("kraken", database_up=0, database_away_s=5, backlog=7, spool_bytes=900, redis_up=0),
        child("okx", database_up=0),
    )
    assert [(problem.subject, problem.what, problem.since) for problem in made.problems] == [
        ("postgresql", "away for kraken, okx", "2026-01-02T03:04:00.000Z"),
        ("redis", "away for kraken", None),
    ]
    assert made.problems[0].action == "11 rows wait, 900 bytes of them on disk, tried again until it answers"


def test_a_child_that_is_silent_and_candles_that_differ() -> None:
    silent = {**child("kraken"), "beat_age_s": 9.0}
    made = report(silent, kraken={"BTC/USD": market(differences=2)})
    assert [(problem.subject, problem.what, problem.since) for problem in made.problems] == [
        ("kraken", "no heartbeat", "2026-01-02T03:03:56.000Z"),
        ("kraken BTC/USD", "2 of 57 candles differ from their trades", None),
    ]


def test_a_server_that_is_not_ready() -> None:
    server = {"name": "postgres", "pid": None, "state": "backing_off", "since": SINCE, "last_exit": "code 1"}
    document = {**answer(child("kraken")), "servers": [server]}
    made = report_of(RUNNING, document, {}, [], now_us=NOW_US)
    assert Problem("postgres", "backing off", SINCE, "code 1", "it is started again") in made.problems


def test_without_the_supervisor_redis_says_what_it_can() -> None:
    beats: dict[str, dict[str, object]] = {"kraken": {"state": "streaming", "pid": 5, "streams": 2, "streams_live": 2}}
    made = report_of(RUNNING, None, {"kraken": {"BTC/USD": market()}}, ["no answer"], beats=beats, now_us=NOW_US)
    assert (made.state, made.exit_code, made.notes) == ("unknown", 4, ("no answer",))
    assert [(one.name, one.pid, one.state) for one in made.children] == [("kraken", 5, "streaming")]
    assert made.not_collecting == ()
