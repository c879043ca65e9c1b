"""Fills what is missing over REST: one mechanism for history, reconnects, crashes and days off.

First start, a cut connection, a killed process and another host taking over have no code of their own here. Each
leaves coverage that is true, and what follows is the same act: missing = wanted - covered, walked through page by page,
every page claimed with its rows in one transaction. Whatever ends in the middle is found missing again, from its last
page on.

    book.py          what is committed, and what is on its way (pure)
    plan.py          which stretch next (pure)
    walk.py          through a stretch of trades (pure)
    candles_walk.py  through a stretch of candles (pure)
    lost.py          what the venue did not give, how often it was asked, when it is asked again (pure)
    needs.py         what is missing of which market, in the light of all these (no I/O)
    calm.py          whether anything has changed since all markets were looked at (no I/O)
    outage.py        whether the venue answers at all (pure)
    scheduler.py     whose turn it is
    walks.py         asks the venue, stores, claims
    building.py      candles made of trades
    handed.py        how much of what it fetched is not committed yet (pure)
    seams.py         where the live stream takes over
    ports.py         what is asked of the venue and the database
    records.py       the database behind it
"""
