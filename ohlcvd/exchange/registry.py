"""The venues with a file of their own. Adding one: its file, its line here, its test with recorded frames."""

from collections.abc import Mapping
from typing import Any

from ohlcvd.exchange.venue import FastVenue
from ohlcvd.exchange.venues.binance import Binance, BinanceCoinM, BinanceUsdM
from ohlcvd.exchange.venues.bitfinex import Bitfinex
from ohlcvd.exchange.venues.bitstamp import Bitstamp
from ohlcvd.exchange.venues.bybit import Bybit
from ohlcvd.exchange.venues.coinbase import Coinbase
from ohlcvd.exchange.venues.coinbase_exchange import CoinbaseExchange
from ohlcvd.exchange.venues.cryptocom import Cryptocom
from ohlcvd.exchange.venues.deribit import Deribit
from ohlcvd.exchange.venues.gate import Gate
from ohlcvd.exchange.venues.gemini import Gemini
from ohlcvd.exchange.venues.htx import Htx
from ohlcvd.exchange.venues.hyperliquid import Hyperliquid
from ohlcvd.exchange.venues.kraken import Kraken
from ohlcvd.exchange.venues.kraken_futures import KrakenFutures
from ohlcvd.exchange.venues.kucoin import Kucoin
from ohlcvd.exchange.venues.okx import Okx
from ohlcvd.exchange.venues.phemex import Phemex
from ohlcvd.exchange.venues.upbit import Upbit

# ccxt's id -> one FastVenue for each address that the exchange has. Markets that none of them lists go the generic way.
FAST_VENUES: dict[str, tuple[FastVenue, ...]] = {
    "binance": (Binance(),),
    "binancecoinm": (BinanceCoinM(),),
    "binanceusdm": (BinanceUsdM(),),
    "bitfinex": (Bitfinex(),),
    "bitstamp": (Bitstamp(),),
    "bybit": (Bybit("spot"), Bybit("linear"), Bybit("inverse")),
    "coinbase": (Coinbase(),),
    "coinbaseexchange": (CoinbaseExchange(),),
    "cryptocom": (Cryptocom(),),
    "deribit": (Deribit(),),
    "gate": (Gate(),),
    "gemini": (Gemini(),),
    "htx": (Htx(),),
    "hyperliquid": (Hyperliquid(),),
    "kraken": (Kraken(),),
    "krakenfutures": (KrakenFutures(),),
    "kucoin": (Kucoin(),),
    "okx": (Okx(),),
    "phemex": (Phemex(),),
    "upbit": (Upbit(),),
}


def fast_venue(exchange: str, market: Mapping[str, Any]) -> FastVenue | None:
    """The part of an exchange that streams this market (ccxt's structure); None: the generic path does."""
    return next((venue for venue in FAST_VENUES.get(exchange, ()) if venue.lists(market)), None)
