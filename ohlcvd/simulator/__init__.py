"""A local exchange that speaks Kraken's and Binance's protocols: for demo, tests and load.

listings.py   which symbols a venue lists, and under which names           pure
tape.py       one symbol's trades and the candles that follow from them     pure
market.py     the invented market: a function of seed, symbol and time      pure
recording.py  recorded frames of a real exchange, read from a folder
clock.py      what time it is at the venue
venue.py      what both venues share: clients, subscriptions, what was sent
connection.py one client's WebSocket
kraken.py, binance.py (and their *_rest.py)   the two protocols
feed.py       tells connections when a trade is due
replay.py     plays a recording, paced by its own times
faults.py     everything that can be made to go wrong
control.py    /control/...: status, truth, what was sent, freeze, faults
server.py     puts it together and listens
"""
