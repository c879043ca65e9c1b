"""What each venue promises about its candles and its history: one readable table. Pure.

Sources: Kraken "Spot WebSocket v2: OHLC" (updates on every trade, no closed flag, nothing in idle minutes), "Spot REST:
Get OHLC Data" (the latest 720 rows, rows for empty minutes too, the last row is not committed) and "Get Recent Trades"
(at most 1,000 after the cursor `since`, in nanoseconds); Binance "Kline streams" (`k.x` marks the last update of a
minute), "Kline data" (1,000 rows from `startTime`, rows for empty minutes too) and "Aggregate trades list" (1,000 rows
from `fromId`, inclusive). Kraken's limits: support.kraken.com, "What are the API rate limits?" (once a second is
within them; Trades and OHLC are counted by address and pair, all else by address; no sum over the pairs is stated, the
one here is ours); Binance's: "Limits" (a weight of 6,000 a minute; aggTrades weighs 4). Depths and page sizes of the
others: ccxt's classes.
"""

from typing import Literal, NamedTuple

from ohlcvd.exchange.abilities import ABILITIES


class VenueRules(NamedTuple):
    """How one venue's candles become final, and how its history is walked through."""

    candle_finality: Literal["flag", "stream", "ask"]  # see ohlcv.minutes
    sends_empty_minutes: bool  # REST answers have a row for every minute
    counts_stream_trades: bool  # a candle's trade count counts the same trades as the trade stream
    # Trades are numbered one after the other for each market, live and in history alike: a jump is a loss.
    sequential_ids: bool = False
    # How the next page of trades is asked for: from the id of the last row (inclusive), by the cursor that the page
    # itself gave, or by the time of the last row.
    trades_cursor: Literal["id", "page", "time"] = "time"
    # Asked this much earlier than a row's time, an answer surely begins with that row or before it, whether `since` is
    # inclusive, exclusive or floored to milliseconds, and however the venue rounds.
    trades_back_us: int = 1_000
    trades_page: int | None = None  # the most rows of an answer; None: not known
    # "recent": the venue gives the latest trades, however early they are asked for.
    trades_depth: Literal["full", "recent"] = "recent"
    candles_page: int | None = None  # None: not known
    candle_depth_minutes: int | None = None  # the latest so many only, whatever is asked for; None: all there ever were
    requests_at_once: int = 1  # the rate limit is the same; more of them hide the time that an answer is on its way
    # How often the venue may be asked in all, from one address; None: as often as ccxt would, by its table of costs.
    requests_per_s: float | None = None
    # Questions that the venue counts by market, by the last part of their path, and their distance for each market.
    paths_by_market: frozenset[str] = frozenset()
    market_spacing_s: float = 0.0


# A venue without a line of its own: nothing is known of its stream, so every minute is asked over REST, and nothing is
# believed of its history but what overlaps with what is known.
UNKNOWN_VENUE = VenueRules(candle_finality="ask", sends_empty_minutes=False, counts_stream_trades=False)

_BINANCE_CONTRACTS = VenueRules(
    candle_finality="flag", sends_empty_minutes=True, counts_stream_trades=False,
    sequential_ids=True, trades_cursor="id", trades_back_us=0, trades_page=1000, trades_depth="full", candles_page=1000,
)  # fmt: skip

RULES = {
    "kraken": VenueRules(
        candle_finality="stream", sends_empty_minutes=True, counts_stream_trades=True,
        sequential_ids=True, trades_cursor="page", trades_back_us=1, trades_page=1000, trades_depth="full",
        candles_page=720, candle_depth_minutes=720, requests_at_once=8,
        requests_per_s=5.0, paths_by_market=frozenset({"Trades", "OHLC"}), market_spacing_s=1.02,
    ),
    # klines count single trades, the stream sends aggregate ones
    "binance": VenueRules(
        candle_finality="flag", sends_empty_minutes=True, counts_stream_trades=False,
        sequential_ids=True, trades_cursor="id", trades_back_us=0, trades_page=1000, trades_depth="full",
        candles_page=1000, requests_at_once=2, requests_per_s=24.0,
    ),
    "binancecoinm": _BINANCE_CONTRACTS,
    "binanceusdm": _BINANCE_CONTRACTS,
    "bitfinex": UNKNOWN_VENUE._replace(candles_page=10000, trades_depth="full", trades_page=10000),
    "gate": UNKNOWN_VENUE._replace(candles_page=1000, candle_depth_minutes=9_900),
    "hyperliquid": UNKNOWN_VENUE._replace(candles_page=5000, candle_depth_minutes=5_000),
    "htx": UNKNOWN_VENUE._replace(candles_page=1000, candle_depth_minutes=2_000),
}  # fmt: skip


def rules_of(exchange: str) -> VenueRules:
    """The rules of a venue by its ccxt id."""
    if exchange in RULES or exchange not in ABILITIES:
        return RULES.get(exchange, UNKNOWN_VENUE)
    return UNKNOWN_VENUE._replace(candles_page=ABILITIES[exchange].candles_page)
