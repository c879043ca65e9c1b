"""What an exchange sent against what is stored, row by row. Pure.

A sent trade counts as stored only when exactly one row has its id and every value is equal (as numbers: "1.50" equals
"1.5"). `faults` names each row that is not as it should be, in words for a person.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from ohlcvd.market import Candle, Trade


@dataclass(slots=True)
class Comparison:
    """Sums over markets; `faults` has one sentence a row, in the order found."""

    sent: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    unknown: int = 0
    candles: int = 0
    candles_equal: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything that was sent is stored, once, and nothing else."""
        return not self.faults

    def summary(self) -> str:
        """The last line of `demo`."""
        return f"sent {self.sent}, stored {self.stored}, lost {self.lost}, duplicated {self.duplicated}"

    def add_trades(self, market: str, sent: Iterable[Trade], stored: Iterable[Trade], known: Iterable[Trade]) -> None:
        """Compare one market. `known` are all trades that happened there; a stored row must be one of them."""
        expected = {trade.id: trade for trade in sent}
        truth = {trade.id: trade for trade in known} | expected
        rows: dict[str, list[Trade]] = {}
        for row in stored:
            rows.setdefault(row.id, []).append(row)
        self.sent += len(expected)
        for trade in expected.values():
            self._add_sent(market, trade, rows.get(trade.id, []))
        for row in (row for same in rows.values() for row in same if row.id not in expected):
            if row.id not in truth or not _same_trade(truth[row.id], row):
                self.unknown += 1
                self.faults.append(f"{market} trade {row.id}: stored {_words(row)}, but the exchange has no such trade")

    def _add_sent(self, market: str, trade: Trade, rows: list[Trade]) -> None:
        equal = [row for row in rows if _same_trade(trade, row)]
        if equal:
            self.stored += 1
        else:
            self.lost += 1
            found = f"stored {_words(rows[0])}" if rows else "not stored"
            self.faults.append(f"{market} trade {trade.id}: sent {_words(trade)}, {found}")
        if len(rows) > 1:
            self.duplicated += len(rows) - 1
            self.faults.append(f"{market} trade {trade.id}: stored {len(rows)} times")

    def add_candles(
        self, market: str, expected: Iterable[int], truth: Mapping[int, Candle], stored: Iterable[Candle]
    ) -> None:
        """Compare one market's candles. `expected` are open times that must be stored if `truth` has a trade there."""
        rows = {row.ts_us: row for row in stored}
        for ts_us in sorted({*rows, *(ts_us for ts_us in expected if ts_us in truth)}):
            self.candles += 1
            row, right = rows.get(ts_us), truth.get(ts_us)
            if row is not None and right is not None and _same_candle(right, row):
                self.candles_equal += 1
                continue
            self.faults.append(f"{market} candle {ts_us}: should be {_ohlcv(right)}, is {_ohlcv(row)}")


def _same_trade(one: Trade, other: Trade) -> bool:
    return (
        one.ts_us == other.ts_us
        and one.side == other.side
        and Decimal(one.price) == Decimal(other.price)
        and Decimal(one.amount) == Decimal(other.amount)
    )


def _same_candle(one: Candle, other: Candle) -> bool:
    names = ("open", "high", "low", "close", "volume")
    return all(Decimal(getattr(one, name)) == Decimal(getattr(other, name)) for name in names)


def _words(trade: Trade) -> str:
    return f"{trade.side} {trade.amount} at {trade.price}, time {trade.ts_us} us"


def _ohlcv(candle: Candle | None) -> str:
    if candle is None:
        return "missing"
    return f"{candle.open}/{candle.high}/{candle.low}/{candle.close} volume {candle.volume}"
