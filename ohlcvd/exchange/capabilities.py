"""How each of ccxt's exchanges is collected, what proves it complete, how far back it goes: one answer for each. Pure.

Put together from what ccxt can ask (abilities.py), the venues with a file of their own (registry.py), and what is known
of each venue's history (limits.py).
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ohlcvd.exchange.abilities import ABILITIES
from ohlcvd.exchange.limits import VenueRules, rules_of
from ohlcvd.exchange.registry import FAST_VENUES
from ohlcvd.market import Kind

Way = Literal["fast stream", "generic stream", "polling", "none"]

_WAYS: dict[Way, str] = {
    "fast stream": "WebSocket, parsed here frame by frame",
    "generic stream": "WebSocket through ccxt: no acknowledgement, times in milliseconds",
    "polling": "asked over REST again and again",
    "none": "not given to the public",
}


class Capability(NamedTuple):
    """One exchange's. The texts are for people."""

    exchange: str
    trades: Way
    candles: Way
    proof: str  # what shows that nothing is missing from the trades
    trades_depth: str
    candles_depth: str
    has_sandbox: bool

    def way(self, kind: Kind) -> Way:
        return self.trades if kind == "trades" else self.candles

    @property
    def reduced(self) -> str | None:
        """What is weaker than where a venue has a file of its own; None: nothing."""
        kinds: tuple[Kind, Kind] = ("trades", "candles")
        weaker = [f"{kind} by {self.way(kind)}" for kind in kinds if self.way(kind) == "generic stream"]
        weaker += [f"{kind} by polling" for kind in kinds[:1] if self.way(kind) == "polling"]
        weaker += [f"no public {kind}" for kind in kinds if self.way(kind) == "none"]
        if not weaker or self.trades == "none":
            return ", ".join(weaker) or None
        return f"{', '.join(weaker)}; what proves the trades complete is {self.proof}"

    def as_dict(self) -> Mapping[str, Any]:
        """For JSON."""
        return self._asdict()

    def lines(self) -> list[tuple[str, str]]:
        """What `ohlcvd markets` prints above the list."""
        candles = "built from the trades" if self.candles == "none" else f"{self.candles}: {_WAYS[self.candles]}"
        return [
            ("trades", f"{self.trades}: {_WAYS[self.trades]}"),
            ("candles", candles),
            ("completeness", self.proof),
            ("trades go back", self.trades_depth),
            ("candles go back", self.candles_depth),
            ("sandbox", "yes" if self.has_sandbox else "no"),
        ]


def capability_of(exchange: str) -> Capability:
    """Of an exchange that ccxt has; KeyError for any other."""
    ability, rules = ABILITIES[exchange], rules_of(exchange)
    trades = _way(exchange, "trades", streams=ability.streams_trades, gives=ability.gives_trades)
    candles = _way(exchange, "candles", streams=ability.streams_candles, gives=ability.gives_candles)
    if candles in ("generic stream", "fast stream") and not ability.gives_candles:
        candles = "none"  # a minute is final only when the exchange can be asked for it
    return Capability(
        exchange, trades, candles, _proof(trades, rules), _trades_depth(rules, gives=ability.gives_trades),
        _candles_depth(rules, gives=ability.gives_candles), ability.has_sandbox,
    )  # fmt: skip


def _way(exchange: str, kind: Kind, *, streams: bool, gives: bool) -> Way:
    if any(kind in venue.kinds for venue in FAST_VENUES.get(exchange, ())):
        return "fast stream"
    if exchange in FAST_VENUES or not streams:
        return "polling" if gives else "none"
    return "generic stream"


def _proof(trades: Way, rules: VenueRules) -> str:
    if trades == "none":
        return "nothing: there are no public trades"
    if rules.sequential_ids:
        return "sequential ids: every number must be there"
    if trades == "polling":
        return "overlap: each answer must hold a trade of the one before"
    return "the connection's state, and overlap with history after it was cut"


def _trades_depth(rules: VenueRules, *, gives: bool) -> str:
    if not gives:
        return "not at all: only what is received live"
    return "to the first trade" if rules.trades_depth == "full" else "to the latest ones of one answer"


def _candles_depth(rules: VenueRules, *, gives: bool) -> str:
    if not gives:
        return "as far as the trades they are built from"
    page = "" if rules.candles_page is None else f", {rules.candles_page:,} an answer"
    if rules.candle_depth_minutes is not None:
        return f"the latest {rules.candle_depth_minutes:,} minutes{page}"
    return f"as far as the exchange goes{page}"
