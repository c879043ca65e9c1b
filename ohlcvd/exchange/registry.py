"""The venues with a file of their own. Adding one: its file, its line here, its test with recorded frames."""

from ohlcvd.exchange.binance import Binance
from ohlcvd.exchange.kraken import Kraken
from ohlcvd.exchange.venue import FastVenue

FAST_VENUES: dict[str, FastVenue] = {
    "binance": Binance(),
    "kraken": Kraken(),
}
