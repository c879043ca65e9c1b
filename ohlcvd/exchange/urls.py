"""Points ccxt at another server: `rest_url` and `ws_url` take the place of scheme, host and port. Pure.

ccxt keeps its addresses in `urls['api']`, nested differently for every exchange, some with `{hostname}` in place of
the host. A path in the setting is kept and ccxt's own path follows it: with ws_url = ws://127.0.0.1:8000/kraken,
wss://ws.kraken.com/v2 becomes ws://127.0.0.1:8000/kraken/v2. Sandbox mode, which swaps `urls['api']`, comes before.
"""

import re
from typing import Any

_URL = re.compile(r"(https?|wss?)://[^/?#]*([/?#].*)?", re.DOTALL)


def moved(urls: Any, rest_url: str | None, ws_url: str | None) -> Any:
    """A copy of `urls` (a text, or dicts and lists of texts at any depth) that points at the given servers."""
    if isinstance(urls, dict):
        return {key: moved(value, rest_url, ws_url) for key, value in urls.items()}
    if isinstance(urls, list):
        return [moved(value, rest_url, ws_url) for value in urls]
    match = _URL.fullmatch(urls) if isinstance(urls, str) else None
    if match is None:
        return urls
    server = ws_url if match[1].startswith("ws") else rest_url
    return urls if not server else server.rstrip("/") + (match[2] or "")
