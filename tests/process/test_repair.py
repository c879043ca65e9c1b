"""Nothing is ever missing: cuts, kills and days off are repaired from history, and coverage never says too much."""

import os
import signal
import time
from pathlib import Path

from tests.process.harness import Daemon, Exchange, local_exchange, started, wait_for
from tests.process.truth import stored_candles, stored_trades, true_candles, true_trades

EXCHANGES = ("kraken", "binance")
MINUTE_US = 60_000_000
# Everything that ended this long ago must be stored.
SETTLED_US = 25_000_000


def daemon_for(folder: Path, exchange: Exchange, dsn: str, url: str) -> Daemon:
    symbols = {name: exchange.symbols(name) for name in EXCHANGES}
    return Daemon(folder, exchange, symbols, dsn=dsn, url=url)


def now_us() -> int:
    return time.time_ns() // 1000


def coverage(daemon: Daemon) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    rows = daemon.query(
        """
        SELECT exchange, symbol, kind, (extract(epoch FROM lower(part)) * 1000000)::bigint,
               (extract(epoch FROM upper(part)) * 1000000)::bigint
        FROM ohlcvd.named_coverage, unnest(covered) AS part ORDER BY 1, 2, 3, 4
        """
    )
    found: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for exchange, symbol, kind, lower_us, upper_us in rows:
        found.setdefault((exchange, symbol, kind), []).append((lower_us, upper_us))
    return found


def assert_claims_hold(daemon: Daemon, exchange: Exchange) -> None:
    """What coverage claims at this moment is stored, trade for trade."""
    claimed = coverage(daemon)
    for (name, symbol, kind), ranges in claimed.items():
        if kind != "trades":
            continue
        stored = set(stored_trades(daemon, name, symbol))
        for lower_us, upper_us in ranges:
            missing = set(true_trades(exchange, name, symbol, lower_us, upper_us)) - stored
            assert not missing, f"{name} {symbol}: claimed but not stored: {sorted(missing)[:3]} of {len(missing)}"


def faults(daemon: Daemon, exchange: Exchange, from_us: int, to_us: int) -> list[str]:
    """What is not as it should be between two moments that lie in the past."""
    found = []
    for name in EXCHANGES:
        for symbol in exchange.symbols(name):
            stored = [row for row in stored_trades(daemon, name, symbol) if from_us <= row[1] < to_us]
            truth = true_trades(exchange, name, symbol, from_us, to_us)
            if sorted(stored) != sorted(truth):
                lost, extra = set(truth) - set(stored), set(stored) - set(truth)
                found.append(f"{name} {symbol}: {len(lost)} trades lost, {len(extra)} wrong, {len(stored)} rows")
            first_us, last_us = -(-from_us // MINUTE_US) * MINUTE_US, to_us - MINUTE_US
            candles = true_candles(exchange, name, symbol, first_us, last_us)
            kept = stored_candles(daemon, name, symbol)
            wrong = [ts_us for ts_us in candles if kept.get(ts_us) != candles[ts_us]]
            if wrong:
                found.append(f"{name} {symbol}: {len(wrong)} of {len(candles)} candles missing or wrong")
    gaps = daemon.query("SELECT exchange, symbol, kind, gap::text, reason FROM ohlcvd.gaps")
    return found + [" ".join(row) for row in gaps]


def test_cut_kill_and_time_off_leave_no_gap(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with local_exchange(tmp_path, "--symbols", "10", "--rate", "20") as exchange:
        daemon = daemon_for(tmp_path, exchange, database_url, redis_url)
        from_us = now_us() + 1_000_000
        with started(daemon):
            daemon.wait_until_streaming()
            from_us = now_us()
            for name in EXCHANGES:
                exchange.post("fault", {"fault": "cut", "exchange": name})
            wait_for("cut connections are back", daemon_is_streaming(daemon))
            assert_claims_hold(daemon, exchange)
            exchange.post("fault", {"fault": "silence", "exchange": "kraken", "value": 15})
            os.kill(daemon.children()["binance"]["pid"], signal.SIGKILL)
            time.sleep(16)
            assert_claims_hold(daemon, exchange)
            os.kill(daemon.children()["kraken"]["pid"], signal.SIGKILL)
            wait_for("the killed are back", daemon_is_streaming(daemon))
            assert daemon.command("stop").returncode == 0
            time.sleep(20)
            assert daemon.command("start").returncode == 0
            daemon.wait_until_streaming()
            to_us = now_us()
            wait_for(
                "everything is there",
                lambda: now_us() > to_us + SETTLED_US and not faults(daemon, exchange, from_us, to_us),
                90,
            )
            assert_claims_hold(daemon, exchange)
        doubled = daemon.query(
            "SELECT exchange, symbol, trade_id FROM ohlcvd.named_trades GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        assert doubled == []


def daemon_is_streaming(daemon: Daemon):  # type: ignore[no-untyped-def]
    def is_streaming() -> bool:
        children = daemon.children()
        return bool(children) and all(child["state"] == "streaming" for child in children.values())

    return is_streaming
