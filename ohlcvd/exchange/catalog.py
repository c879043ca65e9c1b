"""The exchanges that ccxt has, by id, without importing ccxt (109 MB for all of them). Pure.

Generated from ccxt 4.5.90's `ccxt.exchanges`; a test compares it with the installed ccxt, so that an upgrade which adds
or drops an exchange is noticed.
"""

# fmt: off
EXCHANGE_IDS: frozenset[str] = frozenset({
    "alpaca", "apex", "aster", "backpack", "bequant", "bigone", "binance", "binancecoinm", "binanceus",
    "binanceusdm", "bingx", "bit2c", "bitbank", "bitbns", "bitfinex", "bitflyer", "bitget", "bithumb",
    "bitopro", "bitrue", "bitso", "bitstamp", "bitteam", "bittrade", "bitvavo", "blockchaincom", "blofin",
    "btcbox", "btcmarkets", "btcturk", "btse", "bullish", "bybit", "bybiteu", "bybitid", "bydfi", "cex",
    "coinbase", "coinbaseexchange", "coinbaseinternational", "coincheck", "coinmate", "coinone", "coinsph",
    "coinspot", "cryptocom", "cryptomus", "deepcoin", "delta", "deribit", "derive", "digifinex", "dydx",
    "extended", "fmfwio", "foxbit", "gate", "gateeu", "gemini", "grvt", "hashkey", "hibachi", "hitbtc",
    "hollaex", "htx", "hyperliquid", "independentreserve", "indodax", "kraken", "krakenfutures", "kucoin",
    "kucoinfutures", "latoken", "lbank", "lighter", "luno", "mercado", "mexc", "modetrade", "mudrex", "myokx",
    "nado", "ndax", "okx", "okxus", "onetrading", "p2b", "pacifica", "paradex", "paymium", "phemex", "poloniex",
    "polymarket", "revolutx", "tokocrypto", "toobit", "upbit", "weex", "whitebit", "woo", "woofipro", "xt",
    "zaif", "zebpay",
})
# fmt: on

# Exchanges that people still name, with what happened to them.
CLOSED: dict[str, str] = {
    "bitmex": "BitMEX closed on 2026-09-23 and is no longer in ccxt",
}
