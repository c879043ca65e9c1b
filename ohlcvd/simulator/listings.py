"""Which symbols a venue lists, under which ids, with which precision. Pure.

The well-known ones carry the venue's real ids (Kraken's BTC/USD is XXBTZUSD, XBTUSD and XBT/USD at once); beyond
them names are made up (S0021/USD) so that thousands can be listed. A price is only where the invented market starts.
"""

from decimal import Decimal
from typing import NamedTuple

from ohlcvd.errors import UsageError

MAX_SYMBOLS = 9000

_USD_PRICES = {
    "BTC": "97000", "ETH": "3400", "SOL": "188", "XRP": "2.31", "DOGE": "0.391", "ADA": "0.94", "LTC": "104",
    "LINK": "22.4", "DOT": "7.1", "AVAX": "38", "BNB": "690", "TRX": "0.25", "PEPE": "0.0000183", "SHIB": "0.0000219",
    "ATOM": "6.4", "UNI": "13.2", "AAVE": "330", "ALGO": "0.35", "XLM": "0.42", "ETC": "26", "XMR": "192",
    "ZEC": "57", "FIL": "5.1", "NEAR": "5.3", "BCH": "440", "USDT": "1", "USDC": "1", "EUR": "1.05", "USD": "1",
}  # fmt: skip

# Busy markets first: the order decides the trade rate (see market.rates).
_KRAKEN = [
    "BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "DOGE/USD", "ADA/USD", "LTC/USD", "LINK/USD", "DOT/USD", "AVAX/USD",
    "BTC/USDT", "ETH/USDT", "BTC/EUR", "ETH/EUR", "PEPE/USD", "ETH/BTC", "SOL/EUR", "XRP/EUR", "USDT/USD", "TRX/USD",
    "XRP/BTC", "LTC/BTC", "ATOM/USD", "UNI/USD", "AAVE/USD", "ALGO/USD", "XLM/USD", "ETC/USD", "XMR/USD", "ZEC/USD",
    "FIL/USD", "NEAR/USD", "BCH/USD", "USDC/USD", "SHIB/USD", "SOL/USDT", "XRP/USDT", "ADA/EUR", "DOGE/EUR",
    "LTC/EUR", "DOT/EUR", "LINK/EUR", "AVAX/EUR", "BTC/USDC", "ETH/USDC",
]  # fmt: skip
_BINANCE = [
    "BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT", "DOGE/USDT", "ADA/USDT", "BNB/USDT", "LINK/USDT", "LTC/USDT",
    "AVAX/USDT", "BTC/USDC", "ETH/USDC", "BTC/EUR", "ETH/BTC", "PEPE/USDT", "DOT/USDT", "TRX/USDT", "XRP/BTC",
    "ETH/EUR", "SHIB/USDT", "BNB/BTC", "SOL/BTC", "XRP/ETH", "ATOM/USDT", "UNI/USDT", "AAVE/USDT", "ALGO/USDT",
    "XLM/USDT", "ETC/USDT", "ZEC/USDT", "FIL/USDT", "NEAR/USDT", "BCH/USDT", "SOL/USDC", "XRP/USDC", "BNB/ETH",
    "LTC/BTC", "ADA/BTC", "DOGE/BTC", "LINK/BTC", "XRP/EUR", "SOL/EUR",
]  # fmt: skip

# Kraken's own codes: XBT for BTC, XDG for DOGE, and the old assets' ids with X (coins) and Z (money) in front.
_KRAKEN_CODES = {"BTC": "XBT", "DOGE": "XDG"}
_KRAKEN_OLD = {"XBT", "ETH", "XRP", "LTC", "ETC", "XLM", "XMR", "ZEC", "XDG"}
_KRAKEN_ODD_IDS = {"USDT/USD": "USDTZUSD", "DOGE/USD": "XDGUSD", "DOGE/EUR": "XDGEUR"}
_KRAKEN_MONEY = {"USD", "EUR", "GBP", "CAD", "JPY", "AUD"}

_BINANCE_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "GBP", "AUD", "BRL")


class Listing(NamedTuple):
    """One market as a venue lists it. `decimals` are the price's; amounts have 8."""

    symbol: str  # "BTC/USD", as ccxt names it
    id: str  # "XXBTZUSD", "BTCUSDT"
    base_id: str
    quote_id: str
    altname: str  # Kraken's second name; elsewhere the id
    wsname: str
    decimals: int
    price: Decimal

    @property
    def start_ticks(self) -> int:
        """The reference price in units of the last decimal."""
        return max(2, int(self.price.scaleb(self.decimals)))


def kraken_listing(symbol: str) -> Listing:
    base, _, quote = symbol.partition("/")
    base_code, quote_code = _KRAKEN_CODES.get(base, base), _KRAKEN_CODES.get(quote, quote)
    base_id, quote_id = kraken_asset_id(base_code), kraken_asset_id(quote_code)
    altname = base_code + quote_code
    both_old = base_id != base_code and quote_id != quote_code
    pair_id = _KRAKEN_ODD_IDS.get(symbol, base_id + quote_id if both_old else altname)
    price = _price(base, quote)
    return Listing(
        symbol, pair_id, base_id, quote_id, altname, f"{base_code}/{quote_code}", _decimals(price, digits=6), price
    )


def kraken_asset_id(code: str) -> str:
    if code in _KRAKEN_OLD:
        return "X" + code
    return "Z" + code if code in _KRAKEN_MONEY else code


def binance_listing(symbol: str) -> Listing:
    base, _, quote = symbol.partition("/")
    price = _price(base, quote)
    return Listing(symbol, base + quote, base, quote, base + quote, base + quote, _decimals(price, digits=7), price)


def binance_symbol(market_id: str) -> str:
    """ "XRPETH" -> "XRP/ETH", by the quote currencies that Binance has had."""
    for quote in _BINANCE_QUOTES:
        if market_id.endswith(quote) and len(market_id) > len(quote):
            return f"{market_id[: -len(quote)]}/{quote}"
    raise UsageError(f"cannot tell base and quote of the market {market_id!r}: none of {', '.join(_BINANCE_QUOTES)}")


def kraken_listings(count: int) -> list[Listing]:
    return [kraken_listing(symbol) for symbol in _names(_KRAKEN, count, "USD")]


def binance_listings(count: int) -> list[Listing]:
    return [binance_listing(symbol) for symbol in _names(_BINANCE, count, "USDT")]


def _names(known: list[str], count: int, quote: str) -> list[str]:
    made_up = [f"S{number:04d}/{quote}" for number in range(len(known) + 1, count + 1)]
    return known[:count] + made_up


def _price(base: str, quote: str) -> Decimal:
    base_usd = Decimal(_USD_PRICES.get(base, "0")) or Decimal(1 + sum(base.encode()) * 7919 % 9000).scaleb(-2)
    quote_usd = Decimal(_USD_PRICES.get("USD" if quote.startswith("USD") else quote, "1"))
    return base_usd / quote_usd


def _decimals(price: Decimal, digits: int) -> int:
    """As many decimals as give about `digits` significant digits, 1 at least and 10 at most."""
    return min(10, max(1, digits - 1 - price.adjusted()))
