"""What other programs find of a running daemon: process records, lists, views, and streams without a hole."""

import json
import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import redis
from psycopg import sql

from ohlcvd.embedded import prepare_valkey, running
from tests.process.harness import Daemon, local_exchange, started, wait_for
from tests.servers import private_directory

FRESH = timedelta(seconds=60)


def processes(client: "redis.Redis") -> dict[str, dict[str, Any]]:
    """By component, written against the documented keys only."""
    found = {}
    active: Any = client.hgetall("process:active:ohlcv")
    for process_id, updated_at in active.items():
        text: Any = client.get(f"process:data:{process_id.decode()}")
        record = json.loads(text)
        assert record["process_id"] == process_id.decode()
        assert datetime.fromisoformat(updated_at.decode()) <= datetime.fromisoformat(record["updated_at"])
        assert client.hget("process:components", record["component"]) == process_id
        assert 86_000 < int(str(client.ttl(f"process:data:{process_id.decode()}"))) <= 86_400
        found[record["component"]] = record
    return found


def test_other_programs_find_every_collector_and_lose_nothing(tmp_path: Path, database_url: str) -> None:
    with (
        private_directory() as folder,
        running(prepare_valkey(folder)) as valkey,
        local_exchange(tmp_path, "--symbols", "2", "--rate", "15") as exchange,
        redis.Redis.from_url(valkey.address) as client,
    ):
        symbols = exchange.symbols("kraken")
        daemon = Daemon(tmp_path, exchange, {"kraken": symbols}, dsn=database_url, url=valkey.address)
        text = daemon.file.read_text()
        daemon.file.write_text(
            text.replace("[redis]", "fullon_views = yes\n[redis]").replace("[http]", "fullon_keys = yes\n[http]")
        )
        with started(daemon):
            daemon.wait_until_streaming()
            see_every_collector(client, symbols)
            lose_nothing_to_a_kill(daemon, valkey.address, symbols, valkey.pid)
            see_lists_and_views(daemon, client, symbols[0])
        records = [json.loads(str(client.get(key), "utf-8")) for key in client.keys("process:data:*")]
        assert {record["status"] for record in records} == {"stopped"}
        assert not processes(client)


def see_every_collector(client: "redis.Redis", symbols: list[str]) -> None:
    expected = {f"kraken:{symbol}{suffix}" for symbol in symbols for suffix in ("", ":trades")}
    wait_for(
        "every collector runs, as its record says",
        lambda: {name for name, one in processes(client).items() if one["status"] == "running"} == expected,
    )
    before = processes(client)
    for record in before.values():
        assert record["process_type"] == "ohlcv"
        assert record["params"]["symbol"] in symbols
        assert set(record) >= {"process_id", "component", "params", "status", "message", "created_at", "heartbeat"}
        assert datetime.now(UTC) - datetime.fromisoformat(record["heartbeat"]) < FRESH
    wait_for(
        "every heartbeat goes on",
        lambda: all(one["heartbeat"] > before[name]["heartbeat"] for name, one in processes(client).items()),
    )


def see_lists_and_views(daemon: Daemon, client: "redis.Redis", symbol: str) -> None:
    bars_key, trades_key = f"ohlcv:{symbol}:1m", f"trades:kraken:{symbol.replace('/', '')}"
    wait_for("a candle is stored", lambda: client.llen(bars_key), 120)
    bars: Any = [json.loads(text) for text in client.lrange(bars_key, 0, -1)]
    name = symbol.lower().replace("/", "_")
    view = sql.SQL("SELECT extract(epoch FROM timestamp)::bigint, open, high, low, close, vol FROM {}").format(
        sql.Identifier("kraken", f"{name}_candles1m")
    )
    stored = {row[0]: [float(value) for value in row[1:]] for row in daemon.query(view.as_string())}
    assert [stored[ts] for ts, *_ in bars] == [bar[1:] for bar in bars]
    trades: Any = [json.loads(text) for text in client.lrange(trades_key, 0, -1)]
    times: dict[str, float] = {}
    for one in trades:
        times.setdefault(one["ex_trade_id"], one["timestamp"])  # a row may come twice, as documented
    assert times
    assert list(times.values()) == sorted(times.values())
    [(price, volume, side, kind)] = daemon.query(
        sql.SQL("SELECT price, volume, side, type FROM {} ORDER BY timestamp DESC LIMIT 1")
        .format(sql.Identifier("kraken", f"{name}_trades"))
        .as_string()
    )
    assert (side in ("BUY", "SELL"), kind, price > 0, volume > 0) == (True, "MARKET", True, True)


class Follower:
    """A consumer written against the documented streams only: XREAD after the last entry, whatever happens between."""

    def __init__(self, url: str, kind: str, symbols: list[str]) -> None:
        self.seen: dict[str, list[list[Any]]] = {symbol: [] for symbol in symbols}
        self._url = url
        self._kind = kind
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)

    def _follow(self) -> None:
        last = {f"ohlcvd:{self._kind}:kraken:{symbol}": "0" for symbol in self.seen}
        with redis.Redis.from_url(self._url, socket_timeout=5) as client:
            while not self._ended.is_set():
                try:
                    found: Any = client.xread(last, count=100, block=500)
                except redis.RedisError:
                    self._ended.wait(0.2)
                    continue
                for name, entries in found:
                    stream = name.decode()
                    rows = self.seen[stream.removeprefix(f"ohlcvd:{self._kind}:kraken:")]
                    for entry_id, fields in entries:
                        last[stream] = entry_id.decode()
                        rows += json.loads(fields[b"rows"])

    def has_seen(self, symbol: str, keys: set[Any]) -> bool:
        return keys <= {row[0] for row in list(self.seen[symbol])}


def lose_nothing_to_a_kill(daemon: Daemon, url: str, symbols: list[str], valkey: int) -> None:
    """Redis stands still while rows are committed, and the child is killed before it could publish them.

    For longer than what the next child is given again anyway: the venue's last trades, and what is not covered yet.
    """
    with Follower(url, "trades", symbols) as trades, Follower(url, "candles", symbols) as candles:
        stored_before, since = stored(daemon), datetime.now(UTC)
        minute = since.replace(second=0, microsecond=0)  # the one that runs; it is closed while Redis stands still
        child = daemon.children()["kraken"]["pid"]
        os.kill(valkey, signal.SIGSTOP)
        try:
            wait_for("trades are committed all the same", lambda: stored(daemon) > stored_before + 20 * 40, 120)
            for symbol in symbols:
                wait_for(f"and a candle of {symbol}", partial(keys_of, daemon, "candles", symbol, minute), 120)
            os.kill(child, signal.SIGKILL)
            there = {symbol: keys_of(daemon, "candles", symbol, minute) for symbol in symbols}
        finally:
            os.kill(valkey, signal.SIGCONT)
        assert not any(candles.has_seen(symbol, keys) for symbol, keys in there.items()), "published before the kill"
        wait_for("another child streams", lambda: daemon.children()["kraken"]["pid"] not in (child, None))
        daemon.wait_until_streaming()
        for symbol in symbols:
            for kind, follower, start in (("trades", trades, since), ("candles", candles, minute)):
                rows = keys_of(daemon, kind, symbol, start)
                what = f"whoever follows the {kind} of {symbol} has every stored row"
                wait_for(what, partial(follower.has_seen, symbol, rows))

    log = daemon.folder / "log" / "kraken.log"
    wait_for("the child says so", lambda: "rows that redis lacked are appended to its streams" in log.read_text())


def keys_of(daemon: Daemon, kind: str, symbol: str, since: datetime) -> set[Any]:
    """What a consumer tells the rows that are stored since then apart by."""
    key = "trade_id" if kind == "trades" else "(extract(epoch FROM ts) * 1000000)::bigint"
    view = f"SELECT {key} FROM ohlcvd.named_{kind} WHERE exchange = 'kraken' AND symbol = %s AND ts >= %s"
    return {row[0] for row in daemon.query(view, symbol, since)}


def stored(daemon: Daemon) -> int:
    return int(daemon.query("SELECT count(*) FROM ohlcvd.trades")[0][0])
