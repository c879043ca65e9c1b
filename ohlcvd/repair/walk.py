"""Through one stretch of missing trades, page by page, upwards in time. Pure: pages and times are arguments.

A `TradeWalk` says what to ask (`ask`) and judges the answer (`take`): which rows to store, what may be claimed, what is
lost, and whether the walk is over. Its rules:

- Every page begins with a row that is known already, and that seam is checked. Where ids are sequential, every id from
  there on must be present.
- After a page, everything up to the time of its last trade is claimed, not that moment itself: more trades of the same
  microsecond may follow on the next page.
- The end is reached when a trade at or after `upper` was seen, or when the venue has nothing after a row that is known,
  asked so late that whatever happened before `upper` must be there.
- An answer without any row, or without the row that it was asked from, proves nothing. It is asked again, and after
  DOUBTS_ALLOWED times the rest of the stretch is lost, with what was asked and what came back.
- Below the first row of a stretch lies what was not asked for: where ids are sequential nothing is claimed before it is
  known that the ids join, unless `trusts_lower` says that there is nothing to join with. Even then a row from before
  the stretch is looked for, further and further back: the first ids of a stretch may be what the venue does not give.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.exchange.sink import TradePage
from ohlcvd.market import SECOND_US, Trade

# What happened at the venue is in its history at most so much later.
PROOF_LAG_US = 10 * SECOND_US
DOUBTS_ALLOWED = 3
# A page that asks for fewer rows saves nothing, and tells less.
MIN_ROWS = 50
# How far before an empty stretch one looks for a row that shows the venue to be answering at all.
_LOOK_BACK_US = (3_600 * SECOND_US, 86_400 * SECOND_US, 30 * 86_400 * SECOND_US)
_FIRST_ID = 1  # of a market; some begin with 0
_MOMENT_US = 1_000  # the resolution of cursors by time
# How far before a hole one looks for the row that its first one joins: for so many rows, and not further than this.
_ANCHOR_ROWS = 10
_ANCHOR_US = 10 * SECOND_US
# Of a stretch of which nothing is known it is supposed that no page holds all of it.
_LONG_US = 3_600 * SECOND_US

Reason = Literal["unfillable", "venue has no history"]


class Ask(NamedTuple):
    """One page, as `ExchangeHandler.get_trades` wants it: from an id or cursor, or from a time."""

    from_id: str | None
    since_us: int | None
    limit: int | None

    def __str__(self) -> str:
        start = f"from {self.from_id}" if self.from_id is not None else f"since {self.since_us} us"
        return f"trades {start}, limit {self.limit}"


class Lost(NamedTuple):
    """Something in `gap` that the venue did not give. `ids` is "123", "123-125" or "", where ids tell nothing."""

    gap: Range
    ids: str
    asked: str
    answered: str
    reason: Reason = "unfillable"


class Step(NamedTuple):
    """What follows from one answer: to be stored, then claimed. `doubt`: the answer proves nothing, and why."""

    trades: list[Trade]
    claims: list[Range]
    lost: list[Lost]
    is_done: bool
    doubt: str | None = None


class TradeWalk:
    """One walk through `hole`. `take` must get the answer to the last `ask`."""

    def __init__(
        self,
        hole: Range,
        rules: VenueRules,
        *,
        near: Trade | None = None,
        far: Trade | None = None,
        trusts_lower: bool = False,
        trades_per_s: float | None = None,
    ) -> None:
        """`near`: the newest stored trade before the hole, if nothing is missing between the two. `far`: the oldest one
        behind it, and `trades_per_s`, an estimate, only save rows. `trusts_lower`: nothing below the hole can tell
        whether the first row is the first one, so the venue is believed."""
        self.hole = hole
        self.rows = 0
        self._rules = rules
        self._last = near
        self._far = far
        self._trades_per_s = trades_per_s
        believed = rules.trades_depth == "full" and (trusts_lower or not rules.sequential_ids)
        self._position: int | None = hole[0] if near is not None or believed else None
        self._start_us = hole[0]
        self._cursor: str | None = None
        self._back_us = rules.trades_back_us
        if near is None and rules.sequential_ids:
            # a row from before the hole shows that the first one in it is the first one
            self._back_us += int(min(_ANCHOR_US, _ANCHOR_ROWS * SECOND_US / max(trades_per_s or 0.0, 1e-9)))
        self._known: set[str] = set() if near is None else {near.id}
        self._doubts = 0
        self._looks = 0  # for a row from before the hole, which its first one joins
        self._is_looking = False
        self._was_full = False  # the page before was full of rows that are known: the venue does answer
        self._largest = MIN_ROWS
        self._asked = Ask(None, None, None)

    @property
    def trades_per_s(self) -> float | None:
        """How dense the trades seen are."""
        return self._trades_per_s

    @property
    def not_before_us(self) -> int:
        """The venue's time before which a question would be in vain: it reaches the end, and could not prove it."""
        upper = self.hole[1]
        if self._far is not None:
            return 0
        from_us = self._start_us if self._last is None else max(self._start_us, self._last.ts_us)
        if self._trades_per_s is None:
            is_long = upper - from_us > _LONG_US
        else:
            is_long = self._trades_per_s * (upper - from_us) / SECOND_US > (self._rules.trades_page or MIN_ROWS)
        return 0 if is_long else upper + PROOF_LAG_US

    def extend(self, upper_us: int) -> None:
        """The stretch reaches further than was known."""
        self.hole = (self.hole[0], max(self.hole[1], upper_us))
        if self._far is not None and self._far.ts_us < upper_us:
            self._far = None

    # asking

    def ask(self) -> Ask:
        """The next page. The same again as long as no answer was taken."""
        limit = self._limit()
        if self._last is None:
            self._asked = Ask(None, self._since(self._start_us), limit)
        elif self._rules.trades_cursor == "id":
            self._asked = Ask(self._last.id, None, limit)
        elif self._cursor is not None:
            self._asked = Ask(self._cursor, None, limit)
        else:
            self._asked = Ask(None, self._since(self._last.ts_us), limit)
        return self._asked

    def _since(self, ts_us: int) -> int:
        since_us = max(0, ts_us - self._back_us)
        # rows before what is asked for are cut off: a floored answer would not be seen to be full
        return since_us - since_us % _MOMENT_US if self._rules.trades_cursor == "time" else since_us

    def _limit(self) -> int | None:
        """As many rows as are needed: a hole's last page would bring many that lie behind it."""
        page = self._rules.trades_page
        if page is None or self._doubts:
            return page
        if self._is_looking:
            return min(page, MIN_ROWS)
        needed = float(page)
        from_us = self._start_us if self._last is None else self._last.ts_us
        if self._far is not None and self._last is not None and self._rules.sequential_ids:
            needed = int(self._far.id) - int(self._last.id) + 5
        elif self._trades_per_s is not None:
            needed = 1.2 * self._trades_per_s * (self.hole[1] - from_us) / SECOND_US + 10
        return page if needed < 0 else min(page, max(MIN_ROWS, int(needed)))

    # judging

    def take(self, page: TradePage, asked_us: int) -> Step:
        """The answer to `ask`, asked at the venue's time `asked_us`."""
        rows = self._in_order(page.trades)
        self.rows += len(rows)
        if not rows:
            return self._doubtful("no rows at all", asked_us)
        is_anchored = self._last is None and self._anchor(rows)
        self._is_looking = self._last is None and self._looks_below(rows)
        if self._is_looking:
            return Step([], [], [], is_done=False)
        fresh = self._fresh(rows)
        is_joined = self._last is None or any(row.id == self._last.id for row in rows)
        is_full = self._is_full(rows)
        self._largest = max(self._largest, len(rows))
        if not fresh and is_full:
            return Step([], [], [], is_done=False) if is_anchored else self._stuck(page.next_cursor, len(rows))
        if not fresh and not is_joined:
            return self._doubtful(f"rows up to {rows[-1].id} only, without the row asked from", asked_us)
        lost = [] if is_joined or self._rules.sequential_ids else [self._broken_seam(fresh[0])]
        is_last = not fresh or self._is_short(page)
        return self._advance(rows, fresh, lost, page.next_cursor, asked_us, is_last=is_last)

    def _in_order(self, trades: Sequence[Trade]) -> list[Trade]:
        if self._rules.sequential_ids:
            return sorted(trades, key=lambda trade: int(trade.id))
        return list(trades)

    def _anchor(self, rows: Sequence[Trade]) -> bool:
        """Without a known row, one from before the hole, if the answer has it, is as good."""
        before = [row for row in rows if row.ts_us < self.hole[0]]
        if before and not self._was_full:
            self._last = before[-1]
            self._position = self.hole[0]
            self._known = {row.id for row in before}
            return True
        return False

    def _looks_below(self, rows: Sequence[Trade]) -> bool:
        """Whether to ask from further back: the venue is believed, and the first id says that there were others."""
        is_believed = self._rules.sequential_ids and self._position is not None and not self._was_full
        if not is_believed or int(rows[0].id) <= _FIRST_ID or self._looks >= len(_LOOK_BACK_US):
            return False
        back_us = _LOOK_BACK_US[self._looks]
        if self._looks == 0 and len(rows) > 1:
            mean_us = (rows[-1].ts_us - rows[0].ts_us) // (len(rows) - 1)
            back_us = min(back_us, max(6 * _ANCHOR_US, _ANCHOR_ROWS * mean_us))
        self._looks += 1
        self._start_us = self.hole[0] - back_us
        return True

    def _fresh(self, rows: Sequence[Trade]) -> list[Trade]:
        last = self._last
        if last is None:
            return [row for row in rows if row.ts_us >= self._start_us]
        if self._rules.sequential_ids:
            return [row for row in rows if int(row.id) > int(last.id)]
        return [row for row in rows if row.ts_us >= last.ts_us and row.id not in self._known]

    def _is_full(self, rows: Sequence[Trade]) -> bool:
        most = self._asked.limit if self._asked.limit is not None else self._largest
        return len(rows) >= most

    def _is_short(self, page: TradePage) -> bool:
        """So far from full that the venue had no more. A little short means nothing: pages end between moments."""
        limit = self._asked.limit
        return page.next_cursor is None and limit is not None and 2 * len(page.trades) <= limit

    def _advance(
        self, rows: list[Trade], fresh: list[Trade], lost: list[Lost], cursor: str | None, asked_us: int, *,
        is_last: bool,
    ) -> Step:  # fmt: skip
        upper = self.hole[1]
        beyond = next((row for row in fresh if row.ts_us >= upper), None)
        kept = [row for row in fresh if row.ts_us < upper or row is beyond]
        lost += self._losses(kept)
        if self._position is None and kept:
            # the first row itself may have siblings below
            self._position = kept[0].ts_us + 1
            if self._rules.trades_depth == "recent":
                lost.append(self._too_old(kept[0]))
        is_proved = beyond is not None or (is_last and asked_us >= upper + PROOF_LAG_US)
        end = upper if is_proved else kept[-1].ts_us if kept else 0
        claims = self._claims(min(end, upper), lost)
        self._estimate(rows)
        self._known = {row.id for row in rows}
        self._cursor = cursor if self._rules.trades_cursor == "page" else None
        self._back_us = self._rules.trades_back_us
        if kept:
            self._last = kept[-1]
            self._doubts, self._was_full = 0, False
        return Step(kept, claims, lost, is_done=is_proved or is_last)

    def _claims(self, end: int, lost: Sequence[Lost]) -> list[Range]:
        """Move the position to `end`, and beyond what is lost: the next page's claim must not speak of it."""
        if self._position is None:
            return []
        gaps = coverage.normalise(one.gap for one in lost)
        claims = coverage.subtract([(self._position, end)], gaps) if end > self._position else []
        self._position = max([self._position, end, *(gap[1] for gap in gaps)])
        return claims

    def _losses(self, kept: Sequence[Trade]) -> list[Lost]:
        """What is missing between the rows; a missing trade's time is that of a neighbour or between them."""
        chain = list(kept) if self._last is None else [self._last, *kept]
        if self._rules.sequential_ids:
            return [self._missing_ids(a, b) for a, b in pairwise(chain) if int(b.id) != int(a.id) + 1]
        return []

    def _missing_ids(self, before: Trade, after: Trade) -> Lost:
        first, last = int(before.id) + 1, int(after.id) - 1
        ids = str(first) if first == last else f"{first}-{last}"
        answered = f"{before.id} and then {after.id}"
        return Lost((before.ts_us, after.ts_us + 1), ids, str(self._asked), answered)

    def _broken_seam(self, first: Trade) -> Lost:
        """Ids tell nothing and the row asked from is not there: the answer may begin later than it should."""
        assert self._last is not None
        gap = (self._last.ts_us, max(self._last.ts_us, first.ts_us) + 1)
        answered = f"rows from {first.ts_us} us on, without trade {self._last.id} of {self._last.ts_us} us"
        recent = self._rules.trades_depth == "recent"
        return Lost(gap, "", str(self._asked), answered, "venue has no history" if recent else "unfillable")

    def _too_old(self, first: Trade) -> Lost:
        gap = (self.hole[0], max(self.hole[0] + 1, min(first.ts_us + 1, self.hole[1])))
        answered = f"rows from {first.ts_us} us on only"
        return Lost(gap, "", str(self._asked), answered, "venue has no history")

    def _doubtful(self, answered: str, asked_us: int) -> Step:
        self._doubts += 1
        if self._last is None and not self._was_full:
            self._start_us = self.hole[0] - _LOOK_BACK_US[min(self._doubts, len(_LOOK_BACK_US)) - 1]
        self._cursor = None
        if self._doubts < DOUBTS_ALLOWED:
            return Step([], [], [], is_done=False, doubt=answered)
        if self._was_full and asked_us >= self.hole[1] + PROOF_LAG_US:
            claims, lost = ([], []) if self._last is None else self._skip_moment("a full page, and nothing after it")
            return Step([], claims + self._claims(self.hole[1], lost), lost, is_done=True)
        lower = self.hole[0] if self._position is None else self._position
        reason: Reason = "venue has no history" if self._last is None else "unfillable"
        lost = [Lost((lower, self.hole[1]), "", str(self._asked), answered, reason)] if lower < self.hole[1] else []
        return Step([], [], lost, is_done=True, doubt=answered)

    def _stuck(self, cursor: str | None, rows: int) -> Step:
        """A full page of known rows: more trades share one moment than an answer holds."""
        if self._rules.trades_cursor == "page" and cursor not in (None, self._cursor):
            self._cursor = cursor
            return Step([], [], [], is_done=False)
        self._was_full = True
        if self._back_us or self._cursor is not None:
            # a venue that leaves out the very moment asked from is asked one microsecond earlier
            self._back_us, self._cursor = 1 if self._back_us > 1 else 0, None
            return Step([], [], [], is_done=False)
        claims, lost = self._skip_moment(f"{rows} rows of that one moment and no way to ask for more")
        return Step([], claims, lost, is_done=self._start_us >= self.hole[1])

    def _skip_moment(self, answered: str) -> tuple[list[Range], list[Lost]]:
        """Go on behind the moment of the last row, which may have had more trades than were given."""
        at_us = self._start_us if self._last is None else self._last.ts_us
        moment = at_us - at_us % _MOMENT_US
        gap = (moment, moment + _MOMENT_US)
        self._start_us = max(gap[1], self.hole[0])
        lost = [Lost(gap, "", str(self._asked), answered)] if gap[1] > self.hole[0] else []
        self._position = self.hole[0] if self._position is None else self._position
        claims = self._claims(moment, lost)
        self._last, self._known, self._back_us = None, set(), self._rules.trades_back_us
        return claims, lost

    def _estimate(self, rows: Sequence[Trade]) -> None:
        span_us = rows[-1].ts_us - rows[0].ts_us
        if len(rows) >= MIN_ROWS and span_us > 0:
            self._trades_per_s = len(rows) * SECOND_US / span_us
