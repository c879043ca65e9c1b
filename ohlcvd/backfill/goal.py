"""What one backfill is about, and how far it is: ranges against coverage. Pure.

Everything is whole minutes. The end lies so far back that candles are final and a running service has its live edge
beyond it. What the venue does not give counts as settled, but not as covered.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ohlcvd import coverage
from ohlcvd.coverage import Range
from ohlcvd.errors import UsageError
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.market import MINUTE_US, SECOND_US, Kind, minute_of
from ohlcvd.repair import plan

# A running service has everything covered that is older than this.
SETTLED_US: Final = 20 * SECOND_US
_NEVER_US: Final = 250_000_000_000_000_000


class Order(NamedTuple):
    """What was asked for. `until_us` None: up to now; `kind` None: all that the service collects."""

    exchange: str
    symbol: str
    since_us: int
    until_us: int | None = None
    kind: Kind | None = None


class Goal(NamedTuple):
    """What is to be complete: `kinds` in [lower_us, upper_us), both on the minute.

    `repairs` are the kinds that a RepairScheduler is told; it fetches by itself the trades that candles are built from.
    """

    exchange: str
    symbol: str
    kinds: tuple[Kind, ...]
    repairs: tuple[Kind, ...]
    lower_us: int
    upper_us: int

    def ending_before(self, now_us: int) -> "Goal":
        """The same, as far as it has happened by then. UsageError if nothing of it has."""
        upper_us = min(self.upper_us, minute_of(now_us - SETTLED_US))
        if upper_us <= self.lower_us:
            raise UsageError("--since is less than a minute ago: there is no whole minute to fetch yet")
        return self._replace(upper_us=upper_us)


class Standing(NamedTuple):
    """How far one kind is. The three make up the goal; `lost` is what the venue does not give."""

    kind: Kind
    covered: list[Range]
    lost: list[Range]
    missing: list[Range]

    @property
    def settled_us(self) -> int:
        """How much is covered or lost."""
        return coverage.duration(self.covered) + coverage.duration(self.lost)


def goal_of(order: Order, service: str, now_us: int) -> Goal:
    """What an order means where `service` (ohlcv, trade or both) is collected. UsageError if it means nothing."""
    collected: tuple[Kind, ...] = ("candles",) if service == "ohlcv" else ("trades", "candles")
    if order.kind is not None and order.kind not in collected:
        raise UsageError(f"{order.kind} are not collected: service is {service}; set it to both, or ask for candles")
    if order.until_us is not None and order.until_us <= order.since_us:
        raise UsageError("--until is not after --since")
    kinds = collected if order.kind is None else (order.kind,)
    lower_us = minute_of(order.since_us)
    # Without candles of the venue, the scheduler builds them from trades.
    repairs: tuple[Kind, ...] = ("trades",) if service == "trade" else kinds
    until_us = now_us if order.until_us is None else -(-order.until_us // MINUTE_US) * MINUTE_US
    goal = Goal(order.exchange, order.symbol, kinds, repairs, lower_us, until_us)
    return goal.ending_before(now_us)


def reach(rules: VenueRules, service: str, now_us: int) -> int:
    """Candles that open before this are built from trades."""
    return _NEVER_US if service == "trade" else plan.reach(rules, now_us)


def standing(goal: Goal, kind: Kind, covered: Sequence[Range], lost: Iterable[Range]) -> Standing:
    """What of the goal is covered, lost and missing."""
    whole = [(goal.lower_us, goal.upper_us)]
    inside = coverage.intersect(whole, covered)
    gone = coverage.subtract(coverage.intersect(whole, coverage.normalise(lost)), inside)
    return Standing(kind, inside, gone, coverage.subtract(coverage.subtract(whole, inside), gone))


def lost_candles(candles: Iterable[Range], trades: Iterable[Range], reach_us: int) -> list[Range]:
    """Minutes that will not come: those that the venue does not give, and older ones whose trades it does not give."""
    built = [(minute_of(lower), -(-upper // MINUTE_US) * MINUTE_US) for lower, upper in trades]
    old, recent = [(0, reach_us)], [(reach_us, _NEVER_US)] if reach_us < _NEVER_US else []
    return coverage.normalise(
        [*coverage.intersect(coverage.normalise(built), old), *coverage.intersect(coverage.normalise(candles), recent)]
    )
