"""`ohlcvd backfill`: history of one market, now.

It records what is wanted and waits until coverage has it, or the rest is recorded as what the venue does not give.
A running service that collects the market sees what is wanted and fetches it; then this only watches. Otherwise the
same repair as the service's runs here, and ends where the other one begins. So nothing is fetched twice, and an
interrupted backfill resumes by being run again: what is covered is not missing any more.

`goal.py` says what is wanted and what of it is missing (pure), `service.py` who fetches it, `fetch.py` fetches,
`progress.py` and `words.py` tell, and `command.py` puts them together.
"""

from ohlcvd.backfill.command import run
from ohlcvd.backfill.goal import Order

__all__ = ["Order", "run"]
