"""Symbols are added and removed while everything runs; those listed and delisted by exchanges: tests/long/symbols."""

import json
from pathlib import Path

from tests.process.harness import Daemon, Exchange, local_exchange, started, wait_for
from tests.process.truth import assert_all_stored

EXCHANGES = ("kraken", "binance")


def rows_of(daemon: Daemon, exchange: str, symbol: str) -> int:
    found = daemon.query(
        "SELECT count(*) FROM ohlcvd.named_trades WHERE exchange = %s AND symbol = %s", exchange, symbol
    )
    return int(found[0][0])


def undisturbed(daemon: Daemon, exchange: Exchange) -> None:
    """No connection was opened again, or beside the first, and no child."""
    venues = exchange.get("status")["exchanges"]
    for name, child in daemon.children().items():
        assert child["restarts"] == 0, child
        assert child["counters"]["reconnects"] == 0, child
        assert venues[name]["connected_ever"] == 1, venues[name]


def nothing_lost(daemon: Daemon, exchange: Exchange, symbols: dict[str, list[str]]) -> None:
    """Of what was sent of these; the market ends with it."""
    exchange.post("freeze")

    def stored() -> bool:
        try:
            for name, names in symbols.items():
                for symbol in names:
                    assert_all_stored(daemon, exchange, name, symbol)
        except AssertionError:
            return False
        return True

    wait_for("everything sent is stored", stored)


def subscriptions(exchange: Exchange, name: str) -> int:
    return int(exchange.get("status")["exchanges"][name]["subscriptions"])


def test_symbols_are_added_and_removed_without_a_restart(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with local_exchange(tmp_path, "--symbols", "8", "--rate", "40") as exchange:
        listed = {name: exchange.symbols(name) for name in EXCHANGES}
        symbols = {name: names[:3] for name, names in listed.items()}
        daemon = Daemon(tmp_path, exchange, symbols, dsn=database_url, url=redis_url)
        with started(daemon):
            daemon.wait_until_streaming()
            wait_for("all subscriptions", lambda: all(subscriptions(exchange, name) == 6 for name in EXCHANGES))
            pids = {name: child["pid"] for name, child in daemon.children().items()}

            answer = daemon.command("symbols", "add", "kraken", listed["kraken"][3])
            assert answer.returncode == 0, answer.stderr
            assert daemon.command("symbols", "add", "binance", listed["binance"][3]).returncode == 0
            for name in EXCHANGES:
                wait_for(f"trades of the new one at {name}", lambda n=name: rows_of(daemon, n, listed[n][3]))  # type: ignore[misc]
            wait_for("all subscriptions", lambda: all(subscriptions(exchange, name) == 8 for name in EXCHANGES))

            # the same by configuration
            daemon.file.write_text(
                daemon.file.read_text().replace(
                    f"symbols = {', '.join(symbols['kraken'])}", f"symbols = {', '.join(listed['kraken'][:5])}"
                )
            )
            answer = daemon.command("reload")
            assert answer.returncode == 0, answer.stderr
            wait_for("trades of the one configured", lambda: rows_of(daemon, "kraken", listed["kraken"][4]))

            assert daemon.command("symbols", "remove", "kraken", listed["kraken"][0]).returncode == 0
            wait_for("the removed one is unsubscribed", lambda: subscriptions(exchange, "kraken") == 8)
            undisturbed(daemon, exchange)
            assert {name: child["pid"] for name, child in daemon.children().items()} == pids

            expected = sorted(listed["kraken"][1:5])
            wait_for(
                "what is collected is told", lambda: sorted(of_kraken(daemon)["collected"]) == expected, every_s=1.0
            )
            kraken = of_kraken(daemon)
            assert kraken["added"] == [listed["kraken"][3]]
            assert kraken["removed"] == [listed["kraken"][0]]
            shown = daemon.command("symbols", "list", "kraken").stdout
            assert f"removed     {listed['kraken'][0]}" in shown

            nothing_lost(daemon, exchange, {"kraken": listed["kraken"][1:5], "binance": listed["binance"][:4]})
        assert "Traceback" not in daemon.logs()


def of_kraken(daemon: Daemon) -> dict[str, list[str]]:
    """What `symbols list` says of it."""
    document = json.loads(daemon.command("symbols", "list", "--json").stdout)
    kraken: dict[str, list[str]] = next(one for one in document if one["exchange"] == "kraken")
    return kraken


def test_words_that_do_not_fit_get_one_sentence(tmp_path: Path, database_url: str, redis_url: str) -> None:
    with local_exchange(tmp_path, "--symbols", "2") as exchange:
        daemon = Daemon(tmp_path, exchange, {"kraken": ["BTC/USD"]}, dsn=database_url, url=redis_url)
        early = daemon.command("symbols", "add", "kraken", "ETH/USD")
        assert (early.returncode, early.stderr.count("\n")) == (69, 1)
        with started(daemon):
            daemon.wait_until_streaming()
            for words, said in (
                (("add", "krakn", "ETH/USD"), "did you mean kraken?"),
                (("add", "kraken"), "needs an exchange and at least one symbol"),
                (("add", "kraken", "ETH-USD"), "did you mean ETH/USD?"),
                (("add", "kraken", "!ETH/USD"), "symbols remove kraken"),
                (("remove", "kraken", "BTC/USDT"), "did you mean BTC/USD?"),
                (("list", "binance"), "not configured"),
            ):
                answer = daemon.command("symbols", *words)
                assert (answer.returncode, answer.stderr.count("\n")) == (64, 1), answer.stderr
                assert said in answer.stderr
            # what the exchange does not list is the child's to report
            assert daemon.command("symbols", "add", "kraken", "NO/SUCH").returncode == 0
            wait_for(
                "it is reported",
                lambda: "no exchange that answers lists NO/SUCH" in daemon.command("status").stdout,
                every_s=1.0,
            )
            # with everything removed the child idles, and goes on when there is something again
            assert daemon.command("symbols", "remove", "kraken", "BTC/USD").returncode == 0
            wait_for("nothing is subscribed", lambda: not subscriptions(exchange, "kraken"))
            wait_for(
                "that is well",
                lambda: daemon.status()["healthy"] and daemon.children()["kraken"]["state"] == "streaming",
            )
            assert daemon.command("symbols", "add", "kraken", "BTC/USD").returncode == 0
            wait_for("it is subscribed", lambda: subscriptions(exchange, "kraken") == 2)
            assert daemon.children()["kraken"]["restarts"] == 0


def parked(daemon: Daemon) -> dict[str, str]:
    return {market["exchange"]: market["symbol"] for market in daemon.status()["markets"] if market.get("parked")}
