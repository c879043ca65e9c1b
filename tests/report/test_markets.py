"""`markets` and `check-config --online` as a user runs them, against the local exchange and against nobody."""

import json
import subprocess
import sys
from pathlib import Path

from tests.process.harness import local_exchange, ohlcvd


def configuration(folder: Path, url: str, symbols: str) -> Path:
    file = folder / "my.conf"
    directories = "".join(f"{name}_dir = {folder / name}\n" for name in ("state", "run", "log"))
    urls = f"rest_url = {url}/kraken\nws_url = {url.replace('http', 'ws')}/kraken\n"
    file.write_text(f"[ohlcvd]\nexchanges = kraken\nsymbols = {symbols}\n{directories}[exchange:kraken]\n{urls}")
    return file


def test_what_an_exchange_gives_and_lists(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    with local_exchange(tmp_path, "--symbols", "3") as exchange:
        first, *others = sorted(exchange.symbols("kraken"))
        conf = str(configuration(tmp_path, exchange.url, f"{first}, NO/SUCH"))
        done = ohlcvd("markets", "kraken", "--config", conf, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"*  {first}\n" in done.stdout
        assert all(f"   {symbol}\n" in done.stdout for symbol in others)
        assert "sequential ids" in done.stdout
        document = json.loads(ohlcvd("markets", "kraken", "--json", "--config", conf, folder=tmp_path).stdout)
        assert document["markets"] == dict.fromkeys([first, *others], True)
        assert (document["collected"], document["trades"], document["trouble"]) == ([first], "fast stream", None)
        done = ohlcvd("check-config", "--online", "--config", conf, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "kraken: 1 of 3 markets are wanted; it does not list NO/SUCH" in done.stdout
        nothing = str(configuration(tmp_path, exchange.url, "NO/SUCH"))
        assert ohlcvd("check-config", "--online", "--config", nothing, folder=tmp_path).returncode == 78


def test_an_exchange_out_of_reach_or_unknown(tmp_path: Path) -> None:
    (tmp_path / ".env").touch()
    conf = str(configuration(tmp_path, "http://127.0.0.1:1", "BTC/USD"))
    done = ohlcvd("markets", "kraken", "--config", conf, folder=tmp_path)
    assert done.returncode == 69
    assert "the latest 720 minutes" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "the markets of kraken are not known now" in done.stderr
    done = ohlcvd("check-config", "--online", "--config", conf, folder=tmp_path)
    assert done.returncode == 69
    assert "kraken: cannot be asked" in done.stdout
    done = ohlcvd("markets", "bitmex", "--config", conf, folder=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (
        64, "ohlcvd: BitMEX closed on 2026-09-23 and is no longer in ccxt"
    )  # fmt: skip


def test_markets_of_an_exchange_with_a_fixed_list_need_no_network() -> None:
    code = "import sys; from ohlcvd.cli import main; sys.exit(main(['markets', 'bit2c']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "built from the trades" in done.stdout
    assert "BTC/NIS" in done.stdout
