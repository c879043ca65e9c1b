"""The parent process: forks one child per exchange, watches them, restarts them, and does almost nothing else.

Because it does so little, little can stop it: one thread, one `selectors` loop, no asyncio, no connection to an
exchange, PostgreSQL or Redis. What a child does is passed in as a function; nothing here imports a worker.

- `heartbeat`, `health`, `restart`, `states`: pure. What a beat says and proves, when a child may start again, what
  follows from an event.
- `child`, `server`: one supervised process each: forked from this program, or an executed server. `commands`: what a
  child is told while it runs. `family`: all of them together, and how they change when the configuration does.
- `loop`: the only place that waits. `control`: the socket that is asked; `requests`: what can be asked there.
- `lock`, `detach`, `notify`: one supervisor only; leaving the terminal; telling systemd.
"""
