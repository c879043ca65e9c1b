"""When is a venue's candle final? Pure: the venue's time is an argument.

A `MinuteBook` follows one market's candle stream and decides its minutes strictly in order, each once:

- `flag`: the venue marks the last state of a minute as closed (Binance). Nothing else makes it final.
- `stream`: no flag, but an ordered stream that sends the whole candle at every trade (Kraken). A minute is final when
  it ended `grace_us` ago and the subscription has been unbroken since it began, or since a state of it was seen.
- `ask`: nothing is known about the stream; the venue is asked over REST for every minute.

Whatever the stream cannot decide is asked over REST (`asks`, `answered`). Invariant: `next_us` only moves past minutes
whose candle was given out or that are known to be empty; `skipped` names those that the venue no longer has.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from ohlcvd.market import MINUTE_US, Candle, minute_of

Finality = Literal["flag", "stream", "ask"]

DEFAULT_GRACE_US = 3_000_000
# Venues correct candles minutes later; so many decided ones are remembered to tell a correction from a repetition.
KEPT_MINUTES = 20


class Decision(NamedTuple):
    """Minutes `[lower_us, upper_us)` are final; `candles` are those of them with trades, oldest first."""

    lower_us: int
    upper_us: int
    candles: list[Candle]


class MinuteBook:
    """The undecided and the last decided minutes of one market."""

    def __init__(self, finality: Finality, *, sends_empty: bool, grace_us: int = DEFAULT_GRACE_US) -> None:
        """`sends_empty`: the venue's REST answers have a row for every minute, also for one without trades."""
        self.finality = finality
        self.sends_empty = sends_empty
        self.grace_us = grace_us
        self.start_us: int | None = None  # the first minute it was ever asked to decide
        self.next_us: int | None = None
        self.skipped: list[tuple[int, int]] = []
        self._unbroken_from_us: int | None = None
        self._states: dict[int, tuple[Candle, bool]] = {}
        self._final: dict[int, Candle] = {}

    def subscribed(self, venue_us: int) -> None:
        """From `venue_us` on no update is missed. The first time, collection begins with the minute of it."""
        self._unbroken_from_us = venue_us
        if self.next_us is None:
            self.start_us = self.next_us = minute_of(venue_us)

    def interrupted(self) -> None:
        """Updates may be missed from here on: states that are not marked closed are worth nothing any more."""
        self._unbroken_from_us = None
        self._states = {ts_us: state for ts_us, state in self._states.items() if state[1]}

    def seen(self, candle: Candle, closed: bool) -> Candle | None:
        """One state from the stream. Returns the candle when it corrects a minute that was already decided."""
        if self.next_us is not None and candle.ts_us < self.next_us:
            return self._correction(candle)
        known = self._states.get(candle.ts_us)
        if known is None or closed or not (known[1] or _is_older(candle, known[0])):
            self._states[candle.ts_us] = (candle, closed)
        return None

    def forming(self) -> Candle | None:
        """The newest state seen, final or not."""
        return self._states[max(self._states)][0] if self._states else None

    def decide(self, now_us: int) -> Decision | None:
        """Give out the minutes that the stream alone makes final by the venue time `now_us`."""
        if self.next_us is None:
            return None
        lower_us = ts_us = self.next_us
        if ts_us + MINUTE_US + self.grace_us > now_us and not (ts_us in self._states and self._states[ts_us][1]):
            return None  # nearly always
        candles = []
        while True:
            state = self._states.get(ts_us)
            ended = ts_us + MINUTE_US + self.grace_us <= now_us
            if not ((state is not None and state[1]) or (ended and self._is_final(ts_us))):
                break
            if state is not None and _has_trades(state[0]):
                candles.append(state[0])
            ts_us += MINUTE_US
        return self._give_out(lower_us, ts_us, candles)

    def asks(self, now_us: int) -> int | None:
        """The open time from which the venue has to be asked over REST now, or None."""
        if self.next_us is None or self.next_us + MINUTE_US + self.grace_us > now_us:
            return None
        state = self._states.get(self.next_us)
        return None if (state is not None and state[1]) or self._is_final(self.next_us) else self.next_us

    def answered(self, rows: Sequence[Candle], now_us: int) -> Decision | None:
        """The venue's REST answer, oldest first, asked at venue time `now_us`.

        A minute without a row is empty only when a later row proves that the answer reaches past it.
        """
        if self.next_us is None or not rows:
            return None
        if self.sends_empty and rows[0].ts_us > self.next_us:
            # the venue's memory does not reach back that far
            self.skipped.append((self.next_us, rows[0].ts_us))
            self.next_us = rows[0].ts_us
        by_time = {row.ts_us: row for row in rows}
        last_us = rows[-1].ts_us
        lower_us = ts_us = self.next_us
        candles = []
        while ts_us <= last_us and ts_us + MINUTE_US + self.grace_us <= now_us:
            row = by_time.get(ts_us)
            if row is not None and _has_trades(row):
                candles.append(row)
            ts_us += MINUTE_US
        return self._give_out(lower_us, ts_us, candles)

    def _is_final(self, ts_us: int) -> bool:
        if self.finality != "stream" or self._unbroken_from_us is None:
            return False
        return self._unbroken_from_us <= ts_us or ts_us in self._states

    def _give_out(self, lower_us: int, upper_us: int, candles: list[Candle]) -> Decision | None:
        if upper_us == lower_us:
            return None
        self.next_us = upper_us
        self._states = {ts_us: state for ts_us, state in self._states.items() if ts_us >= upper_us}
        self._final.update((candle.ts_us, candle) for candle in candles)
        for ts_us in [ts_us for ts_us in self._final if ts_us < upper_us - KEPT_MINUTES * MINUTE_US]:
            del self._final[ts_us]
        return Decision(lower_us, upper_us, candles)

    def confirmed(self, rows: Sequence[Candle]) -> list[Candle]:
        """A later REST answer about minutes decided before: those that it has otherwise. The venue's word counts."""
        if self.start_us is None or self.next_us is None:
            return []
        decided = (row for row in rows if self.start_us <= row.ts_us < self.next_us and _has_trades(row))
        changed = [row for row in decided if not _is_same(row, self._final.get(row.ts_us))]
        self._final.update((row.ts_us, row) for row in changed)
        return changed

    def _correction(self, candle: Candle) -> Candle | None:
        assert self.start_us is not None
        assert self.next_us is not None
        oldest_us = max(self.start_us, self.next_us - KEPT_MINUTES * MINUTE_US)
        if candle.ts_us < oldest_us or not _has_trades(candle):
            return None
        final = self._final.get(candle.ts_us)
        if final is not None and (_is_same(candle, final) or _is_older(candle, final)):
            return None
        self._final[candle.ts_us] = candle
        return candle


def _has_trades(candle: Candle) -> bool:
    return candle.trades != 0 and candle.volume.strip("0.") != ""


def _is_older(candle: Candle, than: Candle) -> bool:
    """A state of the same minute with fewer trades or less volume was sent earlier: a candle only grows."""
    if candle.trades is not None and than.trades is not None and candle.trades != than.trades:
        return candle.trades < than.trades
    return Decimal(candle.volume) < Decimal(than.volume)


def _is_same(candle: Candle, other: Candle | None) -> bool:
    """Whether they say the same; venues write more or fewer zeros over REST."""
    if other is None or (None not in (candle.trades, other.trades) and candle.trades != other.trades):
        return False
    return all(a == b or Decimal(a) == Decimal(b) for a, b in zip(candle[1:6], other[1:6], strict=True))
