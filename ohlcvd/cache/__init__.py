"""Live state in Redis (or Valkey): heartbeats, forming candles, streams of what was committed, process records.

Nothing here is needed to collect, and nothing here cannot be rebuilt from PostgreSQL: a child writes through
`LiveCache`, which never raises and never holds it up; people and programs read through `CacheReader`, which says when
it cannot. Only this package imports redis.
"""

from ohlcvd.cache.live import LiveCache
from ohlcvd.cache.process import OHLCVCache, ProcessCache
from ohlcvd.cache.reader import CacheReader

__all__ = ["CacheReader", "LiveCache", "OHLCVCache", "ProcessCache"]
