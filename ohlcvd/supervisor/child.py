"""A forked child: its specification, its heartbeats, what it left behind when it died."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ohlcvd.errors import OhlcvdError
from ohlcvd.log import append_line
from ohlcvd.supervisor.commands import Update
from ohlcvd.supervisor.fork import STACKS_SIGNAL, Forked, Main, fork_child
from ohlcvd.supervisor.health import Health
from ohlcvd.supervisor.heartbeat import Beat, BeatHistory, BeatReader
from ohlcvd.supervisor.member import Member, log
from ohlcvd.supervisor.process import ExitStatus
from ohlcvd.supervisor.restart import COMMITS_MOVING_S, Chance
from ohlcvd.supervisor.states import RUNNING, Event, Limits, settle

_READ_BYTES = 65536  # a pipe holds no more
_STACKS_BYTES = 65536


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to fork. `name` is `kraken` or `binance/2`; `main` runs in the child and returns its exit code.

    `collects`: the service is nothing without such children; the monitor is none. `log_file`: where the child writes,
    for what it cannot write itself any more.
    """

    name: str
    main: Main
    collects: bool = True
    log_file: Path | None = None


class Child(Member):
    """The parent's view of one forked child."""

    kind = "child"

    def __init__(self, spec: ChildSpec, limits: Limits, chance: Chance) -> None:
        super().__init__(spec.name, limits, chance)
        self.spec = spec
        self.removed = False  # not configured any more: forgotten as soon as it has stopped
        self.log_level: str | None = None  # asked for by hand, until the configuration is read again
        self.history = BeatHistory(0.0)
        self._health = Health()
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
        self._health = Health()
        if self.log_level is not None:
            self.tell(Update(log_level=self.log_level))

    def tell(self, update: Update) -> bool:
        """False if there is a process and it does not take it."""
        return self._forked is None or self._forked.commands.send(update)

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
        reason = self._health.judge(self.history, now)
        if reason is not None:
            self.condemn(reason, now)

    def condemn(self, reason: str, now: float) -> None:
        """It beats but does not do its work: let it drain, then start it again."""
        if self.life.state in RUNNING:
            self.deliver(Event.UNHEALTHY, now, reason)

    def postpone(self, gap_s: float) -> None:
        super().postpone(gap_s)
        self._health.postpone(gap_s)

    def request_stacks(self) -> None:
        """faulthandler answers from the signal handler itself, also when the loop or the interpreter is blocked."""
        self.signal(STACKS_SIGNAL)

    def ended(self, status: ExitStatus, now: float) -> None:
        """Also say where it was, if it wrote that down."""
        super().ended(status, now)
        stacks = os.pread(self._forked.stacks, _STACKS_BYTES, 0) if self._forked else b""
        if stacks:
            self._keep_stacks(stacks.decode(errors="replace"), status)

    def _keep_stacks(self, stacks: str, status: ExitStatus) -> None:
        """Into its own log, which it could not write itself."""
        say = (f"{self.name} left its stacks before its end by {status}", {**self._fields(), "stacks": stacks})
        if self.spec.log_file is None:
            log.error(say[0], **say[1])
            return
        try:
            append_line(self.spec.log_file, logging.ERROR, f"ohlcvd.supervisor.{self.name}", say[0], **say[1])
            log.error("%s; they are in %s", say[0], self.spec.log_file, **self._fields())
        except OhlcvdError as error:
            log.error("%s; its own log cannot be written: %s", say[0], error, **say[1])

    def fds(self) -> list[int]:
        return [*super().fds(), self._forked.beats, self._forked.stacks] if self._forked else super().fds()

    def forget(self) -> None:
        super().forget()
        if self._forked:
            self._forked.commands.close()

    def release(self) -> None:
        if self._forked:
            os.close(self._forked.beats)
            os.close(self._forked.stacks)
            self._forked.commands.close()
            self._forked = None
        super().release()

    def describe(self, now: float, wall: float) -> dict[str, object]:
        beat = self.history.beat if self.alive else None
        return {
            **super().describe(now, wall),
            "collects": self.spec.collects,
            "counters": dict(beat.counters) if beat else {},
            "beat_age_s": round(now - self.life.beat_at, 3) if beat else None,
        }
