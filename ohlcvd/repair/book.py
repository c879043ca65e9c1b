"""What this process knows of coverage: what is committed, and what is on its way to the database. No I/O.

Invariant: `covered` never says more than the database does. `taken` adds what repair has handed to the writer, so that
it is not fetched again while it waits; a crash forgets both alike, and the next process loads what was committed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.market import Instrument, Kind

Key = tuple[Instrument, Kind]


class Committed(Protocol):
    """What the writer tells after a COMMIT: coverage is what it was, without `uncovered`, and then with `covered`."""

    @property
    def covered(self) -> Mapping[Key, Sequence[Range]]: ...
    @property
    def uncovered(self) -> Mapping[Key, Sequence[Range]]: ...


@dataclass(slots=True)
class _Page:
    covered: list[Range] = field(default_factory=list)
    pending: list[Range] = field(default_factory=list)
    wanted_from_us: int | None = None
    version: int = 0


class CoverageBook:
    """One page for each market and kind; one that was never loaded is empty and wants nothing."""

    def __init__(self) -> None:
        self._pages: dict[Key, _Page] = {}
        # Of any page, but for what is committed besides: more that is covered is nothing that has to be done.
        self.changes = 0

    def load(self, instrument: Instrument, kind: Kind, covered: Iterable[Range], wanted_from_us: int | None) -> None:
        """What the database has; `wanted_from_us` None: no history is wanted below what is covered."""
        page = self._page(instrument, kind)
        page.covered = coverage.normalise(covered)
        page.wanted_from_us = wanted_from_us
        self.changes += 1

    def want(self, instrument: Instrument, kind: Kind, from_us: int) -> None:
        """History is wanted from here on, as the database says now: from earlier, because somebody asked for more, or
        from later, because what is older is not kept."""
        page = self._page(instrument, kind)
        if page.wanted_from_us != from_us:
            page.wanted_from_us = from_us
            self.changes += 1

    def version(self, instrument: Instrument, kind: Kind) -> int:
        """Changes whenever the page does: to be taken before the database is read."""
        return self._page(instrument, kind).version

    def refresh(self, instrument: Instrument, kind: Kind, covered: Iterable[Range], version: int) -> None:
        """What the database has: another process may have added to it. Ignored if the page changed since `version`."""
        page = self._page(instrument, kind)
        if page.version == version:
            page.covered = coverage.normalise(covered)
            page.pending = coverage.subtract(page.pending, page.covered)
            self.changes += 1

    def committed(self, batch: Committed) -> None:
        """The writer's news."""
        for (instrument, kind), ranges in batch.uncovered.items():
            page = self._changed(instrument, kind)
            page.covered = coverage.subtract(page.covered, coverage.normalise(ranges))
        for (instrument, kind), ranges in batch.covered.items():
            self.added(instrument, kind, ranges)

    def added(self, instrument: Instrument, kind: Kind, ranges: Sequence[Range]) -> None:
        """Committed coverage."""
        page = self._page(instrument, kind)
        page.version += 1
        if not page.covered:
            self.changes += 1  # the first tells what is wanted
        page.covered = coverage.add(page.covered, *ranges)
        if page.pending:
            page.pending = coverage.subtract(page.pending, coverage.normalise(ranges))

    def claimed(self, instrument: Instrument, kind: Kind, ranges: Iterable[Range]) -> None:
        """Handed to the writer."""
        page = self._changed(instrument, kind)
        page.pending = coverage.add(page.pending, *ranges)

    def unclaimed(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """Taken back: the writer is told, too."""
        page = self._changed(instrument, kind)
        page.covered = coverage.subtract(page.covered, [(lower_us, upper_us)])
        page.pending = coverage.subtract(page.pending, [(lower_us, upper_us)])

    def covered(self, instrument: Instrument, kind: Kind) -> list[Range]:
        """Committed."""
        return self._page(instrument, kind).covered

    def taken(self, instrument: Instrument, kind: Kind) -> list[Range]:
        """Committed or on its way."""
        page = self._page(instrument, kind)
        return coverage.add(page.covered, *page.pending) if page.pending else page.covered

    def wanted_from(self, instrument: Instrument, kind: Kind) -> int | None:
        """Where what is wanted begins; None while nothing is."""
        page = self._page(instrument, kind)
        if page.wanted_from_us is None and page.covered:
            return page.covered[0][0]
        return page.wanted_from_us

    def _changed(self, instrument: Instrument, kind: Kind) -> _Page:
        page = self._page(instrument, kind)
        page.version += 1
        self.changes += 1
        return page

    def _page(self, instrument: Instrument, kind: Kind) -> _Page:
        page = self._pages.get((instrument, kind))
        if page is None:
            page = self._pages[instrument, kind] = _Page()
        return page
