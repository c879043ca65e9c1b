"""Heartbeats: one line of JSON a second from a child to its parent. Pure: no clock, no I/O.

A beat carries a state and counters, never a time: the parent asks what has *changed since*, by its own monotonic clock,
so a clock set back or forward changes nothing, and while nothing is new the same line comes again. A line has at most
4096 bytes (PIPE_BUF), therefore a non-blocking pipe takes it whole or not at all, and beats are never interleaved or
cut. Beats must be sent by a task on the loop that does the work: a thread would go on beating while the loop is dead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import orjson

BeatState = Literal["starting", "ready", "streaming", "draining"]

LINE_BYTES = 4096
_STATES: tuple[str, ...] = get_args(BeatState)


class BadBeat(ValueError):
    """A line on a heartbeat pipe that is not a beat."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a child says of itself. Counters only grow while the child lives, except levels: `backlog`, `lag_us`.

    `stale` is the monitor's word about its siblings: those whose beat in Redis is stale while Redis answers.
    """

    state: BeatState
    counters: Mapping[str, int] = field(default_factory=dict)
    stale: tuple[str, ...] = ()


def encode_beat(beat: Beat) -> bytes:
    """One line. ValueError if it would not fit: the caller chose too many counters."""
    document: dict[str, object] = {"state": beat.state, "counters": dict(beat.counters)}
    if beat.stale:
        document["stale"] = beat.stale
    line = orjson.dumps(document) + b"\n"
    if len(line) > LINE_BYTES:
        raise ValueError(f"a beat of {len(line)} bytes with {len(beat.counters)} counters; at most {LINE_BYTES} fit")
    return line


def decode_beat(line: bytes) -> Beat:
    """The beat of one line, or BadBeat: a child may be sick, its parent must not become so."""
    try:
        document = orjson.loads(line)
    except ValueError as error:
        raise BadBeat(f"not JSON: {line[:80]!r}") from error
    if not isinstance(document, dict):
        raise BadBeat(f"not an object: {line[:80]!r}")
    state, counters = document.get("state"), document.get("counters")
    if state not in _STATES:
        raise BadBeat(f"state is {state!r:.80}, not one of {', '.join(_STATES)}")
    if not isinstance(counters, dict) or not all(type(value) is int for value in counters.values()):
        raise BadBeat(f"counters are not whole numbers: {line[:80]!r}")
    stale = document.get("stale", [])
    if not isinstance(stale, list) or not all(isinstance(name, str) for name in stale):
        raise BadBeat(f"stale is no list of names: {line[:80]!r}")
    return Beat(state, counters, tuple(stale))


class HeartbeatSender:
    """The child's end. `write` is the non-blocking write of a pipe: it takes a whole line or raises BlockingIOError."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write = write
        self._beat: Beat | None = None
        self._line = b""
        self.missed = 0

    def send(self, beat: Beat) -> bool:
        """False when the parent did not take it (pipe full or closed): the next beat says everything again."""
        if beat is not self._beat:
            self._beat, self._line = beat, encode_beat(beat)
        try:
            self._write(self._line)
        except (BlockingIOError, BrokenPipeError):
            self.missed += 1
            return False
        return True


class BeatReader:
    """Puts the lines of a pipe together again. Bounded: a line that does not end is thrown away and counted."""

    def __init__(self) -> None:
        self._rest = b""
        self._last: tuple[bytes, Beat] | None = None
        self.bad = 0
        self.last_fault = ""

    def feed(self, data: bytes) -> list[Beat]:
        """The beats that `data` completes, oldest first."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) >= LINE_BYTES:
            self._count(f"a line of more than {LINE_BYTES} bytes")
            self._rest = b""
        beats = []
        for line in lines:
            try:
                if self._last is None or line != self._last[0]:
                    self._last = line, decode_beat(line)
                beats.append(self._last[1])
            except BadBeat as error:
                self._count(str(error))
        return beats

    def _count(self, fault: str) -> None:
        self.bad += 1
        self.last_fault = fault


class BeatHistory:
    """The last beat and, for each counter, when it last changed. `now` is the parent's monotonic clock."""

    def __init__(self, now: float) -> None:
        self.beat: Beat | None = None
        self.changed_at: dict[str, float] = {}
        self._born = now

    def observe(self, beat: Beat, now: float) -> None:
        """Record a beat. The first sight of a counter counts as a change only if it is not zero."""
        if beat is self.beat:
            return
        before: Mapping[str, int] = self.beat.counters if self.beat else {}
        for name, value in beat.counters.items():
            if value != before.get(name, 0):
                self.changed_at[name] = now
        self.beat = beat

    def changed_since(self, name: str, then: float) -> bool:
        """Whether the counter has moved at or after `then`."""
        moved = self.changed_at.get(name)
        return moved is not None and moved >= then

    def unchanged_s(self, name: str, now: float) -> float:
        """For how long the counter has not moved; since the process began if it never has."""
        return now - self.changed_at.get(name, self._born)
