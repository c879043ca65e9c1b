"""What ccxt can ask of each exchange, without importing ccxt. Pure.

Generated from ccxt 4.5.90's `has`, `timeframes`, `urls` and `features`; a test compares it with the installed ccxt.
"""

from typing import Final, NamedTuple


class Ability(NamedTuple):
    """One exchange's, as ccxt describes it."""

    streams_trades: bool
    streams_candles: bool
    gives_trades: bool
    gives_candles: bool  # of one minute
    tells_time: bool
    has_sandbox: bool
    candles_page: int | None  # the most of one answer; None: ccxt does not say


# T and C: streams trades, candles; t and c: gives them when it is asked; n: tells its time; s: has a sandbox; and the
# most candles of an answer.
_TABLE: Final = """
alpaca TCtcns 1000
apex TCtcns 200
aster TCtcn- 1500
backpack TCtcn- 1000
bequant TCtc-s 1000
bigone --tcn- 500
binance TCtcns 1000
binancecoinm TCtcns 1000
binanceus TCtcns 1000
binanceusdm TCtcns 1000
bingx TCtcns 1440
bit2c --t--- -
bitbank --tc-- 1000
bitbns --t--- 100
bitfinex TCtc-- 10000
bitflyer --t--- -
bitget TCtcn- 200
bithumb T-tc-- 200
bitopro T-tc-- 1000
bitrue TCtcn- 1440
bitso --tc-s 300
bitstamp T-tc-- 1000
bitteam --tc-- 1000
bittrade TCtcn- 2000
bitvavo TCtcn- 1440
blockchaincom TC---s -
blofin TCtc-s 1440
btcbox --t--- -
btcmarkets --tcn- 1000
btcturk --tc-- -
btse --tcns 300
bullish T-tcns 1000
bybit TCtcns 1000
bybiteu TCtcns 1000
bybitid TCtcns 1000
bydfi -Ctc-- 500
cex TCtcn- 1000
coinbase T-tcn- 300
coinbaseexchange T-tcns 300
coinbaseinternational TC-cn- 300
coincheck T-t--- -
coinmate --t-n- -
coinone T-t--- -
coinsph --tcn- 1000
coinspot --t--- -
cryptocom TCtc-s 300
cryptomus --t--- -
deepcoin TCtc-- 300
delta --tcns 2000
deribit TCtcns 1000
derive T-tcns 5000
digifinex --tcn- 500
dydx TCtcns 1000
extended TCtc-s -
fmfwio --tc-s 1000
foxbit --tc-- 500
gate TCtcns 1000
gateeu TCtcns 1000
gemini TCtc-s -
grvt TCtc-s 1000
hashkey TCtcns 1000
hibachi --tcn- -
hitbtc TCtc-s 1000
hollaex T-tc-s 1000
htx TCtcn- 1000
hyperliquid TCtcns 5000
independentreserve T-t--- -
indodax --tcn- 2000
kraken TCtcn- 720
krakenfutures T-tc-s 2000
kucoin TCtcn- 1500
kucoinfutures TCtcn- 1500
latoken --t-n- -
lbank TCtcn- 2000
lighter T-tcns -
luno T-tc-- -
mercado --t--- 1000
mexc TCtcn- 1000
modetrade TCtcns 1000
mudrex -C-c-- -
myokx TCtcns 300
nado TCtcns 500
ndax TCtc-s -
okx TCtcns 300
okxus TCtcns 300
onetrading -C-cn- 5000
p2b TCtc-- 500
pacifica TCtc-s 3950
paradex T-tcns 1000
paymium --t--- -
phemex TCtc-s 1000
poloniex TCtcns 500
polymarket TCtcn- 1000
revolutx --tc-- 50000
tokocrypto --tcn- 1000
toobit TCtcn- 1000
upbit TCtc-- 200
weex TCtcns 300
whitebit TCtcn- 1440
woo TCtcns 1000
woofipro TCtcns 1000
xt TCtcn- 1000
zaif --t--- -
zebpay --tcns -
"""


def _read(line: str) -> tuple[str, Ability]:
    name, letters, page = line.split()
    streams_trades, streams_candles, gives_trades, gives_candles, tells_time, has_sandbox = (c != "-" for c in letters)
    flags = streams_trades, streams_candles, gives_trades, gives_candles, tells_time, has_sandbox
    return name, Ability(*flags, None if page == "-" else int(page))


ABILITIES: Final = dict(_read(line) for line in _TABLE.split("\n") if line)
