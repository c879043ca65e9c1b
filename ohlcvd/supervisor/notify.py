"""sd_notify: tells systemd that the service is up, alive, reloading, about to stop. Does nothing elsewhere.

`tick` is called by the loop itself, so a loop that is dead stops petting systemd's watchdog.
"""

import os
import socket

from ohlcvd.log import get_component_logger

log = get_component_logger("ohlcvd.supervisor.notify")


class Notifier:
    """Takes NOTIFY_SOCKET and WATCHDOG_USEC out of the environment, so that children cannot speak for us."""

    def __init__(self) -> None:
        path = os.environ.pop("NOTIFY_SOCKET", "")
        watchdog_us = os.environ.pop("WATCHDOG_USEC", "0")
        watchdog_pid = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        meant = watchdog_us.isdecimal() and watchdog_pid == str(os.getpid())
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.interval_s = int(watchdog_us) / 2_000_000 if meant else 0.0
        self._next_at = 0.0

    def ready(self) -> None:
        """Up: children forked, control socket listening."""
        self._send(f"READY=1\nMAINPID={os.getpid()}")

    def reloading(self, now: float) -> None:
        """The configuration is being read again; `ready` follows. systemd orders the two by the monotonic clock."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1_000_000)}")

    def stopping(self) -> None:
        """Draining has begun."""
        self._send("STOPPING=1")

    def tick(self, now: float) -> None:
        """Alive, at least twice per watchdog interval."""
        if self.interval_s and now >= self._next_at:
            self._next_at = now + self.interval_s / 2
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as connection:
                connection.sendto(text.encode(), self._address)
        except OSError as error:
            log.warning("systemd could not be told %s: %s", text.partition("=")[0], error)
