"""Batches that wait on disk while the database is away: `frames` is their form, `segments` the files."""

from ohlcvd.database.spool.segments import Spool, SpoolDamaged, SpoolFull

__all__ = ["Spool", "SpoolDamaged", "SpoolFull"]
