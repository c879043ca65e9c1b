"""A private PostgreSQL and a private Valkey, for machines that have neither set up. No neighbours but `errors`.

`prepare_*` finds binaries, makes the data directory if there is none, and takes its lock; `EmbeddedServer.spawn` forks
and execs. Invariants:

- One server per directory: a lock that the server process itself holds until it is gone.
- A server never outlives its owner: however the process that spawned it dies, the server then shuts down cleanly.
- A `kill -9` of anything at any moment leaves nothing that stops the next start.
- Nothing but our own directories below `state_dir` (and a socket directory in /tmp where paths are long) is created,
  chmodded or chowned; no user is created; nothing listens on a network.

The process that prepares is the one that spawns: locks do not cross a fork. It has one thread.
"""

from ohlcvd.embedded.postgres import prepare_postgres
from ohlcvd.embedded.server import EmbeddedServer, running
from ohlcvd.embedded.valkey import prepare_valkey

__all__ = ["EmbeddedServer", "prepare_postgres", "prepare_valkey", "running"]
