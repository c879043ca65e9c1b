"""The monitoring child: watches the heartbeats in Redis, and tells of health and metrics over HTTP.

It collects nothing and nothing waits for it. `child.py` is its life; what it decides is in modules without I/O:
`staleness.py` (whose beat in Redis is missing), `totals.py` (counters that survive restarts), `metrics.py` (what
Prometheus is told).
"""
