"""The table that a run ends with: each fault that was made, when it was noticed, when rows were stored again."""

from collections.abc import Callable

import pytest

_PROPERTY = "fault"
_HEADER = ("FAULT", "NOTICED AFTER", "STORING AGAIN AFTER", "SEEN")

# name, seconds until it was noticed, seconds until rows were stored again (None: does not apply), what else was seen
FaultSeen = Callable[[str, float | None, float | None, str], None]


@pytest.fixture
def fault_seen(record_property: Callable[[str, object], None]) -> FaultSeen:
    """Tells the table of one fault."""

    def tell(name: str, noticed_s: float | None, storing_s: float | None, seen: str) -> None:
        times = ("-" if seconds is None else f"{seconds:.2f} s" for seconds in (noticed_s, storing_s))
        record_property(_PROPERTY, (name, *times, seen))

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, if there is anything in it; also where several processes share the tests."""
    rows = [
        tuple(map(str, value))
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == _PROPERTY
    ]
    if not rows:
        return
    rows = [_HEADER, *sorted(rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    terminalreporter.section("faults", sep="=")
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
