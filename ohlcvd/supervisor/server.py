"""An embedded server: executed, not forked; it does not beat, it can be asked whether it is ready.

Started before the children and stopped after the last of them is gone. Children do not wait for it: they retry.
"""

import math
import signal
from typing import Protocol

from ohlcvd.supervisor.member import Member, log
from ohlcvd.supervisor.process import Process
from ohlcvd.supervisor.restart import Chance
from ohlcvd.supervisor.states import Event, Ladder, Limits, State, settle

POLL_S = 0.2


class ServerSpec(Protocol):
    """What to execute (`ohlcvd.embedded.EmbeddedServer` is one)."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def stop_signals(self) -> Ladder: ...

    def spawn(self) -> int:
        """Fork and execute, to die with this process; the pid. May raise OSError or EmbeddedServerError."""
        ...

    def is_ready(self) -> bool:
        """Whether it accepts connections now. Never blocks."""
        ...


class Server(Member):
    """The parent's view of one embedded server."""

    kind = "server"

    def __init__(self, spec: ServerSpec, chance: Chance) -> None:
        ladder = spec.stop_signals
        if not ladder or ladder[-1][0] != signal.SIGKILL:
            ladder = (*ladder, (signal.SIGKILL, 5.0))
        super().__init__(spec.name, Limits(beat_timeout_s=math.inf, ready_timeout_s=math.inf, ladder=ladder), chance)
        self.spec = spec
        self._poll_at = math.inf

    def launch(self) -> None:
        """Execute it. Whatever `spawn` raises when it cannot."""
        self.process = Process(self.spec.spawn())

    def poll(self, now: float) -> float:
        """Ask it whether it is ready, if it is time to; when to ask again."""
        if self.life.state is State.STARTING:
            if now >= self._poll_at or self._poll_at == math.inf:
                self._poll_at = now + POLL_S
                if self.spec.is_ready():
                    self.deliver(Event.BEAT_READY, now)
                    self._poll_at = math.inf
        else:
            self._poll_at = math.inf
            settled = settle(self.life, now, moving=True)
            if settled is not self.life:
                log.info("%s is stable again", self.name, **self._fields())
                self.life = settled
        return self._poll_at

    def describe(self, now: float, wall: float) -> dict[str, object]:
        return {**super().describe(now, wall), "address": self.spec.address}
