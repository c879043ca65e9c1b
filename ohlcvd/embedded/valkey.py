"""Prepare a private Valkey (or Redis): memory only, one unix socket, nothing on disk but its log."""

import signal
import socket
import struct
from pathlib import Path

from ohlcvd.embedded.binaries import Binaries, find_valkey
from ohlcvd.embedded.lock import DirectoryLock
from ohlcvd.embedded.process import Program, choose_identity
from ohlcvd.embedded.server import (
    VALKEY_STOP,
    EmbeddedServer,
    make_log,
    prepare_state_dir,
    preparing,
    socket_directory,
)

SOCKET = "valkey.sock"
PING_TIMEOUT_S = 0.05

# All of it can be rebuilt, so nothing is saved. Every stream is capped by its writer, so the limit is reached only by a
# mistake; refusing writes then is counted and logged by the writer, while evicting would silently take a stream or a
# heartbeat from under its readers.
SETTINGS: dict[str, str] = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "512mb",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "logfile": "",
}


def prepare_valkey(state_dir: Path, *, binaries: Binaries = "any", log_dir: Path | None = None) -> EmbeddedServer:
    """A Valkey whose lock and socket are in `state_dir`. Raises EmbeddedServerError."""
    state = prepare_state_dir(state_dir)
    lock = DirectoryLock(state / "valkey.lock")
    with preparing("Valkey", state, lock):
        path = find_valkey(binaries)
        last_used = state / "valkey.socket"
        identity = choose_identity((state, path), last_used if last_used.exists() else None)
        sockets = socket_directory(state, "valkey", identity, SOCKET)
        log = make_log(log_dir or state, "valkey.log")
    address = sockets / SOCKET
    argv = [str(path)]
    for name, value in {**SETTINGS, "unixsocket": str(address), "dir": str(sockets)}.items():
        argv += [f"--{name}", value]
    return EmbeddedServer(
        name="valkey",
        address=f"unix://{address}",
        stop_signals=VALKEY_STOP,
        program=Program(tuple(argv), log, signal.SIGTERM, identity),
        lock=lock,
        sockets=sockets,
        probe=lambda pid: _answers(address, pid),
    )


def _answers(address: Path, pid: int) -> bool:
    """Does this very process answer PING on the socket?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PING_TIMEOUT_S)
        try:
            connection.connect(str(address))
            listener = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", listener)[0] != pid:
                return False
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
