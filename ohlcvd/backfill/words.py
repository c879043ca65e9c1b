"""The sentences that a backfill ends with. Pure."""

from collections.abc import Mapping, Sequence

from ohlcvd import coverage
from ohlcvd.backfill.goal import Goal, Standing
from ohlcvd.backfill.progress import Meter
from ohlcvd.market import Kind
from ohlcvd.report.times import length, minute, moment


def ended(goal: Goal, standings: Sequence[Standing], rows: int) -> str:
    """Nothing is missing any more: what is complete, and what the venue does not give."""
    market = f"{goal.exchange} {goal.symbol}"
    stretch = f"from {minute(goal.lower_us)} to {minute(goal.upper_us)} (UTC)"
    fetched = f"{rows:,} rows are new" if rows else "nothing had to be fetched"
    lost = [one for one in standings if one.lost]
    if not lost:
        return f"{market}: {_and([one.kind for one in standings])} {stretch} are complete; {fetched}"
    whole = [one.kind for one in standings if not one.lost]
    complete = f"{_and(whole)} are complete, " if whole else ""
    parts = _and([_lost(one) for one in lost])
    return f"{market} {stretch}: {complete}{parts}; {fetched}; `ohlcvd gaps {market}` shows why"


def interrupted(goal: Goal, meters: Mapping[Kind, Meter], *, left_rows: int, others_go_on: bool) -> str:
    """Somebody stopped it. No meters: before it was known how far it is."""
    if not meters:
        return f"{goal.exchange} {goal.symbol}: stopped before anything was fetched"
    far = ", ".join(f"{kind} {meter.percent} %" for kind, meter in meters.items())
    resumes = (
        "the running ohlcvd goes on with it"
        if others_go_on
        else "what was fetched is stored, and the same command goes on from here"
    )
    if left_rows:
        resumes = f"{left_rows:,} rows could not be stored and are fetched again by the same command"
    return f"{goal.exchange} {goal.symbol}: stopped at {far}; {resumes}"


def _lost(one: Standing) -> str:
    gaps = "1 gap" if len(one.lost) == 1 else f"{len(one.lost)} gaps"
    first = one.lost[0]
    return (
        f"{one.kind} are complete but for {gaps} of {length(coverage.duration(one.lost))} that the venue does not "
        f"give, the first from {moment(first[0])} to {moment(first[1])}"
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join(words)
