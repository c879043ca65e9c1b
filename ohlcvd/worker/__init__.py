"""A collecting child: its life (life.py), what it collects (collecting.py), what it tells others (telling.py)."""

from ohlcvd.worker.life import worker_main

__all__ = ["worker_main"]
