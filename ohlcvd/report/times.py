"""Times as people write and read them, in UTC. Pure."""

import re
from datetime import UTC, datetime, timedelta

from ohlcvd.config.settings import Since, read_since
from ohlcvd.market import SECOND_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = (("d", 86_400 * SECOND_US), ("h", 3_600 * SECOND_US), ("m", 60 * SECOND_US), ("s", SECOND_US))


def read_moment(text: str) -> Since:
    """A moment: so long ago (`2h`, `3d`, `90m ago`), an ISO date or time, or `now`. ValueError says what is allowed."""
    words = text.strip()
    ago = re.fullmatch(r"(?i)([0-9]+\s*[smhdw])(\s+ago)?", words)
    if words.lower() == "now":
        return Since(duration_s=0)
    try:
        if words == "0":
            raise ValueError
        return read_since(re.sub(r"\s", "", ago[1]).lower() if ago else words)
    except ValueError:
        raise ValueError(
            f'"{text}" is not a time: give how long ago (90m, 2h, 3d), or a date or time in UTC (2026-01-31, '
            "2026-01-31T12:00)"
        ) from None


def moment(time_us: int) -> str:
    """`2026-01-31 12:00:05.25`: to the second, and finer only where there is something to say."""
    at = _EPOCH + timedelta(microseconds=time_us)
    fraction = f"{at.microsecond:06d}".rstrip("0")
    return f"{at:%Y-%m-%d %H:%M:%S}{'.' if fraction else ''}{fraction}"


def minute(time_us: int) -> str:
    """`2026-01-31 12:00`."""
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M}"


def iso(time_us: int) -> str:
    """For programs: `2026-01-31T12:00:05.250000Z`."""
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%dT%H:%M:%S.%fZ}"


def length(duration_us: int) -> str:
    """The two largest units: `3d 4h`, `1m 5s`; below a second `250 ms` or `1 us`."""
    if duration_us < SECOND_US:
        return f"{duration_us / 1000:g} ms" if duration_us >= 1000 else f"{duration_us} us"
    parts: list[str] = []
    for name, size_us in _UNITS:
        count, duration_us = divmod(duration_us, size_us)
        if count:
            parts.append(f"{count}{name}")
        elif parts:
            break  # "3d 5s" would be more exact than anybody wants
    return " ".join(parts[:2])
