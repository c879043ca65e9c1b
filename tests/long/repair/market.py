"""The truth of the invented market, computed here, and what is stored and claimed held against it.

The market is a function of its settings and the time; knowing them, thousands of ranges can be checked every second
without asking the exchange.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from itertools import pairwise

import psycopg

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.market import MarketSettings, SimulatedMarket
from tests.beside import Beside
from tests.process.harness import Daemon, Exchange
from tests.process.truth import Row, stored_trades, true_candles, true_trades

Columns = list[Decimal]
KINDS = ("trades", "candles")

# What is claimed and what is stored for it, as one snapshot: claims of trades, then whole minutes of candles.
_CLAIMS = """
    SELECT i.exchange, i.symbol, c.kind, (extract(epoch FROM lower(part)) * 1000000)::bigint,
           (extract(epoch FROM upper(part)) * 1000000)::bigint, found.number, found.first, found.last
    FROM ohlcvd.coverage c JOIN ohlcvd.instruments i ON i.id = c.instrument_id, unnest(c.covered) AS part, LATERAL (
        SELECT count(*) AS number, min(trade_id) AS first, max(trade_id) AS last FROM ohlcvd.trades t
        WHERE t.instrument_id = c.instrument_id AND t.ts >= lower(part) AND t.ts < upper(part)
        HAVING c.kind = 'trades'
        UNION ALL
        SELECT count(*), null, null FROM ohlcvd.candles_1m k
        WHERE k.instrument_id = c.instrument_id
          AND k.ts >= lower(part) AND k.ts + interval '1 minute' <= upper(part)
        HAVING c.kind = 'candles'
    ) AS found ORDER BY 1, 2, 3, 4
"""
_CANDLES = """
    SELECT (extract(epoch FROM ts) * 1000000)::bigint, open, high, low, close, volume, source
    FROM ohlcvd.named_candles WHERE exchange = %s AND symbol = %s
"""
# Markets that are not complete between two times, each kind for itself.
_BEHIND = """
    WITH bounds (kind, bound) AS (VALUES
        ('trades', tstzrange(to_timestamp(%(from_us)s / 1e6), to_timestamp(%(to_us)s / 1e6))),
        ('candles', tstzrange(to_timestamp(%(first_us)s / 1e6), to_timestamp(%(end_us)s / 1e6)))
    )
    SELECT i.exchange, i.symbol, b.kind FROM ohlcvd.instruments i CROSS JOIN bounds b
    LEFT JOIN ohlcvd.coverage c ON c.instrument_id = i.id AND c.kind = b.kind
    WHERE b.kind = any(%(kinds)s) AND NOT coalesce(c.covered @> b.bound, false)
"""


@dataclass
class Figures:
    """How the stored compares with the truth."""

    trades: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    minutes: int = 0
    missing_minutes: int = 0
    wrong_minutes: int = 0

    @property
    def are_zeros(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.missing_minutes or self.wrong_minutes)

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, one.name)} {one.name.replace('_', ' ')}" for one in fields(self))


class Truth:
    """Of both venues of one simulator."""

    def __init__(self, exchange: Exchange, settings: MarketSettings) -> None:
        self.exchange = exchange
        self.settings = settings
        self.markets: dict[str, SimulatedMarket] = {}
        for name, status in exchange.get("status")["exchanges"].items():
            self.markets[name] = SimulatedMarket(name, settings, status["start_us"] + settings.history_s * 1_000_000)
            to_us = status["now_us"]
            for symbol in self.symbols(name)[:2]:  # the same market as the exchange's own
                told = true_trades(exchange, name, symbol, to_us - 5 * MINUTE_US, to_us)
                assert told == self.trades(name, symbol, to_us - 5 * MINUTE_US, to_us)

    @staticmethod
    def words(settings: MarketSettings) -> list[str]:
        """The command line of an exchange with this market."""
        return [
            "--rate", f"{settings.rate}", "--symbols", f"{settings.symbols}", "--seed", f"{settings.seed}",
            "--history", f"{settings.history_s}s",
        ]  # fmt: skip

    def symbols(self, name: str) -> list[str]:
        return list(self.markets[name].listings)

    def trades(self, name: str, symbol: str, from_us: int, to_us: int) -> list[Row]:
        trades = self.markets[name].trades(symbol, from_us, to_us)
        return [(one.id, one.ts_us, Decimal(one.price), Decimal(one.amount), one.side) for one in trades]

    def ids(self, name: str, symbol: str, from_us: int, to_us: int) -> tuple[int, int]:
        """first <= id < end."""
        tape = self.markets[name].tape(symbol)
        return max(tape.first_id, tape.id_at(from_us * 1000)), max(tape.first_id, tape.id_at(to_us * 1000))

    def traded_minutes(self, name: str, symbol: str, from_us: int, to_us: int) -> int:
        """Whole minutes with trades."""
        tape = self.markets[name].tape(symbol)
        opens = range(_up(from_us), to_us - to_us % MINUTE_US + 1, MINUTE_US)
        ids = [tape.id_at(ts_us * 1000) for ts_us in opens]
        return sum(a != b for a, b in pairwise(ids))

    def figures(
        self, daemon: Daemon, from_us: int, to_us: int, names: Iterable[str] | None = None,
        kinds: Sequence[str] = KINDS,
    ) -> Figures:  # fmt: skip
        """Of what happened between two times that lie in the past, over all markets."""
        sums = Figures()
        for name in names or self.markets:
            for symbol in self.symbols(name):
                if "trades" in kinds:
                    self._add_trades(sums, daemon, name, symbol, from_us, to_us)
                self._add_candles(sums, daemon, name, symbol, from_us, to_us)
        return sums

    def _add_trades(self, sums: Figures, daemon: Daemon, name: str, symbol: str, from_us: int, to_us: int) -> None:
        stored = stored_trades(daemon, name, symbol)
        sums.doubled += len(stored) - len({row[0] for row in stored})
        truth = set(self.trades(name, symbol, from_us, to_us))
        kept = {row for row in stored if from_us <= row[1] < to_us}
        kept_ids = {row[0] for row in kept}
        sums.trades += len(truth)
        sums.lost += sum(row[0] not in kept_ids for row in truth)
        sums.wrong += len(kept - truth)

    def _add_candles(self, sums: Figures, daemon: Daemon, name: str, symbol: str, from_us: int, to_us: int) -> None:
        """The exchange's own word, for it also knows of corrections."""
        first_us, end_us = _up(from_us), to_us - to_us % MINUTE_US
        truth = true_candles(self.exchange, name, symbol, first_us, end_us)
        kept = {ts_us: columns for ts_us, (columns, _) in stored_candles(daemon, name, symbol).items()}
        extra = [ts_us for ts_us in kept if first_us <= ts_us < end_us and ts_us not in truth]
        sums.minutes += len(truth)
        sums.missing_minutes += sum(ts_us not in kept for ts_us in truth)
        sums.wrong_minutes += len(extra) + sum(ts_us in kept and kept[ts_us] != truth[ts_us] for ts_us in truth)


def stored_candles(daemon: Daemon, name: str, symbol: str) -> dict[int, tuple[Columns, str]]:
    """Open time to (open, high, low, close, volume) and source."""
    return {row[0]: (list(row[1:6]), row[6]) for row in daemon.query(_CANDLES, name, symbol)}


def behind(daemon: Daemon, from_us: int, to_us: int, kinds: Sequence[str] = KINDS) -> list[str]:
    """Markets that are not complete from one time to the other, and what is missing anywhere."""
    first_us, end_us = _up(from_us), to_us - to_us % MINUTE_US
    bounds: dict[str, object] = {
        "from_us": from_us,
        "to_us": to_us,
        "first_us": first_us,
        "end_us": max(first_us, end_us),
    }
    bounds["kinds"] = list(kinds)
    with psycopg.connect(daemon.dsn, autocommit=True) as connection:
        rows = connection.execute(_BEHIND, bounds).fetchall()
        rows += connection.execute("SELECT exchange, symbol, kind, gap::text, reason FROM ohlcvd.gaps").fetchall()
    return [" ".join(row) for row in rows]


class ClaimWatch(Beside):
    """Every second, in a thread of its own: is what coverage claims stored? One snapshot of both for each answer."""

    def __init__(self, dsn: str, truth: Truth) -> None:
        super().__init__()
        self.samples = 0
        self.claims = 0  # of the last sample
        self.false: list[str] = []
        self._dsn = dsn
        self._truth = truth
        self._error: BaseException | None = None

    def check(self) -> None:
        """After the last sample."""
        assert self._error is None, self._error
        assert not self.false, f"{len(self.false)} claims that do not hold, such as {self.false[:3]}"
        assert self.samples > 0

    def _run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                while not self._ended.wait(1.0):
                    rows = connection.execute(_CLAIMS).fetchall()
                    self.samples += 1
                    self.claims = len(rows)
                    for row in rows:
                        self._judge(*row)
        except BaseException as error:  # noqa: BLE001 - `check` tells
            self._error = error

    def _judge(
        self, name: str, symbol: str, kind: str, lower_us: int, upper_us: int, number: int,
        first: int | None, last: int | None,
    ) -> None:  # fmt: skip
        if kind == "candles":
            expected = self._truth.traded_minutes(name, symbol, lower_us, upper_us)
            holds = number == expected
        else:
            start, end = self._truth.ids(name, symbol, lower_us, upper_us)
            expected = end - start
            holds = number == expected and (not number or (first, last) == (start, end - 1))
        if not holds:
            self.false.append(f"{name} {symbol} {kind} [{lower_us}, {upper_us}): {number} stored of {expected}")


def _up(ts_us: int) -> int:
    return -(-ts_us // MINUTE_US) * MINUTE_US
