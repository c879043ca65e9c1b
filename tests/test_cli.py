"""The command line as a user meets it: what is printed where, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ohlcvd import __version__, cli, commands
from ohlcvd.config.settings import ENVIRONMENT_NAMES

ROOT = Path(__file__).resolve().parents[1]

# Commands of the design that this version does not have yet must not be there as empty shells.
COMMANDS = (
    "demo",
    "simulate",
    "check-config",
    "start",
    "stop",
    "restart",
    "reload",
    "log-level",
    "run",
    "status",
    "logs",
    "symbols",
    "markets",
    "backfill",
    "gaps",
    "verify",
    "candles",
    "trades",
    "export",
)
HEAVY = ("ccxt", "psycopg", "redis", "aiohttp", "ohlcvd.simulator.server", "ohlcvd.database")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration whose directories are all its own."""
    file = tmp_path / "my.conf"
    directories = "".join(f"{name}_dir = {tmp_path / name}\n" for name in ("state", "run", "log"))
    file.write_text(f"[ohlcvd]\nexchanges = kraken\n{directories}[redis]\nurl = redis://:sesame@cache\n")
    file.chmod(0o600)
    return file


def command(*words: str | Path) -> tuple[list[str], dict[str, str]]:
    """What to execute, and an environment in which nothing is configured."""
    environ = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT_NAMES}
    environ.pop("PYTHONUNBUFFERED", None)  # it would hide a flush that was forgotten
    environ["PYTHONPATH"] = os.pathsep.join(path for path in (str(ROOT), os.environ.get("PYTHONPATH")) if path)
    return [sys.executable, "-P", "-m", "ohlcvd", *map(str, words)], environ


def ohlcvd(*words: str | Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end, in a folder that has no `.env`."""
    argv, env = command(*words)
    return subprocess.run(
        argv, env=env | (environ or {}), cwd="/", capture_output=True, text=True, timeout=60, check=False
    )


def test_help_names_every_command_with_an_example() -> None:
    done = ohlcvd("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert tuple(commands.COMMANDS) == COMMANDS
    for name in COMMANDS:
        assert f"\n    {name} " in done.stdout.replace("\n    check-config\n", "\n    check-config \n")
    assert "exit codes: 0 done" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_takes_a_config(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--config FILE" in shown
    assert f"example:\n  ohlcvd {name}" in shown


def test_version() -> None:
    done = ohlcvd("--version")
    assert (done.returncode, done.stdout) == (0, f"ohlcvd {__version__}\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["strat"], 'there is no command "strat"; did you mean start or status?'),
        (["--config", "x", "qqqq"], 'there is no command "qqqq"; commands are demo, '),
        (["status", "--jsno"], "unrecognized arguments: --jsno"),
        (["check-config", "--symbol", "A/B"], "unrecognized arguments: --symbol"),
        (["log-level", "LOUD"], 'the level is "LOUD": allowed are DEBUG, INFO, WARNING, ERROR and CRITICAL'),
        (["status", "now"], "unrecognized arguments: now"),
        (["demo", "--seconds", "soon"], '"soon" is not a number of seconds above 0'),
        (["demo", "--seconds", "nan"], '"nan" is not a number of seconds above 0'),
        (["logs", "-n", "-1"], "argument -n/--lines"),
        (["run", "--config"], "expected one argument"),
    ],
)
def test_wrong_words_are_usage_errors(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.startswith("ohlcvd: ")
    assert said.err.count("\n") == 1


def test_without_a_command_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 64
    said = capsys.readouterr()
    assert (said.out, "usage: ohlcvd" in said.err) == ("", True)


# check-config


def test_check_config_shows_values_and_origins(conf: Path) -> None:
    environ = {"OHLCV_SERVICE": "trade"}
    done = ohlcvd("check-config", "--config", conf, "--symbols", "A/B", environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    values = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert values["ohlcvd.service"] == ["trade", "environment OHLCV_SERVICE"]
    assert values["ohlcvd.exchanges"] == ["kraken", f"{conf}:2"]
    assert values["ohlcvd.symbols"] == ["A/B", "--symbols"]
    assert values["redis.url"] == ["redis://:***@cache:6379/0", f"{conf}:7"]
    assert values["exchange:kraken.rest_url"] == ["(none)", "default"]
    assert "sesame" not in done.stdout
    short = [line for line in lines if len(line.split()[1]) < 40]
    assert len({line.index(line.split(maxsplit=2)[2]) for line in short}) == 1  # the origins stand in one column


def test_config_may_stand_before_the_command(conf: Path) -> None:
    assert ohlcvd("--config", conf, "check-config").stdout == ohlcvd("check-config", "--config", conf).stdout


@pytest.mark.parametrize("name", ["check-config", "run", "start"])
def test_a_bad_configuration_is_one_sentence_and_exit_78(name: str, conf: Path) -> None:
    conf.write_text("[ohlcvd]\nexchanges = bitmex\n")
    done = ohlcvd(name, "--config", conf)
    assert (done.returncode, done.stdout) == (78, "")
    why = "BitMEX closed on 2026-09-23 and is no longer in ccxt; take it out"
    assert done.stderr == f'ohlcvd: {conf}:2: exchanges names "bitmex": {why}\n'


def test_a_bad_flag_is_exit_78_too(conf: Path) -> None:
    done = ohlcvd("run", "--config", conf, "--service", "ohclv")
    assert (done.returncode, done.stderr) == (
        78,
        'ohlcvd: --service: service is "ohclv": allowed are ohlcv, trade and both; did you mean ohlcv?\n',
    )
    assert ohlcvd("status", "--config", conf.parent / "none.conf").returncode == 78


@pytest.mark.parametrize("words", [("status",), ("stop",), ("reload",), ("log-level", "DEBUG")])
def test_a_file_that_is_broken_now_does_not_hide_what_runs(conf: Path, words: tuple[str, ...]) -> None:
    conf.write_text(conf.read_text() + "[nonsense]\n")
    done = ohlcvd(*words, "--config", conf)
    assert done.returncode == {"status": 3, "stop": 0}.get(words[0], 69)
    if words[0] != "reload":  # the service itself would say so
        assert "unknown section [nonsense]" in done.stderr
        assert f"; looking for the service in {conf.parent}" in done.stderr


def test_warnings_go_to_stderr(conf: Path) -> None:
    conf.chmod(0o644)
    done = ohlcvd("check-config", "--config", conf)
    assert done.returncode == 0
    assert done.stderr.startswith(f"ohlcvd: warning: {conf}: holds a password and every user")


# status and logs


def test_status_of_what_does_not_run(conf: Path) -> None:
    done = ohlcvd("status", "--config", conf)
    assert (done.returncode, done.stdout, done.stderr) == (3, "ohlcvd: not running\n", "")
    done = ohlcvd("status", "--json", "--config", conf)
    document = json.loads(done.stdout)
    assert (done.returncode, document["state"], document["children"]) == (3, "not running", [])


def test_logs_are_readable(conf: Path) -> None:
    log = conf.parent / "log"
    assert ohlcvd("logs", "--config", conf).returncode == 78
    log.mkdir()
    line = {"time": "2026-01-02T03:04:05.000Z", "level": "INFO", "component": "ohlcvd.x", "message": "caf\xe9"}
    (log / "kraken.log").write_text(json.dumps(line) + "\n")
    done = ohlcvd("logs", "kraken", "--config", conf)
    assert (done.returncode, done.stdout) == (0, "03:04:05 INFO    x  caf\xe9\n")
    done = ohlcvd("logs", "krakn", "--config", conf)
    assert (done.returncode, "did you mean kraken?" in done.stderr) == (64, True)


# How it ends


def test_an_interrupt_is_quiet_and_130(conf: Path) -> None:
    log = conf.parent / "log"
    log.mkdir()
    (log / "kraken.log").write_text('{"message": "hello"}\n')
    argv, env = command("logs", "-f", "--config", conf)
    with subprocess.Popen(argv, env=env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "hello" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    argv, env = command("check-config")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        done = subprocess.run(argv, env=env, cwd="/", stdout=nobody, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_closed_output_is_no_error(conf: Path) -> None:
    argv, env = command("check-config", "--config", conf)
    done = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *argv], env=env, cwd="/", timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("1 // 0", "ZeroDivisionError"),
        # a pipe that is not our output
        ("read, write = os.pipe(); os.close(read); os.write(write, b'x')", "BrokenPipeError"),
    ],
)
def test_a_bug_shows_its_traceback_and_is_70(fault: str, name: str) -> None:
    code = f"""
import os, sys
from ohlcvd import cli

def run(args):
    {fault}

cli.COMMANDS["stop"] = (*cli.COMMANDS["stop"][:3], run)
sys.exit(cli.main(["stop"]))
"""
    _, env = command()
    argv = [sys.executable, "-P", "-c", code]
    done = subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 70
    assert done.stderr.startswith("Traceback")
    assert name in done.stderr
    assert done.stderr.endswith("ohlcvd: this is a bug in ohlcvd\n")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["check-config"], ["status"], ["logs"]])
def test_small_commands_load_nothing_heavy(words: list[str], conf: Path) -> None:
    (conf.parent / "log").mkdir()
    code = (
        "import sys; from ohlcvd.cli import main; code = main(sys.argv[1:]);"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    _, env = command()
    words = [*words, "--config", str(conf)] if "--help" not in words else words
    argv = [sys.executable, "-P", "-c", code, *words]
    done = subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == f"loaded [] {3 if words[0] == 'status' else 0}", done.stderr
