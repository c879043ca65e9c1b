"""Beats: every line that is sent arrives as it was, and no line that arrives can hurt."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.supervisor.heartbeat import (
    LINE_BYTES,
    BadBeat,
    Beat,
    BeatHistory,
    BeatReader,
    HeartbeatSender,
    decode_beat,
    encode_beat,
)

beats = st.builds(
    Beat,
    st.sampled_from(["starting", "ready", "streaming", "draining"]),
    st.dictionaries(st.text(max_size=20), st.integers(-(2**63), 2**63), max_size=20),
    st.lists(st.sampled_from(["kraken", "binance/2"]), max_size=2).map(tuple),
)


@given(st.lists(beats, max_size=10), st.data())
def test_beats_arrive_whole_however_the_pipe_cuts_them(sent: list[Beat], data: st.DataObject) -> None:
    stream = b"".join(map(encode_beat, sent))
    reader, found = BeatReader(), list[Beat]()
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert (found, reader.bad) == (sent, 0)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_beat_or_a_bad_beat(line: bytes) -> None:
    try:
        decode_beat(line)
    except BadBeat:
        pass


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"state":"dead","counters":{}}',
        b'{"state":["ready"],"counters":{}}',
        b'{"state":"ready"}',
        b'{"state":"ready","counters":{"a":true}}',
        b'{"state":"ready","counters":{"a":1.5}}',
        b'{"state":"ready","counters":{},"stale":"kraken"}',
        b'{"state":"ready","counters":{},"stale":[1]}',
        b"[" * 100_000,
    ],
)
def test_bad_beats(line: bytes) -> None:
    with pytest.raises(BadBeat):
        decode_beat(line)


def test_a_line_without_an_end_is_thrown_away_and_the_next_one_counts() -> None:
    reader = BeatReader()
    for _ in range(100):
        assert reader.feed(b"x" * 1000) == []
    assert reader.bad == 20
    reader.feed(b"\n")
    assert reader.feed(encode_beat(Beat("ready"))) == [Beat("ready")]


def test_a_beat_that_comes_again_is_a_beat_and_one_that_was_bad_stays_bad() -> None:
    reader = BeatReader()
    one, other = encode_beat(Beat("ready", {"frames": 1})), encode_beat(Beat("ready", {"frames": 2}))
    found = reader.feed(one + one + other + b"{}\n" + b"{}\n" + other)
    assert [beat.counters["frames"] for beat in found] == [1, 1, 2, 2]
    assert reader.bad == 2
    history = BeatHistory(100.0)
    for second, beat in enumerate(found):
        history.observe(beat, 101.0 + second)
    assert history.unchanged_s("frames", 110.0) == 110.0 - 103.0


def test_a_beat_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        encode_beat(Beat("ready", {f"counter_{number}": number for number in range(400)}))


def test_sender_never_blocks_and_never_sends_half_a_line() -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    sender = HeartbeatSender(lambda line: os.write(writer, line))
    beat = Beat("streaming", {f"counter_{number}": number for number in range(150)})
    sent = 0
    while sender.send(beat):
        sent += 1
    assert sender.missed == 1
    reading = BeatReader()
    found = list[Beat]()
    while True:
        try:
            found += reading.feed(os.read(reader, LINE_BYTES))
        except BlockingIOError:
            break
    assert found == [beat] * sent
    os.close(reader)
    assert not sender.send(beat)  # nobody listens any more
    os.close(writer)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        sender.send(beat)


def test_history_tells_what_has_changed_since() -> None:
    history = BeatHistory(100.0)
    assert history.unchanged_s("commits", 110.0) == 10.0
    history.observe(Beat("streaming", {"commits": 0, "frames": 5}), 101.0)
    assert not history.changed_since("commits", 0.0)
    assert history.changed_since("frames", 101.0)
    history.observe(Beat("streaming", {"commits": 1, "frames": 5}), 102.0)
    history.observe(Beat("streaming", {"commits": 1, "frames": 6}), 103.0)
    assert history.changed_since("commits", 102.0)
    assert not history.changed_since("commits", 102.5)
    assert history.unchanged_s("commits", 110.0) == 8.0
    assert history.beat == Beat("streaming", {"commits": 1, "frames": 6})
