"""Looks into the database how far a goal is. ServiceUnavailable when it cannot be reached."""

import time

from ohlcvd.backfill.goal import Goal, Standing, lost_candles, reach, standing
from ohlcvd.database import Database
from ohlcvd.database.repairs import unfillable_of
from ohlcvd.exchange.limits import rules_of
from ohlcvd.market import Instrument


async def standings_of(database: Database, instrument: Instrument, goal: Goal, service: str) -> list[Standing]:
    """One for each kind of the goal. `service` is what is collected: ohlcv, trade or both."""
    found = []
    for kind in goal.kinds:
        lost = [(one.lower_us, one.upper_us) for one in await unfillable_of(database, instrument.id, kind)]
        if kind == "candles":
            trades = [(one.lower_us, one.upper_us) for one in await unfillable_of(database, instrument.id, "trades")]
            lost = lost_candles(lost, trades, reach(rules_of(goal.exchange), service, time.time_ns() // 1000))
        found.append(standing(goal, kind, await database.coverage(instrument.id, kind), lost))
    return found
