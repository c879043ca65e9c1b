"""`verify` compares minute by minute, and names the minute of a trade that was altered by hand."""

import re
import time
from pathlib import Path

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.market import MarketSettings
from tests.long.repair.support import Servers, collecting, now_us, site

MARKET = MarketSettings(rate=20, symbols=3, history_s=7200)
COUNTS = re.compile(r"minutes compared (\d+), equal (\d+), different (\d+)")


def test_verify_names_the_minute_of_an_altered_trade(tmp_path: Path, servers: Servers) -> None:
    began_us = now_us()
    with site(tmp_path, servers, MARKET, since="30m") as here, collecting(here):
        here.wait_until_complete(began_us - 29 * MINUTE_US, now_us(), 90)
        answer = here.daemon.command("verify", "kraken", "BTC/USD")
        counts = COUNTS.search(answer.stdout)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert counts, answer.stdout
        compared, equal, different = map(int, counts.groups())
        assert (equal, different) == (compared, 0)
        assert compared >= 29
        ((ts_us,),) = here.daemon.query(
            """
            UPDATE ohlcvd.trades SET price = price * 2 WHERE (instrument_id, ts, trade_id) = (
                SELECT i.id, t.ts, t.trade_id FROM ohlcvd.trades t JOIN ohlcvd.instruments i ON i.id = t.instrument_id
                WHERE i.exchange = 'kraken' AND i.symbol = 'BTC/USD' AND t.ts > to_timestamp(%s / 1e6)
                ORDER BY ts LIMIT 1
            ) RETURNING (extract(epoch FROM ts) * 1000000)::bigint
            """,
            began_us - 7 * MINUTE_US,
        )
        minute = time.strftime("%Y-%m-%d %H:%M", time.gmtime(ts_us // 1_000_000))
        altered = here.daemon.command("verify", "kraken", "BTC/USD")
        assert altered.returncode == 1, altered.stdout + altered.stderr
        named = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d) differs$", altered.stdout, re.MULTILINE)
        assert named == [minute], altered.stdout
        shown = altered.stdout[altered.stdout.index(f"{minute} differs") :].splitlines()
        assert [line.split()[0] for line in shown[1:5]] == ["SOURCE", "trades", "stored", "venue"], shown[:6]
    print(f"verify: {compared} minutes compared, {equal} equal, {different} different; altered: exit 1, {minute} named")
