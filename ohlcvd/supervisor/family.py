"""The processes of one supervisor as a group: which there are, and what is asked of several at once.

A reload arrives here as a `Plan`, parsed and checked by whoever passed in the function that makes it. Children that it
does not name as changed are not touched, whatever their state, except parked ones: their configuration was read again.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ohlcvd.supervisor.child import Child, ChildSpec
from ohlcvd.supervisor.commands import Update
from ohlcvd.supervisor.health import StaleBeats
from ohlcvd.supervisor.member import Member, log
from ohlcvd.supervisor.restart import Chance
from ohlcvd.supervisor.server import Server, ServerSpec
from ohlcvd.supervisor.states import Event, Limits, State

_WORKING = (State.READY, State.STREAMING)


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to be after a reload. `later` are sentences about what only a restart of the service changes."""

    children: Sequence[ChildSpec]
    restart: frozenset[str] = frozenset()
    updates: Mapping[str, Update] = field(default_factory=dict)
    later: tuple[str, ...] = ()


Reload = Callable[[], Plan]  # OhlcvdError: the configuration is wrong, the old one goes on


class Family:
    """All members. Iterating gives servers first, in the order in which they are started."""

    def __init__(
        self, children: Sequence[ChildSpec], servers: Sequence[ServerSpec], limits: Limits, chance: Chance
    ) -> None:
        self._limits, self._chance = limits, chance
        self.children = [self._child(spec) for spec in children]
        self.servers = [Server(spec, chance) for spec in servers]
        self._stale = StaleBeats()

    def _child(self, spec: ChildSpec) -> Child:
        return Child(spec, self._limits, self._chance)

    def __iter__(self) -> Iterator[Member]:
        yield from self.servers
        yield from self.children

    @property
    def collecting(self) -> list[Child]:
        """The children that the service is there for."""
        return [child for child in self.children if child.spec.collects and not child.removed]

    @property
    def has_nothing_to_collect(self) -> bool:
        """Every collecting child refused its configuration."""
        collecting = self.collecting
        return bool(collecting) and all(child.life.state is State.PARKED for child in collecting)

    def find(self, name: object) -> Child | None:
        """The child of this name, unless it is on its way out."""
        return next((child for child in self.children if child.name == name and not child.removed), None)

    def postpone(self, gap_s: float) -> None:
        """The supervisor was not there for so long: blame nobody for what happened in it."""
        self._stale.forget()
        for member in self:
            member.postpone(gap_s)

    # --- the monitor's word

    def heard(self, child: Child, now: float) -> None:
        """Beats of a child were read. Those of the monitor may be about others."""
        beat = child.history.beat
        if child.spec.collects or beat is None:
            return
        self._stale.observe(beat.stale, now)
        working = {one.name: one for one in self.collecting if one.life.state in _WORKING}
        ready_at = {name: one.life.ready_at for name, one in working.items() if one.life.ready_at is not None}
        for name, reason in self._stale.judge(ready_at, now).items():
            working[name].condemn(reason, now)

    def lost(self, child: Child) -> None:
        """A child ended: what the monitor said is not known any more."""
        if not child.spec.collects:
            self._stale.forget()

    # --- reload

    def apply(self, plan: Plan, now: float) -> dict[str, list[str]]:
        """Make it so; the names of the children by what happens to them."""
        done: dict[str, list[str]] = {"started": [], "stopped": [], "restarted": [], "updated": [], "tried again": []}
        wanted = {spec.name: spec for spec in plan.children}
        for child in self.children:
            if child.name not in wanted and not child.removed:
                child.removed = True
                child.deliver(Event.STOP, now)
                done["stopped"].append(child.name)
        known = {child.name: child for child in self.children}
        for name, spec in wanted.items():
            what = self._take(known.get(name), spec, plan, now)
            if what is not None:
                done[what].append(name)
        order = list(wanted)
        self.children.sort(key=lambda child: order.index(child.name) if child.name in wanted else len(order))
        return {what: names for what, names in done.items() if names}

    def _take(self, child: Child | None, spec: ChildSpec, plan: Plan, now: float) -> str | None:
        """One child that is wanted: what is done about it."""
        if child is None:
            self.children.append(self._child(spec))
            return "started"  # the loop does, as it starts whoever is stopped and wanted
        child.spec, child.log_level = spec, None  # what it is forked with next
        if child.removed:  # it is still on its way out, and will be back
            child.removed = False
            return "started"
        if child.life.state is State.PARKED:
            child.deliver(Event.START, now)
            return "tried again"
        update = plan.updates.get(spec.name)
        if spec.name in plan.restart:
            child.deliver(Event.RESTART, now)
            return "restarted"
        if update is not None and not child.tell(update):
            log.warning("%s does not take what has changed; it is started again with it", child.name)
            child.deliver(Event.RESTART, now)
            return "restarted"
        return "updated" if update is not None and spec.collects else None

    def sweep(self, now: float) -> None:
        """Forget children that were removed and have stopped; start those that have stopped and are wanted."""
        self.children = [child for child in self.children if not (child.removed and child.life.state is State.STOPPED)]
        for member in self:
            if member.life.state is State.STOPPED:
                member.deliver(Event.START, now)

    # --- other requests

    def set_log_level(self, level: str, name: str | None) -> list[str]:
        """Of one child, or of all; the names of those that will log so."""
        told = []
        for child in self.children:
            if name in (None, child.name) and child.tell(Update(log_level=level)):
                child.log_level = level
                told.append(child.name)
        return told

    def reopen_logs(self) -> None:
        """Every child is to go on in a new file."""
        for child in self.children:
            child.signal(signal.SIGUSR1)

    def describe(self, now: float, wall: float) -> dict[str, object]:
        """For `status`."""
        return {
            "children": [child.describe(now, wall) for child in self.children],
            "servers": [server.describe(now, wall) for server in self.servers],
        }
