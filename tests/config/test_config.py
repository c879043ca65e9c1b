"""What is in effect: what wins over what, and where each value came from."""

import pickle
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from ohlcvd.config import Config, ExchangeConfig, Since
from ohlcvd.config.layers import SERVERS_STOP_S, SERVICE_STOP_S
from ohlcvd.config.retention import DAY_US, check_backfill
from ohlcvd.config.settings import ENVIRONMENT_NAMES, EXCHANGE_KEYS, SECTIONS
from ohlcvd.embedded.server import POSTGRES_STOP
from ohlcvd.errors import ConfigError
from tests.config.loading import load, origin_of, refusal

CHECKOUT = Path(__file__).resolve().parents[2]


def test_without_any_file_the_defaults_hold(folder: Path) -> None:
    config = load(folder)
    assert (config.service, config.OHLCV_EXCHANGES) == ("both", ["kraken", "binance"])
    assert config.since == Since(duration_s=7 * 86400)
    assert (config.postgres_dsn, config.redis_url) == ("embedded", "embedded")
    assert config.http_listen == "127.0.0.1:9464"
    assert config.file is None
    assert {setting.origin for setting in config.effective()} == {"default"}


def test_later_layers_win_and_every_value_knows_its_origin(folder: Path) -> None:
    text = "[ohlcvd]\nservice = trade\nexchanges = kraken\nsince = 1d\nsymbols = A/B\nlog_level = debug\n"
    env = "OHLCV_EXCHANGES=okx\nOHLCV_SINCE=2d\nOHLCV_SYMBOLS=C/D\n"
    environ = {"OHLCV_SINCE": "3d", "OHLCV_SYMBOLS": "E/F"}
    config = load(folder, text, env=env, environ=environ, flags={"ohlcvd.symbols": "G/H"})
    assert (config.service, config.log_level) == ("trade", "DEBUG")
    assert config.OHLCV_EXCHANGES == ["okx"]
    assert config.since == Since(duration_s=3 * 86400)
    assert config.OHLCV_SYMBOLS == ["G/H"]
    assert origin_of(config, "ohlcvd", "service") == "etc/ohlcvd.conf:2"
    assert origin_of(config, "ohlcvd", "exchanges") == ".env:1"
    assert origin_of(config, "ohlcvd", "since") == "environment OHLCV_SINCE"
    assert origin_of(config, "ohlcvd", "symbols") == "--symbols"
    assert origin_of(config, "http", "listen") == "default"


def test_a_value_that_is_overridden_is_not_read(folder: Path) -> None:
    assert load(folder, "[ohlcvd]\nservice = nonsense\n", flags={"ohlcvd.service": "trade"}).service == "trade"


def test_an_exchange_may_differ(folder: Path) -> None:
    text = """
[exchange:kraken]
symbols = BTC/USD
rest_url = http://127.0.0.1:8000/kraken/
ws_url = ws://127.0.0.1:8000/kraken
sandbox = yes
shards = 3
[ohlcvd]
symbols = BTC/USDT, !LUNA/*
"""
    config = load(folder, text)
    url = "127.0.0.1:8000/kraken"
    assert config.exchange("kraken") == ExchangeConfig("kraken", ("BTC/USD",), f"http://{url}", f"ws://{url}", True, 3)
    assert config.exchange("binance") == ExchangeConfig("binance", ("BTC/USDT", "!LUNA/*"))
    with pytest.raises(KeyError):
        config.exchange("okx")


def test_symbols_of_environment_or_flags_win_over_an_exchange_section_of_the_file(folder: Path) -> None:
    config = load(folder, "[exchange:kraken]\nsymbols = A/B\n", environ={"OHLCV_SYMBOLS": "C/D"})
    assert config.exchange("kraken").symbols == ("C/D",)
    assert origin_of(config, "exchange:kraken", "symbols") == "environment OHLCV_SYMBOLS"


def test_comments_continuations_and_odd_line_ends(folder: Path) -> None:
    lines = [
        "\ufeff; first",
        "[ohlcvd] ; a section",
        "# other",
        "symbols = A/B, ; one",
        "",
        "  ; two",
        "\tC/D,",
        "  E/F",
    ]
    text = "\r\n".join([*lines, "since=0;", ""])
    assert "ohlcvd.conf:9: since is" in refusal(folder, text)  # "0;": only " ;" begins a comment
    config = load(folder, text.replace("0;", "0 ;"))
    assert config.OHLCV_SYMBOLS == ["A/B", "C/D", "E/F"]
    assert config.since.live_only
    assert origin_of(config, "ohlcvd", "symbols") == "etc/ohlcvd.conf:4"


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("0", Since(duration_s=0)),
        ("90s", Since(duration_s=90)),
        ("5m", Since(duration_s=300)),
        ("36h", Since(duration_s=36 * 3600)),
        ("2w", Since(duration_s=14 * 86400)),
        ("2026-01-02", Since(at_us=1_767_312_000_000_000)),
        ("2026-01-02T03:04", Since(at_us=1_767_323_040_000_000)),
        ("2026-01-02 03:04:05.000006Z", Since(at_us=1_767_323_045_000_006)),
        ("2026-01-02T03:04+02:00", Since(at_us=1_767_315_840_000_000)),
    ],
)
def test_since(folder: Path, text: str, since: Since) -> None:
    assert load(folder, f"[ohlcvd]\nsince = {text}\n").since == since


def test_since_counts_back_from_the_start_and_never_lies_after_it() -> None:
    assert Since(duration_s=60).start_us(100_000_000) == 40_000_000
    assert Since(at_us=5).start_us(100) == 5
    assert Since(at_us=500).start_us(100) == 100


@pytest.mark.parametrize("name", ["false", "no", "0", "OFF"])
def test_without_trades_both_becomes_ohlcv(folder: Path, name: str) -> None:
    config = load(folder, environ={"TRADE_COLLECTION_ENABLED": name})
    assert (config.service, config.collects_trades, config.collects_candles) == ("ohlcv", False, True)
    assert config.TRADE_COLLECTION_ENABLED is False
    assert origin_of(config, "ohlcvd", "service") == "environment TRADE_COLLECTION_ENABLED"


def test_with_trades_nothing_changes(folder: Path) -> None:
    assert load(folder, environ={"TRADE_COLLECTION_ENABLED": "true", "OHLCV_SERVICE": "ohlcv"}).service == "ohlcv"
    config = load(folder, "[ohlcvd]\nservice = trade")
    assert (config.collects_trades, config.collects_candles) == (True, False)


def test_dotenv_quotes_exports_comments_and_other_programs_lines(folder: Path) -> None:
    env = """\
# comment
export OHLCV_SERVICE="trade" # why
POSTGRES_HOST='db.example'
POSTGRES_PASSWORD="a \\"b\\" #\\\\c"
POSTGRES_USER=bob # not carol
POSTGRES_DB=x#y
LOG_LEVEL=
OHLCV_SINCE=1d
OHLCV_SINCE = 2d
OTHER="not ours
<?php
"""
    config = load(folder, env=env)
    assert (config.service, config.since) == ("trade", Since(duration_s=2 * 86400))
    assert (config.POSTGRES_HOST, config.POSTGRES_USER, config.POSTGRES_DB) == ("db.example", "bob", "x#y")
    assert config.POSTGRES_PASSWORD == 'a "b" #\\c'
    assert config.log_level == "INFO"
    assert config.postgres_dsn == "host=db.example user=bob password='a \"b\" #\\\\c' dbname='x#y'"


def test_dotenv_of_the_checkout_is_read_where_the_current_folder_has_none(folder: Path) -> None:
    (folder / ".env").write_text("OHLCV_SERVICE=trade\n")
    assert load(folder).service == "trade"
    assert load(folder, env="OHLCV_SERVICE=ohlcv").service == "ohlcv"


def test_a_python_environment_called_dotenv_is_no_configuration(folder: Path) -> None:
    (folder / "cwd" / ".env").mkdir()
    assert load(folder).service == "both"


def test_empty_variables_count_as_not_set(folder: Path) -> None:
    environ = {
        "OHLCV_SYMBOLS": "",
        "POSTGRES_HOST": "",
        "POSTGRES_PORT": " ",
        "REDIS_PASSWORD": "",
        "OHLCV_SERVICE": "",
    }
    assert load(folder, environ=environ, env="OHLCV_SERVICE=trade") == load(folder, "[ohlcvd]\nservice = trade")


def test_a_named_host_takes_the_place_of_embedded(folder: Path) -> None:
    environ = {
        "POSTGRES_HOST": "db",
        "POSTGRES_PORT": "5433",
        "POSTGRES_USER": "u",
        "REDIS_HOST": "cache",
        "REDIS_DB": "2",
    }
    config = load(folder, environ=environ)
    assert config.postgres_dsn == "host=db port=5433 user=u"
    assert config.redis_url == "redis://cache:6379/2"
    assert (config.POSTGRES_PORT, config.POSTGRES_DB, config.POSTGRES_PASSWORD) == (5433, None, None)
    assert (config.REDIS_HOST, config.REDIS_PORT, config.REDIS_DB, config.REDIS_PASSWORD) == ("cache", 6379, 2, None)
    assert origin_of(config, "redis", "url") == "environment REDIS_HOST, environment REDIS_DB"


def test_each_variable_replaces_its_own_part(folder: Path) -> None:
    text = "[postgres]\ndsn = postgresql://u:p@h1,h2:5433/d?sslmode=require\n[redis]\nurl = rediss://:p@h:1/4\n"
    config = load(folder, text, env="POSTGRES_PASSWORD=new", environ={"REDIS_PORT": "7000"})
    assert config.postgres_dsn == "user=u password=new host=h1,h2 port=,5433 dbname=d sslmode=require"
    assert config.redis_url == "rediss://:p@h:7000/4"
    assert origin_of(config, "postgres", "dsn") == "etc/ohlcvd.conf:2, .env:1"


def test_embedded_has_no_parts(folder: Path) -> None:
    config = load(folder)
    assert [config.POSTGRES_HOST, config.POSTGRES_PORT, config.REDIS_HOST, config.REDIS_PORT] == [None] * 4


# The object


def test_a_config_is_frozen_comparable_and_goes_through_pickle(folder: Path) -> None:
    config = load(folder, "[ohlcvd]\nservice = trade\n")
    with pytest.raises(FrozenInstanceError):
        config.service = "both"  # type: ignore[misc]
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.effective() == config.effective()
    assert config == load(folder, "", flags={"ohlcvd.service": "trade"})
    assert config != load(folder, "")


def test_the_ladder_of_timeouts(folder: Path) -> None:
    config = load(folder, "")
    assert (config.hang_after_s, config.drain_s, config.grace_s) == (15.0, 20.0, 30.0)
    assert (sum(seconds for _, seconds in POSTGRES_STOP), 120.0) == (SERVERS_STOP_S, SERVICE_STOP_S)
    quick = load(folder, "[ohlcvd]\nhang_after = 3s\ndrain = 1s\ngrace = 44s\n")
    assert (quick.hang_after_s, quick.drain_s, quick.grace_s) == (3.0, 1.0, 44.0)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("drain = 30s", r'ohlcvd.conf:2: drain is "30s" and grace is "30s" \(default\): a child would be killed while'),
        ("grace = 10s", r'drain is "20s" and grace is "10s"'),
        ("grace = 45s", r'ohlcvd.conf:2: grace is "45s": must be shorter than 45s'),
        ("grace = 1m", r"must be shorter than 45s"),
        ("hang_after = 2s", r'ohlcvd.conf:2: hang_after is "2s": allowed is a whole number .* from 3s to 60m'),
        ("hang_after = 15", r"allowed is a whole number followed by s or m"),
        ("drain = 0s", r"from 1s to 60m"),
        ("drain = -5s", r"from 1s to 60m"),
    ],
)
def test_timeouts_that_would_cut_each_other_off_are_refused(folder: Path, lines: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(folder, f"[ohlcvd]\n{lines}\n")


def test_service_managers_wait_longer_than_the_whole_ladder() -> None:
    unit = (CHECKOUT / "etc/systemd/ohlcvd.service").read_text()
    program = (CHECKOUT / "etc/supervisor/ohlcvd.conf").read_text()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    wait = re.search(r"^stopwaitsecs = (\d+)$", program, re.MULTILINE)
    assert stop is not None
    assert wait is not None
    assert float(stop[1]) == float(wait[1]) == SERVICE_STOP_S
    assert "RestartPreventExitStatus=78" in unit


def test_a_file_is_read_again_from_where_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(folder, "[ohlcvd]\nsymbols = BTC/USD\n", flags={"ohlcvd.service": "trade"}, env="LOG_LEVEL=DEBUG\n")
    assert before.reloaded() == before
    monkeypatch.chdir("/")
    assert before.file is not None
    before.file.write_text("[ohlcvd]\nsymbols = ETH/USD\n")
    after = before.reloaded()
    assert (after.OHLCV_SYMBOLS, after.service, after.log_level) == (["ETH/USD"], "trade", "DEBUG")
    before.file.write_text("[ohlcvd]\nsymbol = ETH/USD\n")
    with pytest.raises(ConfigError, match="did you mean symbols"):
        before.reloaded()
    last = Config.last_resort(before.file)
    assert last.run_dir == Config(environ={}).run_dir
    before.file.write_text("[ohlcvd\nrun_dir = /somewhere/else ; for the lock\n")
    assert Config.last_resort(before.file).run_dir == Path("/somewhere/else")


# The files that are shipped


def test_the_shipped_file_is_valid_says_the_defaults_and_names_every_key(folder: Path) -> None:
    text = (CHECKOUT / "etc/ohlcvd/ohlcvd.conf").read_text()
    assert load(folder, text) == load(folder, "")
    plain = "\n".join(line.removeprefix(";") for line in text.splitlines() if not line.startswith("; "))
    assert load(folder, plain.replace("BTC/USD, BTC/EUR", "BTC/USD, ETH/USD, BTC/USDT, ETH/USDT")) == load(folder, "")
    for section, keys in (*SECTIONS.items(), ("exchange:kraken", EXCHANGE_KEYS)):
        part = plain.partition(f"[{section}]")[2].partition("\n[")[0]
        for key in keys:
            assert f"\n{key} " in part, key


def test_the_example_of_dotenv_names_every_variable_and_is_valid(folder: Path) -> None:
    text = (CHECKOUT / ".env.example").read_text()
    assert load(folder, "", env=text) == load(folder, "")
    used = "\n".join(line.removeprefix("#") for line in text.splitlines() if not line.startswith("# "))
    config = load(folder, env=used)
    assert (config.POSTGRES_PORT, config.REDIS_PORT) == (5432, 6379)
    assert {name for name in ENVIRONMENT_NAMES if f"\n{name}=" in used} == ENVIRONMENT_NAMES


def test_how_long_rows_are_kept(folder: Path) -> None:
    config = load(folder)
    assert (config.retention_us("trades"), config.retention_us("candles")) == (None, None)
    assert config.not_kept(0) == []
    config = load(folder, "[ohlcvd]\nretention_trades = 2w\nretention_candles = 7d\n")
    assert (config.retention_us("trades"), config.retention_us("candles")) == (14 * DAY_US, 7 * DAY_US)
    assert config.not_kept(20_000 * DAY_US + 5) == [
        "trades from before 2024-09-20 are not kept (retention_trades = 14d)",
        "candles from before 2024-09-27 are not kept (retention_candles = 7d)",
    ]
    check_backfill("trades", 14 * DAY_US, 19_986 * DAY_US, 20_000 * DAY_US + 5)
    check_backfill("trades", None, 0, 20_000 * DAY_US)
    with pytest.raises(ConfigError, match="retention_trades is 14d, so what is older would be dropped again"):
        check_backfill("trades", 14 * DAY_US, 19_986 * DAY_US - 1, 20_000 * DAY_US + 5)
