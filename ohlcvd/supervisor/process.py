"""A process that this one started, held by its pidfd: signalled and reaped without ever naming a stranger by number.

Until it is reaped a pid is ours; with the pidfd even a mistake in that cannot hit another process.
"""

import os
import signal
from typing import NamedTuple

from ohlcvd.errors import Exit


class ExitStatus(NamedTuple):
    """How a process ended. `code` is its exit code, or None when a signal ended it."""

    code: int | None
    signum: int | None

    def __str__(self) -> str:
        if self.signum is not None:
            return f"signal {self.signum} ({signal_name(self.signum)})"
        if self.code is None:
            return "an unknown end"
        meaning = {int(known): known.name.lower().replace("_", " ") for known in Exit}.get(self.code)
        return f"exit code {self.code}" + (f" ({meaning})" if meaning and self.code else "")


class Process:
    """A child process of this one. Make it at once after the fork; `close` after `reap` returned its end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)

    def signal(self, signum: int) -> None:
        """Send a signal; a process that has just ended needs none."""
        try:
            signal.pidfd_send_signal(self.pidfd, signum)
        except ProcessLookupError:
            pass  # ended, not yet reaped: the pidfd is readable and says so

    def reap(self) -> ExitStatus | None:
        """How it ended, or None while it runs."""
        try:
            end = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # somebody else's wait() took it; it is gone all the same
            return ExitStatus(None, None)
        if end is None:
            return None
        if end.si_code == os.CLD_EXITED:
            return ExitStatus(end.si_status, None)
        return ExitStatus(None, end.si_status)

    def close(self) -> None:
        """Give back the descriptor."""
        os.close(self.pidfd)


def signal_name(signum: int) -> str:
    """SIGKILL for 9; signals without a name are called by their number."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
