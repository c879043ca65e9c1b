"""What the database knows, told to people: what is missing and why, and whether candles follow from their trades.

Everything here only reads. `access.py` finds the database, `gaps.py` and `verify.py` are the two commands, `venue.py`
asks the exchange for its side, `times.py` reads and writes times.
"""
