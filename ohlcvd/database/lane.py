"""What repair has fetched, until it is committed: in slices, between the batches of what comes live. No I/O.

Rows of history wait in a line of their own. Live rows are committed first, and never wait for more than one slice of
history. Within the line everything is committed in its order, so a claim still follows the rows that it speaks of.
Claims that are taken back go with the live rows: what waits here of such a claim is struck out at once, so that the
order of the two lines does not matter.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ohlcvd import coverage
from ohlcvd.database.batch import Ordinals, Pending
from ohlcvd.market import Candle, Instrument, Kind, Trade

# Of one transaction while live rows come: some 4 ms.
SLICE_ROWS: Final = 500


class _Rows(NamedTuple):
    """Rows handed over together, and when."""

    instrument: Instrument
    rows: Sequence[Trade] | Sequence[Candle]
    kind: Kind
    at_s: float


class _Claim(NamedTuple):
    """What is complete when the rows before it are stored."""

    instrument: Instrument
    kind: Kind
    ranges: list[coverage.Range]


class HistoryLane:
    """A `store.Store` for repair. `added` is told how many rows came, `uncover` takes claims back."""

    def __init__(
        self,
        added: Callable[[int], None],
        uncover: Callable[[Instrument, Kind, int, int], None],
        now_s: Callable[[], float],
    ) -> None:
        self.rows = 0
        self.uncover = uncover
        self._added = added
        self._now_s = now_s
        self._waiting: deque[_Rows | _Claim] = deque()
        self._ordinals = Ordinals()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    @property
    def since_s(self) -> float | None:
        """Since when the oldest row waits, monotonic; None: there is none."""
        return next((one.at_s for one in self._waiting if isinstance(one, _Rows)), None)

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        """Trades in the venue's order, validated."""
        self._add(_Rows(instrument, trades, "trades", self._now_s()))

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        """Closed minutes that had a trade, validated."""
        self._add(_Rows(instrument, candles, "candles", self._now_s()))

    def _add(self, rows: _Rows) -> None:
        self._waiting.append(rows)
        self.rows += len(rows.rows)
        self._added(len(rows.rows))

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """Claim [lower_us, upper_us) complete: everything of it has been added before this call."""
        self._waiting.append(_Claim(instrument, kind, [(lower_us, upper_us)]))
        self._added(0)

    def strike(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        """What was claimed before this call of [lower_us, upper_us) is not claimed."""
        gone = coverage.normalise([(lower_us, upper_us)])
        for place, one in enumerate(self._waiting):
            if isinstance(one, _Claim) and (one.instrument, one.kind) == (instrument, kind):
                self._waiting[place] = one._replace(ranges=coverage.subtract(one.ranges, gone))

    def take(self, most: int) -> Pending:
        """The oldest rows as one batch, at most so many, and the claims that follow them."""
        pending = Pending()
        left = most
        while self._waiting:
            one = self._waiting[0]
            if isinstance(one, _Claim):
                for lower_us, upper_us in one.ranges:
                    pending.cover(one.instrument, one.kind, lower_us, upper_us)
            elif left <= 0:
                break
            else:
                self._put(pending, one._replace(rows=one.rows[:left]))
                if len(one.rows) > left:
                    self._waiting[0] = one._replace(rows=one.rows[left:])
                    break
                left -= len(one.rows)
            self._waiting.popleft()
        return pending

    def _put(self, pending: Pending, one: _Rows) -> None:
        if one.kind == "trades":
            pending.add_trades(one.instrument, one.rows, self._ordinals)  # type: ignore[arg-type]
        else:
            pending.add_candles(one.instrument, one.rows)  # type: ignore[arg-type]
        self.rows -= len(one.rows)
        pending.arrivals.add(len(one.rows), one.at_s)
