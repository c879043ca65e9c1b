"""Children are killed between a COMMIT and its publication in Redis: whoever follows the streams gets every row.

A relay before Redis holds back the next XADD of a kind, so that PostgreSQL has rows that no stream has; then the child
is killed with -9. The consumers are those of README: they keep the id of the last entry they have dealt with, and here
they begin anew after every kill.
"""

import asyncio
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ohlcvd.cache import CacheReader
from ohlcvd.market import MINUTE_US, Candle, Trade
from ohlcvd.simulator.market import MarketSettings
from tests.process.harness import started, wait_for
from tests.process.sites import Site, postgres, site, valkey

KILLS = {"trades": 6, "candles": 3}
MARKET = MarketSettings(rate=40, symbols=3, history_s=3600)
EXCHANGE = "kraken"


class Relay:
    """Between clients and Redis, in threads. From `hold` on, the first XADD to a stream of this kind goes nowhere."""

    def __init__(self, path: Path, target: Path) -> None:
        self.url = f"unix://{path}"
        self.held = threading.Event()
        self._target = target
        self._wanted = b""
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, name="relay")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for end in self._sockets:
            with suppress(OSError):  # the other side has gone
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (*self._sockets, self._listener):
            end.close()

    def hold(self, kind: str) -> None:
        self.held.clear()
        self._wanted = f"ohlcvd:{kind}:{EXCHANGE}:".encode()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # the end
                return
            far = socket.socket(socket.AF_UNIX)
            self._sockets += [near, far]
            far.connect(str(self._target))
            for source, sink, commands in ((near, far, True), (far, near, False)):
                thread = threading.Thread(target=self._pump, args=(source, sink, commands), name="relay")
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, commands: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                if commands and self._is_held(data):
                    return  # whoever sent it waits for an answer until it is killed
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _is_held(self, data: bytes) -> bool:
        if not self._wanted or b"XADD" not in data or self._wanted not in data:
            return False
        self._wanted = b""
        self.held.set()
        return True


class Consumer:
    """What README says of following: one of these for each run, `last` outlives it. Rows by what they are told by."""

    def __init__(self, url: str, symbol: str, kind: str) -> None:
        self.rows: dict[Any, Candle | Trade] = {}
        self.kind, self.symbol = kind, symbol
        self._url = url
        self._last = "0"

    def lacks(self, stored: dict[Any, Candle | Trade]) -> list[tuple[Candle | Trade, Candle | Trade | None]]:
        """Stored rows that it has not, or not with the same values, beside what it has."""
        rows = dict(self.rows)
        return [(row, rows.get(key)) for key, row in stored.items() if values(row) != values(rows.get(key))]

    async def run(self) -> None:
        async with CacheReader(self._url) as reader:
            follow: Any = reader.follow_candles if self.kind == "candles" else reader.follow_trades
            async for entry in follow(EXCHANGE, self.symbol, self._last):
                for row in entry.rows:
                    self.rows[row.ts_us if self.kind == "candles" else row.id] = row
                self._last = entry.id


@contextmanager
def running(consumers: list[Consumer]) -> Iterator[None]:
    """All of them in one thread, ended in the middle of whatever they do."""
    loop = asyncio.new_event_loop()

    async def follow() -> None:
        await asyncio.gather(*(one.run() for one in consumers))

    task = loop.create_task(follow())

    def work() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass

    thread = threading.Thread(target=work, name="consumers")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def test_no_consumer_misses_what_was_committed_before_a_kill(tmp_path: Path) -> None:
    with (
        postgres() as database,
        valkey() as cache,
        Relay(tmp_path / "relay.sock", Path(cache.address.removeprefix("unix://"))) as relay,
        site(tmp_path, database.address, relay.url, settings=MARKET) as here,
        started(here.daemon),
    ):
        here.daemon.wait_until_streaming()
        since_us = time.time_ns() // 1000 + 1_000_000
        symbols = here.truth.symbols(EXCHANGE)
        consumers = [Consumer(cache.address, symbol, kind) for symbol in symbols for kind in KILLS]
        lacked = 0
        for kind, kills in KILLS.items():
            for _ in range(kills):
                with running(consumers):
                    lacked += kill_between(here, relay, kind, cache.address)
        until_us = time.time_ns() // 1000 - 1_000_000
        here.wait_until_complete(since_us, until_us)
        with running(consumers):
            for one in consumers:
                stored = rows_of(here, one, since_us, until_us)
                try:
                    wait_for(f"{one.kind} of {one.symbol}", partial(_lacks_none, one, stored), 60)
                except AssertionError:
                    found = one.lacks(stored)
                    raise AssertionError(f"{len(found)} {one.kind} of {one.symbol}, such as {found[:2]}") from None
                print(f"{one.kind} of {one.symbol}: {len(stored)} stored, every one of them read as it is")
        print(f"{sum(KILLS.values())} kills; {lacked} rows were committed and not published when they came")
        assert lacked > 0


def _lacks_none(one: Consumer, stored: dict[Any, Candle | Trade]) -> bool:
    return not one.lacks(stored)


def values(row: Candle | Trade | None) -> list[object]:
    """Numbers as such: of one trade, REST and the live stream may give more or fewer zeros at the end."""
    return [
        Decimal(cell) if isinstance(cell, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", cell) else cell
        for cell in row or ()
    ]


def kill_between(here: Site, relay: Relay, kind: str, url: str) -> int:
    """How many rows PostgreSQL had then that no stream had."""
    if kind == "candles":  # not one that is fetched, and was published before
        time.sleep(59 - time.time() % 60 if time.time() % 60 < 59 else 59)
        here.daemon.wait_until_streaming()
    pid = here.daemon.children()[EXCHANGE]["pid"]
    relay.hold(kind)
    assert relay.held.wait(120), f"no {kind} were published"
    os.kill(pid, signal.SIGKILL)
    lacked = asyncio.run(lacking(here, kind, url))
    assert lacked > 0, f"the {kind} that were to be published are not stored, or published all the same"

    def is_back() -> bool:
        child = here.daemon.children().get(EXCHANGE, {})
        return child.get("pid") not in (pid, None) and child["state"] == "streaming"

    wait_for("another child streams", is_back)
    return lacked


async def lacking(here: Site, kind: str, url: str) -> int:
    """Of the last moments, for which the streams are long enough."""
    now_us = time.time_ns() // 1000
    since_us = now_us - (2 * MINUTE_US if kind == "candles" else 10_000_000)
    found = 0
    async with CacheReader(url) as reader:
        for symbol in here.truth.symbols(EXCHANGE):
            consumer = Consumer(url, symbol, kind)
            stored = rows_of(here, consumer, since_us, now_us)
            published: Any = await (reader.candles if kind == "candles" else reader.trades)(EXCHANGE, symbol, 1_000)
            found += len(stored.keys() - {row.ts_us if kind == "candles" else row.id for row in published})
    return found


def rows_of(here: Site, one: Consumer, from_us: int, to_us: int) -> dict[Any, Candle | Trade]:
    """What is stored, as the streams have it."""
    seconds = "(extract(epoch FROM ts) * 1000000)::bigint"
    columns = (
        f"{seconds}, open::text, high::text, low::text, close::text, volume::text, trades, source"
        if one.kind == "candles"
        else f"{seconds}, trade_id, price::text, amount::text, side"
    )
    make: Any = Candle if one.kind == "candles" else Trade
    rows = here.daemon.query(
        f"""SELECT {columns} FROM ohlcvd.named_{one.kind} WHERE exchange = %s AND symbol = %s
            AND ts >= to_timestamp(%s / 1e6) AND ts < to_timestamp(%s / 1e6)""",
        EXCHANGE, one.symbol, from_us, to_us,
    )  # fmt: skip
    return {row[0] if one.kind == "candles" else row[1]: make(*row) for row in rows}
