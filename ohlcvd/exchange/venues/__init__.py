"""One file for each exchange with a fast path: how to subscribe, and pure parsing of what it sends. See ../venue.py."""
