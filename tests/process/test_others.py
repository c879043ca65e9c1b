"""What other programs find of a running daemon: process records, lists, views, and streams without a hole."""

import json
import os
import signal
from datetime import UTC, datetime, timedelta
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


def rows_of(client: "redis.Redis", key: str) -> list[list[Any]]:
    entries: Any = client.xrange(key)
    return [row for _, fields in entries for row in json.loads(fields[b"rows"])]


def test_other_programs_find_every_collector_and_lose_nothing(tmp_path: Path, database_url: str) -> None:
    with (
        private_directory() as folder,
        running(prepare_valkey(folder)) as valkey,
        local_exchange(tmp_path, "--symbols", "2", "--rate", "40") as exchange,
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
            see_lists_and_views(daemon, client, symbols[0])
            lose_nothing_to_a_kill(daemon, client, symbols, valkey.pid)
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


def lose_nothing_to_a_kill(daemon: Daemon, client: "redis.Redis", symbols: list[str], valkey: int) -> None:
    """Redis stands still while rows are committed, and the child is killed before it could publish them.

    For longer than what the next child is given again anyway: the venue's last trades, and what is not covered yet.
    """
    stored_before, since = stored(daemon), datetime.now(UTC)
    child = daemon.children()["kraken"]["pid"]
    os.kill(valkey, signal.SIGSTOP)
    try:
        wait_for("trades are committed all the same", lambda: stored(daemon) > stored_before + 20 * 40, 120)
        os.kill(child, signal.SIGKILL)
    finally:
        os.kill(valkey, signal.SIGCONT)
    wait_for("another child streams", lambda: daemon.children()["kraken"]["pid"] not in (child, None))
    daemon.wait_until_streaming()
    for symbol in symbols:
        for kind, key in (("trades", "trade_id"), ("candles", "(extract(epoch FROM ts) * 1000000)::bigint")):
            view = f"SELECT {key} FROM ohlcvd.named_{kind} WHERE exchange = 'kraken' AND symbol = %s AND ts >= %s"
            # Those of before may have left the stream by now: it holds 1,000 entries.
            there = {row[0] for row in daemon.query(view, symbol, since)}
            wait_for_stream(client, f"ohlcvd:{kind}:kraken:{symbol}", there)

    log = daemon.folder / "log" / "kraken.log"
    wait_for("the child says so", lambda: "rows of the last hour were missing in redis, appended" in log.read_text())


def wait_for_stream(client: "redis.Redis", stream: str, keys: set[Any]) -> None:
    wait_for(f"{stream} has every stored row", lambda: keys <= {row[0] for row in rows_of(client, stream)})


def stored(daemon: Daemon) -> int:
    return int(daemon.query("SELECT count(*) FROM ohlcvd.trades")[0][0])
