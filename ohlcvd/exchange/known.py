"""What an exchange listed when it was last asked, on disk: a child that starts again soon need not ask for it.

The file holds every symbol (and whether it is traded), and the whole structures of those markets only that the child
collects; it is written whole or not at all. One that cannot be used for whatever reason is as good as none.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ohlcvd.log import get_component_logger

_FORM = 1  # of the file
# Markets are asked for again soon after the start, but what begins with older ones might begin with wrong ones.
LISTING_AGE_S = 6 * 3600.0

log = get_component_logger("ohlcvd.exchange.known")


class Known(NamedTuple):
    """`read_s`: when it was asked, by the system's clock. `markets` are ccxt's structures."""

    read_s: float
    listed: dict[str, bool]
    markets: list[dict[str, Any]]


class KnownFile:
    """One child's file. `source` names where the answer came from; a file from elsewhere is not used."""

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source

    def load(self, now_s: float) -> Known | None:
        """None if there is nothing fresh."""
        try:
            document = orjson.loads(self._path.read_bytes())
            if (document["form"], document["source"]) != (_FORM, self._source):
                return None
            known = Known(float(document["read_s"]), dict(document["listed"]), list(document["markets"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning(
                "%s cannot be used, the exchange is asked instead: %s: %s", self._path, type(error).__name__, error
            )
            return None
        return known if 0 <= now_s - known.read_s <= LISTING_AGE_S else None

    def save(self, read_s: float, listed: Mapping[str, bool], markets: Sequence[Mapping[str, Any]]) -> None:
        """Replace what is there. A disk that does not take it is told of, and the next start asks the exchange."""
        document = {
            "form": _FORM, "source": self._source, "read_s": read_s, "listed": dict(listed), "markets": list(markets),
        }  # fmt: skip
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_bytes(orjson.dumps(document, default=str))
            os.replace(new, self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s; the next start asks the exchange", self._path, error.strerror)
