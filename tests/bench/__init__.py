"""Speed: every case beside its reference in the same run, so that a busy machine slows both. See __main__.py."""
