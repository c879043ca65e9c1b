"""Counters that never fall, made of counters that begin anew with each process. Pure.

Every source (a child, or the supervisor's count of it) tells its counters and which of its lives they belong to. What a
counter has grown by is added to the total; a new life begins at zero. Totals outlive the monitor, too: `saved` and
`Totals(saved)`. Growth that nobody saw (the last second of a process that died) is missing; nothing is counted twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class _Source:
    exchange: str
    life: str = ""
    last: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)

    def observe(self, life: str, counters: Mapping[str, int]) -> None:
        if life != self.life:
            self.life, self.last = life, {}
        for name, value in counters.items():
            last = self.last.get(name, 0)
            # Below what was seen: a part of what made it up is gone (a market that is not collected any more).
            self.total[name] = self.total.get(name, 0) + max(0, value - last)
            self.last[name] = value


class Totals:
    """By exchange. The number of sources is that of the children ever configured."""

    def __init__(self, saved: object = None) -> None:
        """`saved` is what `saved()` gave once; anything else is forgotten, and counting begins at zero."""
        self._sources: dict[str, _Source] = {}
        if isinstance(saved, dict):
            self._sources = {name: source for name, row in saved.items() if (source := _read(row)) is not None}

    def observe(self, source: str, exchange: str, life: str, counters: Mapping[str, int]) -> None:
        """What a source says now."""
        known = self._sources.get(source)
        if known is None:
            known = self._sources[source] = _Source(exchange)
        known.observe(life, counters)

    def exchanges(self) -> list[str]:
        """All that there ever were."""
        return sorted({source.exchange for source in self._sources.values()})

    def of(self, exchange: str, names: Iterable[str]) -> dict[str, int]:
        """The sums over all sources of an exchange."""
        sources = [source for source in self._sources.values() if source.exchange == exchange]
        return {name: sum(source.total.get(name, 0) for source in sources) for name in names}

    def saved(self) -> dict[str, dict[str, Any]]:
        """For JSON."""
        return {
            name: {"exchange": source.exchange, "life": source.life, "last": source.last, "total": source.total}
            for name, source in self._sources.items()
        }


def _read(row: object) -> _Source | None:
    if not isinstance(row, dict):
        return None
    exchange, life, last, total = (row.get(name) for name in ("exchange", "life", "last", "total"))
    if not isinstance(exchange, str) or not isinstance(life, str) or not _is_counters(last) or not _is_counters(total):
        return None
    return _Source(exchange, life, dict(last or {}), dict(total or {}))


def _is_counters(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and type(count) is int and count >= 0 for name, count in value.items()
    )
