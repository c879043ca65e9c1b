"""The demo's local exchange: a process running `ohlcvd simulate`, asked over its control addresses."""

import json
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from ohlcvd.demo.processes import ohlcvd_command, ohlcvd_environment
from ohlcvd.errors import ServiceUnavailable
from ohlcvd.market import Candle, Trade

ANSWER_S = 30.0


class LocalExchange:
    """Starts the exchange on entering, ends it on leaving."""

    def __init__(self, folder: Path, *, symbols: int, trades_per_s: int) -> None:
        words = ["simulate", "--port", "0", "--symbols", str(symbols), "--rate", str(trades_per_s)]
        self._log = folder / "exchange.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ohlcvd_command(*words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=ohlcvd_environment(),
                start_new_session=True,
                text=True,
            )
        self.url = ""

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        words = [word for word in line.split() if word.startswith("http://")]
        if not words:
            self._end()
            raise ServiceUnavailable(f"the local exchange did not start: {self._log.read_text().strip()[-500:]}")
        self.url = words[0].rstrip("/")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def symbols(self, exchange: str) -> list[str]:
        """The unified symbols that it lists."""
        return list(self._get("sent", exchange=exchange)["symbols"])

    def freeze(self) -> int:
        """End the market: no trade happens after the time returned."""
        request = urllib.request.Request(f"{self.url}/control/freeze", b"{}", method="POST")
        return int(self._request(request)["frozen_us"])

    def sent(self, exchange: str, symbol: str) -> list[Trade]:
        """Every trade that went to a subscriber, first snapshot included."""
        return _trades(self._get("sent", exchange=exchange, symbol=symbol, snapshots=1)["trades"])

    def truth(self, exchange: str, symbol: str, from_us: int, to_us: int) -> list[Trade]:
        """Every trade that happened in `[from_us, to_us)`."""
        words = {"exchange": exchange, "symbol": symbol, "from_us": from_us, "to_us": to_us}
        return _trades(self._get("truth", **words)["trades"])

    def candles(self, exchange: str, symbol: str, from_us: int, to_us: int) -> dict[int, Candle]:
        """The candles of minutes with trades that open in `[from_us, to_us)`."""
        words = {"exchange": exchange, "symbol": symbol, "from_us": from_us, "to_us": to_us, "kind": "candles"}
        rows = (Candle._make((*row, "venue")) for row in self._get("truth", **words)["candles"])
        return {candle.ts_us: candle for candle in rows if candle.trades}

    def _get(self, name: str, **words: object) -> Mapping[str, Any]:
        return self._request(urllib.request.Request(f"{self.url}/control/{name}?{urlencode(words)}"))

    def _request(self, request: urllib.request.Request) -> Mapping[str, Any]:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            document = json.load(answer)
        assert isinstance(document, dict)
        return document


def _trades(rows: list[list[Any]]) -> list[Trade]:
    return [Trade(int(ts_us), str(number), price, amount, side) for number, ts_us, price, amount, side in rows]
