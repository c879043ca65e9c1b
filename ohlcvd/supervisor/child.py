"""A forked child: its specification, its heartbeats, what it left behind when it died."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from ohlcvd.supervisor.fork import STACKS_SIGNAL, Forked, Main, fork_child
from ohlcvd.supervisor.heartbeat import Beat, BeatHistory, BeatReader
from ohlcvd.supervisor.member import Member, log
from ohlcvd.supervisor.process import ExitStatus
from ohlcvd.supervisor.restart import COMMITS_MOVING_S, Chance
from ohlcvd.supervisor.states import Event, Limits, settle

_READ_BYTES = 65536  # a pipe holds no more
_STACKS_BYTES = 65536


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to fork. `name` is `kraken` or `binance/2`; `main` runs in the child and returns its exit code."""

    name: str
    main: Main


class Child(Member):
    """The parent's view of one forked child."""

    kind = "child"

    def __init__(self, spec: ChildSpec, limits: Limits, chance: Chance) -> None:
        super().__init__(spec.name, limits, chance)
        self.spec = spec
        self.history = BeatHistory(0.0)
        self._reader = BeatReader()
        self._forked: Forked | None = None

    @property
    def beats(self) -> int | None:
        """The heartbeat pipe, while there is a process."""
        return self._forked.beats if self._forked else None

    def launch(self, forget_parent: Callable[[], None], now: float) -> None:
        """Fork. OSError or ForkRefused if that cannot be done now."""
        self._forked = fork_child(self.name, self.spec.main, forget_parent)
        self.process = self._forked.process
        self._reader = BeatReader()
        self.history = BeatHistory(now)

    def read_beats(self, now: float) -> bool:
        """Take what is in the pipe. False when the child has closed its end."""
        if self._forked is None:
            return False
        try:
            data = os.read(self._forked.beats, _READ_BYTES)
        except BlockingIOError:
            return True
        bad = self._reader.bad
        for beat in self._reader.feed(data):
            self._observe(beat, now)
        if self._reader.bad > bad == 0:
            log.warning("%s sent a bad beat: %s; ignored", self.name, self._reader.last_fault, **self._fields())
        return bool(data)

    def _observe(self, beat: Beat, now: float) -> None:
        self.history.observe(beat, now)
        self.deliver(Event(f"beat_{beat.state}"), now)
        moving = self.history.changed_since("commits", now - COMMITS_MOVING_S)
        settled = settle(self.life, now, moving)
        if settled is not self.life:
            log.info("%s is stable again; %d failures are forgotten", self.name, self.life.failures, **self._fields())
            self.life = settled

    def request_stacks(self) -> None:
        """faulthandler answers from the signal handler itself, also when the loop or the interpreter is blocked."""
        self.signal(STACKS_SIGNAL)

    def ended(self, status: ExitStatus, now: float) -> None:
        """Also say where it was, if it wrote that down."""
        super().ended(status, now)
        if self._forked is None:
            return
        stacks = os.pread(self._forked.stacks, _STACKS_BYTES, 0)
        if stacks:
            text = stacks.decode(errors="replace")
            log.error("%s left its stacks before its end by %s", self.name, status, **self._fields(), stacks=text)

    def fds(self) -> list[int]:
        return [*super().fds(), self._forked.beats, self._forked.stacks] if self._forked else super().fds()

    def release(self) -> None:
        if self._forked:
            os.close(self._forked.beats)
            os.close(self._forked.stacks)
            self._forked = None
        super().release()

    def describe(self, now: float, wall: float) -> dict[str, object]:
        beat = self.history.beat if self.alive else None
        return {
            **super().describe(now, wall),
            "counters": dict(beat.counters) if beat else {},
            "beat_age_s": round(now - self.life.beat_at, 3) if beat else None,
        }
