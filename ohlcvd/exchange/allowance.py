"""How often a venue may be asked, and when the next question may go out: one allowance for all that asks over REST.

Questions leave live ones first, then in the order in which they came, evenly spaced. What is lost by waking up late is
made up for, so that the venue's limit is used up when there is enough to ask. Where the venue counts questions by
market (Kraken's Trades and OHLC), each market has a spacing of its own, and those of several markets go side by side.

A venue that refuses knows best: whatever it let pass in the seconds before is the rate from then on, and it grows again
slowly. While it wants to be left alone nothing is asked at all.
"""

import asyncio
import time
from collections import deque
from typing import Final, NamedTuple

from ohlcvd.errors import ExchangeUnavailable
from ohlcvd.exchange.bans import Bans
from ohlcvd.exchange.limits import VenueRules
from ohlcvd.exchange.priority import PriorityLock
from ohlcvd.log import get_component_logger

# How much of a late departure is made up for; not between the questions about one market.
SLACK_S: Final = 0.25
# A refusal is answered by the rate of so many seconds before it.
LOOK_BACK_S: Final = 10.0
LEAST_SHARE: Final = 0.05
GROWTH: Final = 1.5
GROWS_EVERY_S: Final = 5.0
# A venue that wants to be left alone for longer than this is not waited for: whoever asks is told.
PATIENCE_S: Final = 2.0


class Charge(NamedTuple):
    """What one question counts, in seconds at the full rate. `market`: whose own spacing it has, if any."""

    cost_s: float
    market: str | None


class _Spacing:
    """One question after the other, live ones first."""

    def __init__(self) -> None:
        self.lock = PriorityLock()
        self.free_s = 0.0

    async def wait(self) -> None:
        await asyncio.sleep(max(0.0, self.free_s - time.monotonic()))

    def leave(self, cost_s: float, slack_s: float = 0.0) -> None:
        self.free_s = max(self.free_s, time.monotonic() - slack_s) + cost_s


class Allowance:
    """Of one venue in one process."""

    def __init__(self, exchange: str, rules: VenueRules, cost_unit_s: float, bans: Bans | None = None) -> None:
        """`cost_unit_s`: ccxt's rate limit, for a question that costs 1, where the rules have no rate."""
        self._exchange = exchange
        self._rules = rules
        self._unit_s = cost_unit_s
        self._all = _Spacing()
        self._markets: dict[str, _Spacing] = {}
        self._left: deque[tuple[float, float]] = deque()  # when, and the cost
        self._share = 1.0  # of the full rate
        self._grows_s = 0.0
        self._bans = bans or Bans(None, exchange, get_component_logger(f"ohlcvd.exchange.{exchange}"))

    def charge(self, path: str, params: dict[str, object], cost: float) -> Charge:
        """For a question that costs `cost` in ccxt's table."""
        rate = self._rules.requests_per_s
        cost_s = cost * self._unit_s if rate is None else 1 / rate
        is_counted_apart = path in self._rules.paths_by_market
        return Charge(cost_s, str(params.get("pair") or params.get("symbol")) if is_counted_apart else None)

    async def turn(self, charge: Charge) -> None:
        """Until the question may go out. ExchangeUnavailable while the venue wants to be left alone for long."""
        if charge.market is None:
            await self._leave(charge.cost_s)
            return
        spacing = self._markets.setdefault(charge.market, _Spacing())
        async with spacing.lock:
            await spacing.wait()
            await self._leave(charge.cost_s)
            spacing.leave(self._rules.market_spacing_s)

    async def _leave(self, cost_s: float) -> None:
        async with self._all.lock:
            await self._all.wait()
            await self._rest()
            now_s = time.monotonic()
            if self._share < 1.0 and now_s >= self._grows_s:
                self._share, self._grows_s = min(1.0, self._share * GROWTH), now_s + GROWS_EVERY_S
            self._all.leave(cost_s / self._share, SLACK_S)
            self._left.append((now_s, cost_s))
            while self._left[0][0] < now_s - LOOK_BACK_S:
                self._left.popleft()

    async def silence(self) -> None:
        """Until the venue no longer wants to be left alone: not even a connection is opened before."""
        rest_s = self._bans.left_s()
        while rest_s > 0:
            await asyncio.sleep(rest_s)
            rest_s = self._bans.left_s()

    async def _rest(self) -> None:
        rest_s = self._bans.left_s()
        if rest_s > PATIENCE_S:
            raise ExchangeUnavailable(
                f"{self._exchange} wants to be left alone for {rest_s:.0f} s more", retry_after_s=rest_s
            )
        await asyncio.sleep(max(0.0, rest_s))

    def refused(self, retry_after_s: float | None) -> None:
        """The venue said that it is asked too often."""
        now_s = time.monotonic()
        if self._left:
            self._left.pop()  # the refused one
        if now_s >= self._grows_s - GROWS_EVERY_S / 2 or self._share == 1.0:  # several may be refused at once
            passed_s = sum(cost_s for left_s, cost_s in self._left if left_s >= now_s - LOOK_BACK_S)
            # at most half of what it was: when little was asked before, little passed
            self._share = max(LEAST_SHARE, self._share / 2, min(self._share, passed_s / LOOK_BACK_S))
            self._grows_s = now_s + GROWS_EVERY_S
        if retry_after_s is not None:
            self._bans.note(retry_after_s)
