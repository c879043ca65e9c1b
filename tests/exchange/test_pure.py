"""URLs, clock, exact numbers, backoff, silence, ids, rejects: everything that needs no connection."""

import asyncio
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.exchange import urls
from ohlcvd.exchange.client import Gate
from ohlcvd.exchange.clock import VenueClock
from ohlcvd.exchange.exact import decimal_seconds_us, decode, digits, iso_us, whole
from ohlcvd.exchange.generic import in_order
from ohlcvd.exchange.identity import IdMaker
from ohlcvd.exchange.incoming import Incoming
from ohlcvd.exchange.pacing import LONGEST_PAUSE_S, QUICK_PAUSE_S, Backoff, SilenceWatch
from ohlcvd.exchange.rejects import Rejects, readable
from ohlcvd.exchange.sink import StreamCounters
from ohlcvd.exchange.venue import Silence
from ohlcvd.log import get_component_logger
from ohlcvd.market import Trade
from tests.exchange.support import Recorder

NOW_US = 1_800_000_000_000_000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("wss://ws.kraken.com/v2", "ws://h:1/x/v2"),
        ("wss://stream.binance.com:9443/ws", "ws://h:1/x/ws"),
        ("wss://ws.okx.com:8443/ws/v5/public", "ws://h:1/x/ws/v5/public"),
        ("https://api.{hostname}", "http://h:2/y"),
        ("https://{hostname}/api/v3?x=1", "http://h:2/y/api/v3?x=1"),
        ("no url", "no url"),
        (None, None),
    ],
)
def test_scheme_host_and_port_are_replaced_and_the_path_follows(before: str | None, after: str | None) -> None:
    tree = {"public": {"spot": [before]}, "n": 1}
    assert urls.moved(tree, "http://h:2/y/", "ws://h:1/x") == {"public": {"spot": [after]}, "n": 1}
    assert urls.moved(tree, None, None) == tree


@given(st.lists(st.tuples(st.integers(0, 10**15), st.floats(0, 10)), max_size=20))
def test_venue_clock_never_goes_back_and_is_never_before_an_observation(steps: list[tuple[int, float]]) -> None:
    clock, mono_s, last_us = VenueClock(), 0.0, -1
    assert clock.now_us(0.0) is None
    for venue_us, pause_s in steps:
        mono_s += pause_s
        clock.observe(venue_us, mono_s)
        now_us = clock.now_us(mono_s)
        assert now_us is not None
        assert now_us >= max(venue_us, last_us)
        last_us = now_us


def test_venue_clock_goes_on_by_itself() -> None:
    clock = VenueClock()
    clock.observe(1_000_000, 50.0)
    assert clock.now_us(52.5) == 3_500_000


def test_numbers_keep_every_digit() -> None:
    row = decode('{"a": 105433.60000, "b": 1.50e-7, "c": 12345678901234567890, "d": 0.12345678901234567890}')
    assert [digits(row[key]) for key in "abcd"] == [
        "105433.60000", "0.000000150", "12345678901234567890", "0.12345678901234567890"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="NaN"):
        decode('{"a": NaN}')


@pytest.mark.parametrize("bad", [None, True, 1.5, [], "", "nan", "-1", "1_0"])
def test_what_is_no_number_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="not a decimal"):
        digits(bad)


@pytest.mark.parametrize("bad", [None, True, 1.5, "", "-1", "1.0", "٣"])
def test_what_is_no_whole_number_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        whole(bad)


def test_times_are_floored_to_microseconds() -> None:
    assert iso_us("2025-11-10T17:23:53.971744Z") == 1762795433971744
    assert iso_us("2025-11-10T17:23:53.971744999Z") == 1762795433971744
    assert iso_us("2025-11-10T17:24:00.000000000Z") == 1762795440000000
    assert decimal_seconds_us("1762795433.9717449") == 1762795433971744
    assert decimal_seconds_us("1762795433.97") == 1762795433970000
    assert decimal_seconds_us(1762795433) == 1762795433000000
    for bad in ("2025-11-10T17:23:53", "yesterday", None, 5):
        with pytest.raises(ValueError):
            iso_us(bad)


def test_first_reconnect_is_at_once_and_later_ones_are_bounded() -> None:
    backoff = Backoff()
    backoff.ended(was_live=True, lived_s=60, now_s=0)
    assert backoff.pause_s(0.999) == 0
    assert [round(backoff.pause_s(0.5, together), 3) for together in (1, 2, 41)] == [0, 0.05, 2.0], "one by one"
    for _ in range(20):
        backoff.ended(was_live=True, lived_s=1, now_s=60)
        assert backoff.pause_s(0.999) <= 1
    for _ in range(40):
        backoff.ended(was_live=False, lived_s=0, now_s=3600)
    assert 29 < backoff.pause_s(0.999) <= 30
    assert backoff.pause_s(0.0) == 0
    backoff.ended(was_live=True, lived_s=10, now_s=3610)
    assert backoff.pause_s(0.999) == 0


def test_an_outage_of_seconds_is_over_seconds_after_its_end_and_a_long_one_costs_few_attempts() -> None:
    assert (QUICK_PAUSE_S, LONGEST_PAUSE_S) == (5.0, 30.0)
    backoff = Backoff()
    backoff.ended(was_live=True, lived_s=60, now_s=0)
    now_s, attempts = 0.0, 0
    while now_s < 600:
        backoff.ended(was_live=False, lived_s=0, now_s=now_s)
        assert backoff.pause_s(0.999) <= max(QUICK_PAUSE_S, now_s / 20)
        assert backoff.pause_s(0.999, together=3) <= 3 * max(QUICK_PAUSE_S, now_s / 20)
        now_s, attempts = now_s + backoff.pause_s(0.5), attempts + 1
    assert 80 <= attempts <= 130, "Kraken's address allows some 150 in ten minutes"
    backoff.ended(was_live=False, lived_s=0, now_s=7200)
    assert 29 < backoff.pause_s(0.999, together=50) <= 30


def test_heartbeat_venue_is_dead_after_six_seconds_without_data_although_pongs_come() -> None:
    watch = SilenceWatch(Silence(data_s=6, any_s=6), 0.0)
    assert watch.fault(5.0, 10, 5.0, 0.0) is None
    assert watch.fault(10.9, 10, 10.5, 0.0) is None
    assert watch.fault(11.1, 10, 11.0, 0.0) == "no data received for 6.1 s"


def test_silence_while_we_do_not_read_is_no_fault() -> None:
    watch = SilenceWatch(Silence(data_s=6, any_s=6), 0.0)
    assert watch.fault(100.0, 0, 0.0, 99.0) is None
    assert watch.fault(105.5, 0, 0.0, 99.0) == "nothing received for 6.5 s"


def test_limit_follows_the_flow() -> None:
    rule = Silence(data_s=7, any_s=8, quiet_s=75)
    busy, quiet = SilenceWatch(rule, 0.0), SilenceWatch(rule, 0.0)
    for tick in range(1, 401):
        now_s = tick / 2
        assert busy.fault(now_s, tick * 10, now_s, 0.0) is None
        assert quiet.fault(now_s, 1000 * (tick // 40), now_s, 0.0) is None
    assert busy.fault(207.0, 4000, 207.0, 0.0) is None
    assert busy.fault(208.0, 4000, 208.0, 0.0) == "no data received for 8.0 s"
    assert quiet.fault(275.0, 10_000, 275.0, 0.0) is None
    assert quiet.fault(276.0, 10_000, 276.0, 0.0) == "no data received for 76.0 s"


def test_a_short_flow_is_known_and_one_burst_is_none() -> None:
    rule = Silence(data_s=7, any_s=1000, quiet_s=75)
    short, burst = SilenceWatch(rule, 0.0), SilenceWatch(rule, 0.0)
    for tick in range(1, 8):
        assert short.fault(tick / 2, tick, tick / 2, 0.0) is None
    assert short.fault(12.0, 7, 12.0, 0.0) == "no data received for 8.5 s"
    assert burst.fault(0.5, 5000, 0.5, 0.0) is None
    assert burst.fault(75.0, 5000, 75.0, 0.0) is None
    assert burst.fault(76.0, 5000, 76.0, 0.0) == "no data received for 75.5 s"


async def test_a_gate_that_is_shut_again_by_the_first_who_passes_holds_the_others() -> None:
    gate, passed = Gate(), list[int]()

    async def pass_and_shut(number: int) -> None:
        await gate.wait()
        passed.append(number)
        gate.shut()

    gate.shut()
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(pass_and_shut(number))
        for count in range(3):
            for _ in range(5):
                await asyncio.sleep(0)
            assert passed == [*range(count)], "one at each opening, those who waited longest first"
            gate.open()


def test_trades_without_id_get_the_same_ids_again() -> None:
    rows = [(1, "5", "1", "buy"), (1, "5", "1", "buy"), (1, "6", "1", "buy"), (2, "5", "1", "buy")]
    first, again = IdMaker(), IdMaker()
    ids = [first.id_of(*row) for row in rows]
    assert ids == [again.id_of(*row) for row in rows]
    assert ids == ["1-5-1-buy-1", "1-5-1-buy-2", "1-6-1-buy-1", "2-5-1-buy-1"]


def test_whole_number_ids_order_as_numbers() -> None:
    trades = [Trade(1, str(number), "1", "1", "buy") for number in (1000, 1001, 998, 999)]
    assert [trade.id for trade in in_order(trades)] == ["998", "999", "1000", "1001"]


def test_each_kind_of_fault_is_logged_once_with_the_text_cut_and_escaped(caplog: pytest.LogCaptureFixture) -> None:
    counters = StreamCounters()
    rejects = Rejects("kraken", counters, get_component_logger("ohlcvd.exchange.kraken"))
    with caplog.at_level(logging.ERROR):
        for number in range(100):
            rejects.reject("trade", f"price is '-{number}', not a positive decimal number", "\x1b[31m" + "x" * 9999)
            rejects.reject("frame", "ValueError no JSON", "\x00", ValueError("no JSON"))
    assert counters.rejected == 200
    assert len(caplog.records) == 2
    assert "kraken sent a trade that cannot be stored: price is '-0'" in caplog.text
    raw = readable("\x1b[31m" + "x" * 9999)
    assert raw.startswith("\\x1b[31mxxx")
    assert len(raw) < 510
    assert json.dumps(readable("a\nb\u202e")) == '"a\\\\nb\\\\u202e"'


def test_trades_of_many_markets_are_checked_together_and_one_market_spoils_no_other() -> None:
    recorder, counters, clock = Recorder(), StreamCounters(), VenueClock()
    rejects = Rejects("kraken", counters, get_component_logger("ohlcvd.test"))
    incoming = Incoming({"a": "A/B", "c": "C/D"}, recorder, clock, rejects, lambda: NOW_US)
    first, second = Trade(NOW_US, "1", "5", "6", "buy"), Trade(NOW_US + 1, "2", "5", "6", "sell")
    assert not [*incoming.deliver_live({"a": [first], "c": [first, second]})]
    assert recorder.trades == {"A/B": [first], "C/D": [first, second]}
    assert clock.now_us(0.0) == NOW_US + 1
    wrong = second._replace(price="0")
    lost = [*incoming.deliver_live({"a": [second], "x": [first], "c": [wrong, second]})]
    assert [(wire, one.kind, one.noun) for wire, one in lost] == [("c", "trades", "trade")]
    assert recorder.trades == {"A/B": [first, second], "C/D": [first, second, second]}
    assert not [*incoming.deliver_live({"x": [first], "a": [first]})]
    assert recorder.trades["A/B"] == [first, second, first]
    assert counters.rejected == 3  # the wrong one, and an unknown market twice
