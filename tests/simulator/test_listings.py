"""Names and ids of the listed markets are the venues' own where the venues have them."""

import pytest

from ohlcvd.errors import UsageError
from ohlcvd.simulator.listings import (
    MAX_SYMBOLS,
    binance_listing,
    binance_listings,
    binance_symbol,
    kraken_listing,
    kraken_listings,
)


@pytest.mark.parametrize(
    ("symbol", "market_id", "base", "quote", "altname", "wsname"),
    [
        ("BTC/USD", "XXBTZUSD", "XXBT", "ZUSD", "XBTUSD", "XBT/USD"),
        ("ETH/BTC", "XETHXXBT", "XETH", "XXBT", "ETHXBT", "ETH/XBT"),
        ("BTC/USDT", "XBTUSDT", "XXBT", "USDT", "XBTUSDT", "XBT/USDT"),
        ("ADA/USD", "ADAUSD", "ADA", "ZUSD", "ADAUSD", "ADA/USD"),
        ("DOGE/USD", "XDGUSD", "XXDG", "ZUSD", "XDGUSD", "XDG/USD"),
        ("USDT/USD", "USDTZUSD", "USDT", "ZUSD", "USDTUSD", "USDT/USD"),
    ],
)
def test_krakens_names(symbol: str, market_id: str, base: str, quote: str, altname: str, wsname: str) -> None:
    assert kraken_listing(symbol)[:6] == (symbol, market_id, base, quote, altname, wsname)


def test_binances_names() -> None:
    assert binance_listing("XRP/ETH")[:4] == ("XRP/ETH", "XRPETH", "XRP", "ETH")
    assert binance_symbol("XRPETH") == "XRP/ETH"
    assert binance_symbol("NKNUSDT") == "NKN/USDT"
    with pytest.raises(UsageError, match="base and quote"):
        binance_symbol("ABCXYZ")


@pytest.mark.parametrize("listings", [kraken_listings, binance_listings])
def test_thousands_can_be_listed_and_no_name_is_used_twice(listings: type) -> None:
    many = listings(MAX_SYMBOLS)
    assert len(many) == MAX_SYMBOLS
    for name in ("symbol", "id", "altname", "wsname"):
        assert len({getattr(listing, name) for listing in many}) == MAX_SYMBOLS
    assert all(1 <= listing.decimals <= 10 and listing.start_ticks >= 100 for listing in many)
    assert listings(5) == many[:5]
