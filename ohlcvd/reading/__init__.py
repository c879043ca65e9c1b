"""Reading back what is stored: `candles`, `trades`, `export`.

`database/bulk.py` gives pieces of CSV, `formats.py` and `arrow.py` make them what was asked for, piece by piece,
`plot.py` draws candlesticks (pure), `read.py` is the two commands, and `export.py` writes whole ranges, one file a day.
"""
