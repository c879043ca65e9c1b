"""What is refused: one clear sentence with place and remedy for everything that is wrong, and no secret in any."""

from pathlib import Path

import pytest

from ohlcvd.config import Config
from ohlcvd.config.settings import SECTIONS
from ohlcvd.errors import ConfigError, Exit
from tests.config.loading import as_other_user, load, open_up, refusal


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[ohlcvd]\nsimbols = A/B\n", '2: unknown key "simbols" in [ohlcvd]: allowed are service, exchanges,'),
        ("[ohlcvd]\nsimbols = A/B\n", "did you mean symbols?"),
        ("[ohlcvd]\ndsn = x\n", "it belongs into [postgres]"),
        ("[ohlcvd]\nshards = 2\n", "it belongs into [exchange:NAME]"),
        ("[exchange:kraken]\nsymbol = A/B\n", '2: unknown key "symbol" in [exchange:kraken]'),
        ("\n[postgre]\n", "2: unknown section [postgre]: allowed are [ohlcvd], [postgres]"),
        ("[postgre]\ndsn = embedded\n", "did you mean [postgres]"),
        ("[exchange]\nshards = 1\n", "unknown section [exchange]"),
        ("[exchange:]\n", '1: section [exchange:] names "", which is none of the'),
        ("[exchange:krakn]\n", "did you mean kraken"),
        ("[exchange:bitmex]\nshards = 1\n", "BitMEX closed on 2026-09-23 and is no longer in ccxt"),
        ("[exchange:okx]\n", "1: section [exchange:okx] is for an exchange that is not collected: exchanges is"),
        ("[exchange:okx]\nshards = 1\n", "add okx there or take the section out"),
        ("service = both\n", '1: "service" stands before any [section]; begin with [ohlcvd]'),
        ("[ohlcvd]\nservice\n", '2: "service" is neither a [section] nor key = value'),
        ("[ohlcvd\n", '1: "[ohlcvd" is not a section'),
        ("[ohlcvd]\nsince = 1d\n[http]\n[ohlcvd]\n", "4: section [ohlcvd] was already begun in line 1"),
        ("[ohlcvd]\nsince = 1d\nsince = 1d\n", "3: since was already set in line 2"),
        ("[ohlcvd]\nsince = 1\x07d\n", "2: holds a control character"),
        ("[ohlcvd]\nservice = bth\n", '2: service is "bth": allowed are ohlcv, trade and both; did you mean both?'),
        ("[ohlcvd]\nservice = 'both'\n", "(write values without quotes)"),
        ("[ohlcvd]\nservice =\n", 'service is ""'),
        ("[ohlcvd]\nretention_trades = 1d\n", '2: retention_trades is "1d": allowed are a whole number followed by d'),
        ("[ohlcvd]\nretention_trades = 6d\n", '2: retention_trades is "6d", but since wants "7d" (default): what is'),
        (
            "[ohlcvd]\nsince = 2026-01-31\nretention_candles = 520w\n",
            '3: retention_candles is "520w", but since is the date "2026-01-31"',
        ),
        ("[ohlcvd]\nlog_level = warn\n", "did you mean WARNING?"),
        ("[ohlcvd]\nexchanges =\n", "exchanges is empty"),
        ("[ohlcvd]\nexchanges = , ,\n", "exchanges is empty"),
        ("[ohlcvd]\nexchanges = Kraken\n", 'names "Kraken", which is none of the'),
        ("[ohlcvd]\nexchanges = binanc, kraken\n", "did you mean binance"),
        ("[ohlcvd]\nexchanges = kraken binance\n", 'has "kraken binance" in it: separate names by commas'),
        ("[ohlcvd]\nexchanges = kraken, bitmex\n", "closed on 2026-09-23 and is no longer in ccxt; take it out"),
        ("[ohlcvd]\nexchanges = BitMEX\n", "closed on 2026-09-23"),
        ("[ohlcvd]\nexchanges = qqqqqqqq\n", "allowed are ids such as kraken"),
        ("[ohlcvd]\nsymbols =\n", "symbols is empty"),
        ("[ohlcvd]\nsymbols = BTC-USD\n", "did you mean BTC/USD?"),
        ("[ohlcvd]\nsymbols = BTCUSD\n", "a symbol is BASE/QUOTE"),
        ("[ohlcvd]\nsymbols = A/B C/D\n", "separate symbols by commas"),
        ('[ohlcvd]\nsymbols = "A/B", C/D\n', "write symbols plainly"),
        ("[ohlcvd]\nsymbols = !A/B\n", "only takes symbols out"),
        ("[ohlcvd]\nsymbols = A/B, !A/*\n", "nothing is left"),
        ("[ohlcvd]\nsymbols = A/B,\n  since = 1d\n", "symbols has"),
        ("[ohlcvd]\nsince = 7\n", '2: since is "7": allowed are a number followed by s, m (minutes), h, d or w'),
        ("[ohlcvd]\nsince = 7y\n", "since is"),
        ("[ohlcvd]\nsince = -7d\n", "since is"),
        ("[ohlcvd]\nsince = 20260101\n", "since is"),
        ("[ohlcvd]\nsince = 2026-02-30\n", "since is"),
        ("[ohlcvd]\nsince = ٣d\n", "since is"),
        ("[ohlcvd]\nsince = 99999d\n", "at most 10000d"),
        ("[ohlcvd]\nsince = 2008-12-31\n", "before 2009"),
        ("[ohlcvd]\nstate_dir =\n", "write the whole path"),
        ("[ohlcvd]\nrun_dir = ~/run\n", "write the whole path"),
        ("[exchange:kraken]\nrest_url = ftp://x\n", "begins with http:// or https://"),
        ("[exchange:kraken]\nrest_url = ws://x\n", "begins with http:// or https://"),
        ("[exchange:kraken]\nws_url = http://x\n", "begins with ws:// or wss://"),
        ("[exchange:kraken]\nws_url = ws://\n", "names a host"),
        ("[exchange:kraken]\nrest_url = http://x:99999\n", "rest_url is"),
        ("[exchange:kraken]\nrest_url = http://x/?a=b\n", "without ? or #"),
        ("[exchange:kraken]\nshards = 0\n", '2: shards is "0": allowed is a whole number from 1 to 64'),
        ("[exchange:kraken]\nshards = 1.5\n", "a whole number"),
        ("[exchange:kraken]\nshards = 65\n", "a whole number"),
        ("[exchange:kraken]\nsandbox = maybe\n", 'sandbox is "maybe": allowed are yes and no'),
        ("[http]\nlisten = 9464\n", "allowed is address:port"),
        ("[http]\nlisten = localhost:99999\n", "allowed is address:port"),
        ("[http]\nlisten = ::1:9464\n", "allowed is address:port"),
        ("[postgres]\ndsn =\n", "dsn is empty"),
        ("[postgres]\ndsn = localhost\n", "pair 1 has no ="),
        ("[postgres]\ndsn = databas=x\n", 'has a parameter "databas" that libpq does not know'),
        ("[postgres]\ndsn = host=x pasword=y\n", "did you mean password"),
        ("[postgres]\ndsn = host=x port=http\n", "a number from 1 to 65535"),
        ("[postgres]\ndsn = host=x password='a ;b'\n", "a blank and ; begin a comment"),
        ("[redis]\nurl = localhost:6379\n", "begin with redis://, rediss:// or unix://"),
        ("[redis]\nurl =\n", "begin with redis://"),
        ("[redis]\nurl = redis://h:x/0\n", "a number from 1 to 65535"),
        ("[redis]\nurl = redis://h/x\n", "database number"),
        ("[redis]\nurl = redis://h/0?dbb=1\n", "is not known; did you mean db?"),
        ("[redis]\nurl = unix://run/redis.sock\n", "three slashes"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_place_and_remedy(folder: Path, text: str, sentence: str) -> None:
    said = refusal(folder, text)
    assert sentence in said
    assert said.startswith("etc/ohlcvd.conf:")


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ({"environ": {"OHLCV_SERVICE": "trades"}}, 'environment OHLCV_SERVICE: service is "trades"'),
        ({"env": "\nOHLCV_SINCE=soon"}, '.env:2: since is "soon"'),
        ({"env": "LOG_LEVEL='INFO"}, ".env:1: the value of LOG_LEVEL begins with ' and does not end with it"),
        ({"env": "export OHLCV_SINCE 7d"}, ".env:1: has no = after the name"),
        ({"flags": {"ohlcvd.exchanges": "krakken"}}, "--exchanges: exchanges names"),
        ({"flags": {"ohlcvd.log_level": "LOUD"}}, "--log-level: log_level is"),
        ({"flags": {"ohlcvd.sinse": "1d"}}, "there is no setting ohlcvd.sinse; did you mean ohlcvd.since"),
        (
            {"environ": {"OHLCV_SYMBOLS": "A\udc80/B"}},
            "environment OHLCV_SYMBOLS: the value of OHLCV_SYMBOLS is not UTF-8",
        ),
        (
            {"environ": {"TRADE_COLLECTION_ENABLED": "false", "OHLCV_SERVICE": "trade"}},
            'TRADE_COLLECTION_ENABLED is "false", but service is trade (environment OHLCV_SERVICE)',
        ),
        (
            {"env": "TRADE_COLLECTION_ENABLED=nope"},
            '.env:1: TRADE_COLLECTION_ENABLED is "nope": allowed are yes and no',
        ),
        (
            {"environ": {"POSTGRES_PORT": "5432"}},
            "environment POSTGRES_PORT: POSTGRES_PORT is set, but [postgres] dsn is embedded (default)",
        ),
        ({"env": "POSTGRES_PASSWORD=sesame"}, "set POSTGRES_HOST too, or take POSTGRES_PASSWORD out"),
        ({"environ": {"REDIS_DB": "1"}}, "[redis] url is embedded"),
        ({"environ": {"POSTGRES_HOST": "h", "POSTGRES_PORT": "0"}}, 'POSTGRES_PORT is "0": allowed is a port'),
        ({"environ": {"REDIS_HOST": "h", "REDIS_PORT": "x"}}, 'REDIS_PORT is "x": allowed is a port'),
        ({"environ": {"REDIS_HOST": "h", "REDIS_DB": "-1"}}, "environment REDIS_DB: REDIS_DB has a database number"),
        ({"environ": {"REDIS_HOST": "a@b"}}, "REDIS_HOST is not a host name"),
        ({"environ": {"REDIS_HOST": "/run/r.sock", "REDIS_PORT": "1"}}, "which has no port"),
        (
            {"text": "[postgres]\ndsn = host=a,b port=1,2", "environ": {"POSTGRES_HOST": "c"}},
            "names 1 host(s) but 2 ports: set POSTGRES_PORT too",
        ),
        (
            {"text": "[postgres]\ndsn = hst=a", "environ": {"POSTGRES_HOST": "c"}},
            "etc/ohlcvd.conf:2: dsn has a parameter",
        ),
    ],
)
def test_other_layers_that_are_wrong(folder: Path, layers: dict[str, object], sentence: str) -> None:
    assert sentence in refusal(folder, **layers)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", ["flags", "environ", "env"])
def test_sections_of_exchanges_that_another_layer_leaves_out_are_fine(folder: Path, layer: str) -> None:
    text = "[exchange:okx]\nshards = 2\n[exchange:binance]\nshards = 2\n"
    values = {
        "flags": {"ohlcvd.exchanges": "kraken"},
        "environ": {"OHLCV_EXCHANGES": "kraken"},
        "env": "OHLCV_EXCHANGES=kraken",
    }
    config = load(folder, text, **{layer: values[layer]})  # type: ignore[arg-type]
    assert config.OHLCV_EXCHANGES == ["kraken"]
    assert {s.section for s in config.effective()} == {*SECTIONS, "exchange:kraken"}
    broken = text.replace("2\n[", "many\n[")
    assert "shards is" in refusal(folder, broken, **{layer: values[layer]})


def test_the_file_must_be_there_and_be_text(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.conf: there is no such file"):
        Config(folder / "nowhere.conf", environ={}, cwd=folder)
    with pytest.raises(ConfigError, match="is a directory, not a file"):
        Config(folder, environ={}, cwd=folder)
    file = folder / "bad.conf"
    file.write_bytes(b"[ohlcvd]\nsymbols = caf\xe9/USD\n")
    with pytest.raises(ConfigError, match=r"bad\.conf:2: is not UTF-8 text \(byte 0xe9\)"):
        Config(file, environ={}, cwd=folder)
    file.write_bytes(b";" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        Config(file, environ={}, cwd=folder)


def test_a_file_that_may_not_be_read(folder: Path) -> None:
    open_up(folder)
    file = folder / "secret.conf"
    file.write_text("[ohlcvd]\n")
    file.chmod(0)
    code, said = as_other_user(folder, "Config(folder / 'secret.conf', environ={}, cwd=folder)")
    assert code == Exit.PERMISSION
    assert "secret.conf: cannot be read by this user (Permission denied)" in said


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        "[postgres]\ndsn = host=db password=sesame sslpassword=sesame\n[redis]\nurl = redis://:sesame@h\n",
        "[postgres]\ndsn = postgresql://bob:sesame@db/x\n[redis]\nurl = redis://h?password=sesame\n",
    ],
)
def test_passwords_are_masked_wherever_a_config_is_shown(folder: Path, text: str) -> None:
    config = load(folder, text)
    assert "sesame" in config.postgres_dsn
    assert "sesame" in config.redis_url
    assert config.REDIS_PASSWORD == "sesame"
    shown = repr(config) + str(config) + repr(config.effective()) + f"{config.warnings}"
    assert "sesame" not in shown
    assert "password=***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "[postgres]\ndsn = host=db password=two sesame\n",
        "[postgres]\ndsn = host=db password='sesame\n",
        "[postgres]\ndsn = postgresql://bob:ses%ame@db\n",
        "[postgres]\ndsn = postgresql://bob:p@sesame:x@db\n",
        "[redis]\nurl = redis://:ses ame@h\n",
        "[redis]\nurl = redis://:sesame#1@h\n",
        "[redis]\nurl = redis://:sesame[1@h\n",
        "[redis]\nurl = http://:sesame@h\n",
        "[exchange:kraken]\nrest_url = http://bob:sesame@h\n",
        "[exchange:kraken]\nws_url = htp://bob:sesame@h\n",
    ],
)
def test_no_message_repeats_a_password(folder: Path, text: str) -> None:
    said = refusal(folder, text)
    assert "ses" not in said.replace("addresses", "")


@pytest.mark.parametrize(
    ("service", "exchange", "sentence"),
    [
        ("trade", "mudrex", "service is trade, but mudrex gives no public trades"),
        ("ohlcv", "bit2c", "service is ohlcv, but bit2c gives no candles of one minute"),
    ],
)
def test_an_exchange_that_does_not_give_what_is_collected(
    folder: Path, service: str, exchange: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(folder, f"[ohlcvd]\nservice = {service}\nexchanges = {exchange}\n")
    assert load(folder, f"[ohlcvd]\nservice = both\nexchanges = {exchange}\n").service == "both"
