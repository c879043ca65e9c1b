"""Ids for trades of venues that send none. Pure."""


class IdMaker:
    """Ids for trades without one: the same trades give the same ids, in a stream and in a page of history."""

    def __init__(self) -> None:
        self._ts_us = 0
        self._equals: dict[str, int] = {}

    def id_of(self, ts_us: int, price: str, amount: str, side: str) -> str:
        if ts_us != self._ts_us:
            self._ts_us = ts_us
            self._equals.clear()
        same = f"{ts_us}-{price}-{amount}-{side}"
        ordinal = self._equals[same] = self._equals.get(same, 0) + 1
        return f"{same}-{ordinal}"
