"""What a connection asks next, and when a subscription is asked again. Pure."""

import pytest

from ohlcvd.exchange import pacing
from ohlcvd.exchange.pacing import FlowWatch, refused_pause_s
from ohlcvd.exchange.subscriptions import Key, Request, Subscriptions

A, B, C = (Key(symbol, "trades") for symbol in "ABC")
A_CANDLES = Key("A", "candles")


def sent(subscriptions: Subscriptions, now_s: float = 0.0) -> list[tuple[int, Request]]:
    """Everything there is to send, sent."""
    found = []
    while (request := subscriptions.next()) is not None:
        number = subscriptions.number()
        subscriptions.sent(request, number, now_s)
        found.append((number, request))
    return found


def accept(subscriptions: Subscriptions, number: int) -> None:
    for key in list(subscriptions.answered(number, None, None)):
        subscriptions.accepted(key)


def test_nothing_is_sent_before_there_is_a_session_and_then_trades_come_first() -> None:
    subscriptions = Subscriptions(size=2)
    subscriptions.add([A_CANDLES, A, B, C])
    assert subscriptions.next() is None
    subscriptions.begin(0.0)
    assert [request for _, request in sent(subscriptions)] == [
        Request("subscribe", [A, B]),
        Request("subscribe", [C]),
        Request("subscribe", [A_CANDLES]),
    ]


def test_single_additions_go_together_but_overtake_no_removal() -> None:
    subscriptions = Subscriptions(size=10)
    subscriptions.begin(0.0)
    subscriptions.add([A])
    subscriptions.add([A_CANDLES])
    subscriptions.add([B])
    (first, _), (second, _) = requests = sent(subscriptions)
    assert [request for _, request in requests] == [Request("subscribe", [A, B]), Request("subscribe", [A_CANDLES])]
    accept(subscriptions, first)
    accept(subscriptions, second)
    subscriptions.remove([A])
    subscriptions.add([A])
    subscriptions.add([C])
    assert [request for _, request in sent(subscriptions)] == [
        Request("unsubscribe", [A]),
        Request("subscribe", [A, C]),
    ]


def test_what_was_not_asked_yet_is_not_taken_back_and_what_is_on_its_way_is() -> None:
    subscriptions = Subscriptions(size=1)
    subscriptions.begin(0.0)
    subscriptions.add([A, B])
    request = subscriptions.next()
    assert request is not None
    subscriptions.sent(request, 1, 0.0)
    subscriptions.remove([A, B])
    assert [one for _, one in sent(subscriptions)] == [Request("unsubscribe", [A])]
    assert list(subscriptions.answered(1, None, None)) == []
    assert not subscriptions.acknowledged
    subscriptions.begin(1.0)
    assert sent(subscriptions) == []


def test_one_that_is_refused_waits_longer_each_time_and_is_asked_by_itself() -> None:
    subscriptions = Subscriptions(size=10)
    subscriptions.add([A, B])
    subscriptions.begin(0.0)
    now_s, pauses = 0.0, []
    [(number, _)] = sent(subscriptions)
    for _ in range(10):
        assert A in list(subscriptions.answered(number, "A", None))
        pauses.append(subscriptions.refused(A, now_s, chance=1.0))
        subscriptions.retry(now_s + pauses[-1] - 0.01)
        assert subscriptions.next() is None
        now_s += pauses[-1]
        subscriptions.retry(now_s)
        [(number, request)] = sent(subscriptions, now_s)
        assert request == Request("subscribe", [A])
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    accept(subscriptions, number)
    assert subscriptions.refused(A, now_s, chance=1.0) == 2
    assert refused_pause_s(3, 0.0) == 6.0


def test_a_refusal_outlives_the_session() -> None:
    subscriptions = Subscriptions(size=10)
    subscriptions.add([A, B])
    subscriptions.begin(0.0)
    [(number, _)] = sent(subscriptions)
    list(subscriptions.answered(number, "A", None))
    subscriptions.refused(A, 0.0, chance=1.0)
    subscriptions.end()
    subscriptions.begin(1.0)
    assert [request for _, request in sent(subscriptions)] == [Request("subscribe", [B])]
    subscriptions.retry(2.0)
    assert [request for _, request in sent(subscriptions)] == [Request("subscribe", [A])]


def test_a_request_refused_as_a_whole_is_halved_until_the_culprit_stands_alone() -> None:
    subscriptions = Subscriptions(size=10)
    keys = [Key(str(number), "trades") for number in range(8)]
    subscriptions.add(keys)
    subscriptions.begin(0.0)
    alone: list[Key] = []
    for _ in range(20):
        for number, request in sent(subscriptions):
            answered = list(subscriptions.answered(number, None, None))
            assert answered == request.keys
            if keys[5] not in answered:
                for key in answered:
                    subscriptions.accepted(key)
            elif len(answered) > 1:
                subscriptions.halve(answered)
            else:
                alone += answered
    assert alone == [keys[5]]
    assert subscriptions.acknowledged == set(keys) - {keys[5]}


def test_renewing_takes_back_first() -> None:
    subscriptions = Subscriptions(size=10)
    subscriptions.add([A, B])
    subscriptions.begin(0.0)
    [(number, _)] = sent(subscriptions)
    accept(subscriptions, number)
    subscriptions.renew([A, C])
    assert [request for _, request in sent(subscriptions)] == [Request("unsubscribe", [A]), Request("subscribe", [A])]
    assert subscriptions.acknowledged == {B}


def flowing(gaps: int, gap_s: float) -> tuple[FlowWatch, float]:
    watch, now_s = FlowWatch(), 100.0
    for _ in range(gaps + 1):
        watch.data(now_s)
        now_s += gap_s
    return watch, now_s - gap_s


def test_a_subscription_is_suspected_by_its_own_usual_gaps() -> None:
    assert (pacing.FLOW_GAPS, pacing.FLOW_GAP_S, pacing.FLOW_MOMENTS) == (30.0, 1.0, 20)
    busy, last_s = flowing(50, 0.6)
    assert busy.silent_s(last_s + 30.0, 0.0) is None
    assert busy.silent_s(last_s + 31.0, 0.0) == pytest.approx(31.0)
    assert busy.silent_s(last_s + 31.0, last_s + 10.0) is None, "we did not read ourselves"
    quiet, last_s = flowing(30, 60.0)
    assert quiet.silent_s(last_s + 1_700.0, 0.0) is None
    assert quiet.silent_s(last_s + 1_900.0, 0.0) is not None
    unknown, last_s = flowing(10, 0.6)
    assert unknown.silent_s(last_s + 10_000.0, 0.0) is None
    assert FlowWatch().silent_s(1e6, 0.0) is None


def test_after_an_alarm_it_takes_twice_as_long_to_the_next() -> None:
    watch, last_s = flowing(50, 0.6)
    watch.alarmed()
    watch.resumed(last_s + 31.0)
    assert watch.silent_s(last_s + 31.0 + 59.0, 0.0) is None
    assert watch.silent_s(last_s + 31.0 + 61.0, 0.0) is not None


def test_a_burst_is_one_moment() -> None:
    watch = FlowWatch()
    for number in range(1000):
        watch.data(1.0 + number / 10_000)
    assert watch.silent_s(1e6, 0.0) is None
