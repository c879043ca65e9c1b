"""Times as people write and read them, in UTC. Pure."""

import re
from datetime import UTC, datetime, timedelta

from ohlcvd.config.settings import Since, read_since
from ohlcvd.market import SECOND_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400 * SECOND_US
_DAYS_AGO = {"today": 0, "yesterday": 1}
_AGO = re.compile(
    r"([0-9]+) ?([smhdw])(?:|(?<=s)ec(?:ond)?s?|(?<=m)in(?:ute)?s?|(?<=h)(?:ou)?rs?|(?<=d)ays?|(?<=w)eeks?)(?: ago)?",
    re.ASCII,
)
_UNITS = (("d", 86_400 * SECOND_US), ("h", 3_600 * SECOND_US), ("m", 60 * SECOND_US), ("s", SECOND_US))


def read_moment(text: str) -> Since:
    """A moment: so long ago (`2h`, `3 days ago`), an ISO date or time, or `now`. ValueError says what is allowed."""
    words = " ".join(text.lower().split())
    ago = _AGO.fullmatch(words)
    if words == "now":
        return Since(duration_s=0)
    try:
        if words == "0":
            raise ValueError
        return read_since(f"{ago[1]}{ago[2]}" if ago else words.upper())
    except ValueError:
        raise ValueError(
            f'"{text}" is not a time: give how long ago (90m, 2h, 3d), today, yesterday, or a date or time in UTC '
            "(2026-01-31, 2026-01-31T12:00)"
        ) from None


def moment_us(text: str, now_us: int) -> int:
    """The same in microseconds since 1970, and `today` and `yesterday`, which are days in UTC. May lie ahead."""
    words = text.strip().lower()
    if words in _DAYS_AGO:
        return now_us - now_us % _DAY_US - _DAYS_AGO[words] * _DAY_US
    found = read_moment(text)
    return found.at_us if found.at_us is not None else found.start_us(now_us)


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


def timeframe_us(text: str) -> int:
    """The length of a timeframe: `1m`, `15m`, `4h`, `1d`, `1w`. ValueError says what is allowed."""
    found = re.fullmatch(r"([1-9][0-9]{0,3})([mhdw])", text, re.ASCII)
    if found is None:
        raise ValueError(f'"{text}" is not a timeframe: give a number and m (minutes), h, d or w, such as 15m')
    return int(found[1]) * {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[found[2]] * SECOND_US
