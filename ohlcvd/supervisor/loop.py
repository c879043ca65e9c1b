"""The supervisor: one thread, one loop, the only place that waits.

Signal handlers record nothing but a byte on the wake-up socket (the interpreter writes it); the loop acts. Beats do not
wake it up: they are read together, whenever it is up and at least every LONGEST_SLEEP_S. In one batch of events pipes
come before pidfds, so that a child's last beats are read before its death is acted upon; a descriptor is unregistered
before it is closed, and an event whose registration is no longer the one it was reported for is dropped. Forks happen
only after the batch. All times are monotonic.

Order: servers are started first and stopped last; children do not wait for them. The first TERM or INT drains, the
second kills; HUP reads the configuration again. When this process dies by any means, its children die with it.
"""

import math
import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ohlcvd.errors import Exit, OhlcvdError
from ohlcvd.log import flush_repeats, reopen_logs
from ohlcvd.supervisor.child import Child, ChildSpec
from ohlcvd.supervisor.control import ControlServer, Handler
from ohlcvd.supervisor.family import Family, Plan, Reload
from ohlcvd.supervisor.fork import freeze_memory, require_single_task
from ohlcvd.supervisor.member import Member, log, utc_text
from ohlcvd.supervisor.notify import Notifier
from ohlcvd.supervisor.process import signal_name
from ohlcvd.supervisor.requests import answer
from ohlcvd.supervisor.restart import Chance, StartLimiter
from ohlcvd.supervisor.server import Server, ServerSpec
from ohlcvd.supervisor.states import Effect, Event, Limits, State

LONGEST_SLEEP_S = 1.0
PAUSED_S = 2.0  # an iteration this much later than asked for means that we were stopped, not busy

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Supervisor:
    """Runs children and servers until TERM or INT.

    `about` is added to the answer to `status`; `on_up` is called once, when every child was started for the first time;
    `reload` reads the configuration again and says what follows; `forget` are called in every forked child, to close
    what the caller holds (its lock, for instance).
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        servers: Sequence[ServerSpec] = (),
        *,
        run_dir: Path,
        limits: Limits | None = None,
        about: Callable[[], Mapping[str, object]] = dict,
        on_up: Callable[[], None] | None = None,
        reload: Reload | None = None,
        forget: Sequence[Callable[[], None]] = (),
        chance: Chance | None = None,
    ) -> None:
        self._family = Family(children, servers, limits or Limits(), chance or random.SystemRandom().random)
        self._run_dir = run_dir
        self._about = about
        self._on_up = on_up
        self._reload = reload or (lambda: Plan(children))
        self._forget = tuple(forget)
        self._limiter = StartLimiter()
        self._notifier = Notifier()
        self._signals_seen = 0
        self._exit_code = Exit.OK
        self._started_wall = time.time()

    def run(self) -> int:
        """Until everything has ended; the exit code: 0 after a stop, 78 when every child refused its configuration."""
        require_single_task()
        self._open()
        try:
            freeze_memory()
            now = time.monotonic()
            self._family.sweep(now)
            self._start_due(now)
            self._up()
            self._loop()
        finally:
            self._close()
        return int(self._exit_code)

    # --- opening and closing

    def _open(self) -> None:
        self._selector, self._pipes = selectors.DefaultSelector(), selectors.DefaultSelector()
        self._wake, self._wake_in = socket.socketpair()
        self._wake.setblocking(False)
        self._wake_in.setblocking(False)
        self._control = ControlServer(self._run_dir, self._selector, partial(answer, self))
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_signals)
        # First the descriptor, then the handlers that rely on it: a signal in between must not be lost.
        self._wakeup_before = signal.set_wakeup_fd(self._wake_in.fileno(), warn_on_full_buffer=False)
        self._handlers_before = {signum: signal.signal(signum, _record) for signum in _HANDLED}

    def _close(self) -> None:
        for signum, handler in self._handlers_before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._control.close()
        self._selector.close()
        self._pipes.close()
        self._wake.close()
        self._wake_in.close()

    def _forget_all(self) -> None:
        """In a forked child: close everything that is the parent's. Not one call to the parent's epoll set."""
        self._selector.close()
        self._pipes.close()
        self._wake.close()
        self._wake_in.close()
        self._control.forget()
        for member in self._family:
            member.forget()
        for forget in self._forget:
            forget()

    def _up(self) -> None:
        log.info(
            "supervisor is up with %d children and %d servers", len(self._family.children), len(self._family.servers)
        )
        self._notifier.ready()
        if self._on_up:
            self._on_up()

    # --- the loop

    def _loop(self) -> None:
        now = time.monotonic()
        while not self._finished():
            timeout = self._timeout(now)
            events = self._selector.select(timeout) + self._pipes.select(0)
            before, now = now, time.monotonic()
            self._excuse(now - before, timeout)
            for key, _ in sorted(events, key=lambda event: _rank(event[0].data)):
                if key in (self._selector.get_map().get(key.fd), self._pipes.get_map().get(key.fd)):
                    handler: Handler = key.data
                    handler(now)
            self._fire_timers(now)
            if not self._signals_seen:
                self._family.sweep(now)
            self._start_due(now)
            self._advance_stop(now)
            self._notifier.tick(now)
            flush_repeats()

    def _finished(self) -> bool:
        return self._signals_seen > 0 and all(member.life.state is State.STOPPED for member in self._family)

    def _timeout(self, now: float) -> float:
        """Until the next thing that is due, and never longer than LONGEST_SLEEP_S, so that a pause is noticed."""
        due = [self._control.expire(now), *(server.poll(now) for server in self._family.servers)]
        for member in self._family:
            when, event = member.timer()
            due.append(max(when, self._limiter.allowed_at(now)) if self._is_limited(member, event) else when)
        return min(max(0.0, min(due, default=math.inf) - now), LONGEST_SLEEP_S)

    def _excuse(self, took_s: float, asked_s: float) -> None:
        """After a pause of ours, extend every deadline by the whole iteration: how much of it we slept is not known."""
        if took_s - asked_s < PAUSED_S:
            return
        log.warning("the supervisor was paused for %.1f s; every deadline is extended by as much", took_s)
        self._family.postpone(took_s)

    def _fire_timers(self, now: float) -> None:
        for member in self._family:
            when, event = member.timer()
            if when <= now and event is not Event.DUE:
                member.deliver(event, now, _because(member, event, now))

    # --- starting

    def _is_limited(self, member: Member, event: Event) -> bool:
        return event is Event.DUE and isinstance(member, Child) and member.life.failures > 0

    def _start_due(self, now: float) -> None:
        """Start what is due, the longest due first, crashed children no faster than the limit."""
        for member in sorted(self._family, key=lambda member: member.timer()[0]):
            when, event = member.timer()
            if event is not Event.DUE or when > now:
                continue
            if self._is_limited(member, event):
                if self._limiter.allowed_at(now) > now:
                    continue
                self._limiter.record(now)
            if member.deliver(Event.DUE, now) is Effect.START:
                self._launch(member)

    def _launch(self, member: Member) -> None:
        now = time.monotonic()
        try:
            if isinstance(member, Child):
                member.launch(self._forget_all, now)
            elif isinstance(member, Server):
                member.launch()
        except Exception as error:  # noqa: BLE001 - no kind of failure to start may stop the supervisor
            log.exception("%s could not be started: %s: %s", member.name, type(error).__name__, error)
            member.deliver(Event.START_FAILED, now, str(error))
            return
        member.deliver(Event.STARTED, now, f"process {member.process.pid}" if member.process else "")
        if isinstance(member, Child) and member.beats is not None:
            self._pipes.register(member.beats, selectors.EVENT_READ, _PipeReady(self, member))
        if member.process:
            self._selector.register(member.process.pidfd, selectors.EVENT_READ, _ProcessEnded(self, member))

    # --- events

    def on_beats(self, child: Child, now: float) -> None:
        """The pipe of a child is readable."""
        beats = child.beats
        if not child.read_beats(now) and beats is not None:
            self._pipes.unregister(beats)  # closed by the child; its pidfd tells the rest
        self._family.heard(child, now)

    def on_end(self, member: Member, now: float) -> None:
        """The pidfd of a process is readable."""
        if member.process is None or (status := member.process.reap()) is None:
            return
        for fd in member.fds():
            for selector in (self._selector, self._pipes):
                if fd in selector.get_map():
                    selector.unregister(fd)
        if isinstance(member, Child):
            member.read_beats(now)  # what came between the batch and the end
            self._family.lost(member)
        uptime = now - member.life.started_at
        member.ended(status, now)
        refused = isinstance(member, Child) and status.code == Exit.CONFIG
        member.release()
        member.deliver(Event.REFUSED if refused else Event.EXITED, now, f"{status} after {uptime:.1f} s")
        if self._family.has_nothing_to_collect and not self._signals_seen:
            log.error("every child refused its configuration: nothing is left to collect; the supervisor ends with 78")
            self._exit_code = Exit.CONFIG
            self._stop(now)

    def _on_signals(self, now: float) -> None:
        for signum in self._wake.recv(4096):
            if signum in (signal.SIGTERM, signal.SIGINT):
                log.info("received %s", signal_name(signum))
                self._stop(now)
            elif signum == signal.SIGHUP:
                self._reload_by_signal(now)
            elif signum == signal.SIGUSR1:
                reopen_logs()
                self._family.reopen_logs()

    # --- stopping

    def _stop(self, now: float) -> None:
        """First: drain. Again: at once, the next signal of the ladder for whatever still runs."""
        self._signals_seen += 1
        if self._signals_seen == 1:
            alive = sum(child.alive for child in self._family.children)
            log.info("stopping: %d children drain, then %d servers stop", alive, len(self._family.servers))
            self._notifier.stopping()
            for child in self._family.children:
                child.deliver(Event.STOP, now)
            return
        hurried = [member for member in self._family if member.life.state in (State.DRAINING, State.HUNG)]
        for member in hurried:
            member.deliver(Event.OVERDUE, now, "asked to stop at once")

    def _advance_stop(self, now: float) -> None:
        """When the last child is gone, the servers may go."""
        if not self._signals_seen or any(child.life.state is not State.STOPPED for child in self._family.children):
            return
        for server in self._family.servers:
            if server.life.goal != "stop":
                server.deliver(Event.STOP, now)

    # --- what is asked of it

    @property
    def family(self) -> Family:
        """The processes."""
        return self._family

    def reload(self, now: float) -> dict[str, object]:
        """Read the configuration again: what was done, or OhlcvdError if it is wrong and nothing was."""
        if self._signals_seen:
            raise OhlcvdError("the service is stopping; its configuration is not read again")
        log.info("reading the configuration again")
        self._notifier.reloading(now)
        try:
            plan = self._reload()
            done = self._family.apply(plan, now)
        except OhlcvdError as error:
            log.error("the configuration is wrong, the old one goes on: %s", error, exit_code=int(error.exit_code))
            raise
        except Exception as error:
            log.exception("the configuration could not be read again: %s: %s", type(error).__name__, error)
            raise OhlcvdError(f"a bug, see the log: {type(error).__name__}: {error}") from error
        finally:
            self._notifier.ready()
        for sentence in plan.later:
            log.warning("not changed: %s", sentence)
        changed = "; ".join(f"{what} {', '.join(names)}" for what, names in done.items())
        log.info("configuration is read again: %s", changed or "nothing has changed for any child")
        return {**done, "later": list(plan.later)}

    def _reload_by_signal(self, now: float) -> None:
        try:
            self.reload(now)
        except OhlcvdError:
            pass  # logged; whoever sent the signal waits for no answer

    def describe(self, now: float) -> dict[str, object]:
        """For `status`."""
        return {
            **self._about(),
            "pid": os.getpid(),
            "started_at": utc_text(self._started_wall),
            "state": "stopping" if self._signals_seen else "running",
            **self._family.describe(now, time.time() - now),
        }


class _PipeReady:
    """A registration: which pipe is readable."""

    def __init__(self, supervisor: Supervisor, child: Child) -> None:
        self._supervisor, self._child = supervisor, child

    def __call__(self, now: float) -> None:
        self._supervisor.on_beats(self._child, now)


class _ProcessEnded:
    """A registration: which process ended."""

    def __init__(self, supervisor: Supervisor, member: Member) -> None:
        self._supervisor, self._member = supervisor, member

    def __call__(self, now: float) -> None:
        self._supervisor.on_end(self._member, now)


def _rank(handler: Handler) -> int:
    """Pipes before pidfds, both before everything else that may start or stop something."""
    return 0 if isinstance(handler, _PipeReady) else 1 if isinstance(handler, _ProcessEnded) else 2


def _because(member: Member, event: Event, now: float) -> str:
    if event is Event.SILENT:
        return f"no beat for {now - member.life.beat_at:.1f} s"
    if event is Event.NEVER_READY:
        return f"not ready {now - member.life.started_at:.0f} s after its start"
    return ""


def _record(_signum: int, _frame: object) -> None:
    """The handler of every signal that is acted upon: the byte on the wake-up socket is all that is needed."""
