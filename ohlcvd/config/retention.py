"""How long stored rows are kept: the two settings, and what they must not contradict. Pure.

Without them everything is kept. What is dropped is not wanted any more, so nothing may ask for it: `since` must be a
duration that fits, because a date lies further back every day.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from ohlcvd.config.files import Entry
from ohlcvd.config.settings import Since, shown
from ohlcvd.errors import ConfigError
from ohlcvd.market import SECOND_US, Kind

FOREVER: Final = "forever"
DAY_US: Final = 86_400 * SECOND_US
_DAYS: Final = {"d": 1, "w": 7}
_LEAST_DAYS: Final = 2
_MOST_DAYS: Final = 10_000


def read(
    reader: Callable[[str, str, Callable[[str], int | None]], int | None],
    values: Mapping[tuple[str, str], Entry],
    since: Since,
) -> dict[str, int | None]:
    """How long rows are kept, by field of `Config`. `reader` gives one setting's value, `values` where it stands."""
    kept = {key: reader("ohlcvd", key, read_retention) for key in ("retention_trades", "retention_candles")}
    for key, keep_us in kept.items():
        check_since(since, values["ohlcvd", "since"], keep_us, values["ohlcvd", key])
    return {f"{key}_us": keep_us for key, keep_us in kept.items()}


def read_retention(text: str) -> int | None:
    """Microseconds; None: everything is kept."""
    if text == FOREVER:
        return None
    found = re.fullmatch(r"([0-9]{1,5})([dw])", text, re.ASCII)
    days = int(found[1]) * _DAYS[found[2]] if found else 0
    if not _LEAST_DAYS <= days <= _MOST_DAYS:
        raise ValueError(
            f"is {shown(text)}: allowed are a whole number followed by d or w, from {_LEAST_DAYS}d to {_MOST_DAYS}d, "
            f"and {FOREVER}"
        )
    return days * DAY_US


def check_since(since: Since, asked: Entry, keep_us: int | None, kept: Entry) -> None:
    """Refuse history that would be dropped again: candles may be built from trades, so it concerns both kinds."""
    if keep_us is None:
        return
    if since.at_us is not None:
        raise ConfigError(
            f"{kept.origin}: {kept.key} is {shown(kept.text)}, but since is the date {shown(asked.text)} "
            f"({asked.origin}), from which it will be further one day: write since as a duration, such as 7d"
        )
    if (since.duration_s or 0) * SECOND_US > keep_us:
        raise ConfigError(
            f"{kept.origin}: {kept.key} is {shown(kept.text)}, but since wants {shown(asked.text)} ({asked.origin}): "
            "what is fetched would be dropped again; shorten since or keep it longer"
        )


def kept_from(keep_us: int, now_us: int) -> int:
    """What is older than this is dropped: the beginning of a day, UTC."""
    return (now_us - keep_us) // DAY_US * DAY_US


def sentences(keeps_us: Mapping[Kind, int | None], now_us: int) -> list[str]:
    """What is not kept, for people."""
    return [
        f"{kind} from before {_date(kept_from(keep_us, now_us))} are not kept (retention_{kind} = {keep_us // DAY_US}d)"
        for kind, keep_us in keeps_us.items()
        if keep_us is not None
    ]


def _date(ts_us: int) -> str:
    return f"{datetime.fromtimestamp(ts_us / SECOND_US, UTC):%Y-%m-%d}"


def check_backfill(kind: Kind, keep_us: int | None, from_us: int, now_us: int) -> None:
    """Refuse to fetch what would be dropped again."""
    if keep_us is not None and from_us < kept_from(keep_us, now_us):
        days = keep_us // DAY_US
        raise ConfigError(
            f"retention_{kind} is {days}d, so what is older would be dropped again: ask for less, or keep it longer"
        )
