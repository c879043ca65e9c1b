"""Recorded REST answers of a folder's rest/: gzip files named after the request (JSON, or one JSON object a line)."""

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from ohlcvd.simulator.listings import Listing
from ohlcvd.simulator.tape import MinuteCandle

TradeValues = tuple[int, int, str, str, bool, bool, int, int]  # as RecordedTrade


def rest_answers(folder: Path, exchange: str) -> dict[str, str]:
    """Whole answers that are served again as they are: Binance's list of markets."""
    path = folder / "api_v3_exchangeInfo.json.gz"
    return {"exchangeInfo": _text(path)} if exchange == "binance" and path.is_file() else {}


def rest_trades(folder: Path, listing: Listing) -> Iterator[TradeValues]:
    for path in _files(folder, "Trades", f"pair={listing.altname}"):
        for rows in _kraken_rows(path):
            for price, amount, seconds, side, kind, _, number in rows:
                ts_ns = int(Decimal(seconds) * 10**9)
                yield number, ts_ns, price, amount, side == "b", kind == "l", number, number
    for path in _files(folder, "aggTrades", f"symbol={listing.id}"):
        for line in _text(path).splitlines():
            row = json.loads(line)
            ts_ns = row["T"] * 1_000_000
            yield row["a"], ts_ns, row["p"], row["q"], not row["m"], False, row["f"], row["l"]


def rest_candles(folder: Path, listing: Listing) -> Iterator[MinuteCandle]:
    """Kraken's OHLC rows; the last one was still running when it was recorded and is left out."""
    for path in _files(folder, "OHLC", f"pair={listing.altname}"):
        for rows in _kraken_rows(path):
            for seconds, open_, high, low, close, vwap, volume, trades in rows[:-1]:
                yield MinuteCandle(
                    seconds * 1_000_000, open_, high, low, close, volume, "0", "0", "0", vwap, trades, trades, -1, -1
                )


def _kraken_rows(path: Path) -> Iterator[list[list]]:  # type: ignore[type-arg]
    """The lists of rows in an answer, beside the cursor `last`."""
    result = json.loads(_text(path), parse_float=str)["result"]
    return (rows for key, rows in result.items() if key != "last")


def _files(folder: Path, request: str, parameter: str) -> list[Path]:
    """Files whose name says this request and exactly this parameter."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix == ".gz"
        and f"_{request}_" in path.name
        and parameter in path.name.replace(".jsonl.gz", "").replace(".json.gz", "").split("_")
    )


def _text(path: Path) -> str:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read()
