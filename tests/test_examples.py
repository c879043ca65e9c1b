"""Every example of the README and of the docstrings, run as it stands: a daemon that collects from the local exchange,
its PostgreSQL and Redis, and beside it a Python that knows only the installation and its configuration."""

import ast
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ohlcvd.config import Config
from ohlcvd.embedded import EmbeddedServer
from tests.process.harness import environment, local_exchange, wait_for
from tests.servers import fresh_database, private_directory, temporary_valkey

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
# Where docstrings hold examples: indented blocks that call something.
MODULES = {"alone", "cache/process", "cache/reader", "database/facade", "database/symbols", "log"}

# What a docstring's example may use without importing it.
PRELUDE = """
import os
from pathlib import Path
from ohlcvd.cache import CacheReader, OHLCVCache, ProcessCache
from ohlcvd.config import Config
from ohlcvd.database import Database, OHLCVDatabase
from ohlcvd.database.facade import configured
from ohlcvd.database.symbols import SymbolRepository
from ohlcvd.log import get_component_logger
from ohlcvd.ohlcv.collector import OhlcvCollector
from ohlcvd.trade.collector import TradeCollector
conninfo = configured(Config())
candles = []
"""
# Examples await at their top level, as `python -m asyncio` lets them.
RUNNER = """
import ast, asyncio, inspect, sys
code = compile(sys.stdin.read(), "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
result = eval(code, {"__name__": "example"})
if inspect.iscoroutine(result):
    asyncio.run(result)
"""


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def docstring_blocks(path: Path) -> list[str]:
    """The indented blocks of a module's docstrings that are Python."""
    found = []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, documented)]
    for text in filter(None, map(ast.get_docstring, nodes)):
        for block in re.findall(r"(?:^    .*\n?(?:^\n(?=^    ))?)+", text, re.MULTILINE):
            example = textwrap.dedent(block)
            with contextlib.suppress(SyntaxError):
                if any(isinstance(node, ast.Call) for node in ast.walk(ast.parse(example))):
                    found.append(example)
    return found


class Installation:
    """A copy of the program with a configuration of its own, as if somebody had installed it."""

    def __init__(self, folder: Path, url: str, dsn: str, redis: str) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        (self.work / ".env").touch()
        shutil.copytree(ROOT / "ohlcvd", folder / "ohlcvd", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "setup.cfg", folder)
        (folder / "etc" / "ohlcvd").mkdir(parents=True)
        lines = ["[ohlcvd]", "exchanges = kraken", "symbols = BTC/USD", "since = 10m"]
        lines += ["[postgres]", f"dsn = {dsn}", "fullon_views = yes", "[redis]", f"url = {redis}", "fullon_keys = yes"]
        lines += ["[http]", "listen =", "[exchange:kraken]", f"rest_url = {url}/kraken"]
        lines += [f"ws_url = {url.replace('http', 'ws')}/kraken"]
        (folder / "etc" / "ohlcvd" / "ohlcvd.conf").write_text("\n".join(lines) + "\n")
        self.environment = environment() | {"PYTHONPATH": str(folder), "PYTHONWARNINGS": "error::ResourceWarning"}

    def command(self, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ohlcvd", *words],
            cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def run(self, example: str, *, until: Path | None = None) -> str:
        """Its output; one that runs for ever is interrupted when `until` exists. Anything on stderr is a failure."""
        with subprocess.Popen(
            [sys.executable, "-P", "-c", RUNNER],
            cwd=self.work, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            process.stdin.write(example)
            process.stdin.close()
            process.stdin = None
            if until is not None:
                wait_for(f"{until.name} exists", lambda: until.exists() or process.poll() is not None, 150)
                process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=150)
        assert process.returncode == (0 if until is None else -signal.SIGTERM), err
        assert err == "", err
        return out


@pytest.fixture(scope="module")
def installation(postgres_server: EmbeddedServer) -> Iterator[Installation]:
    """With a daemon that has collected for a while."""
    with (
        private_directory() as folder,
        fresh_database(postgres_server) as dsn,
        temporary_valkey() as valkey,
        local_exchange(folder, "--symbols", "2", "--rate", "0.4", "--history", "26h") as exchange,
    ):
        installed = Installation(folder, exchange.url, dsn, valkey.address)
        installed.command("start")
        try:
            wait_for("candles are stored", lambda: count(dsn, "candles_1m"), 120)
            yield installed
        finally:
            installed.command("stop")


def count(dsn: str, table: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            row = connection.execute(f"SELECT count(*) FROM ohlcvd.{table}".encode()).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return 0  # the first child is about to make it
    return int(row[0]) if row else 0


def test_there_are_examples_to_run() -> None:
    assert len(readme_blocks("python")) >= 4
    assert len(readme_blocks("sql")) >= 1
    modules = {path for path in (ROOT / "ohlcvd").rglob("*.py") if docstring_blocks(path)}
    assert modules == {ROOT / "ohlcvd" / f"{name}.py" for name in MODULES}


def test_the_readmes_configuration_is_one(tmp_path: Path) -> None:
    [example] = readme_blocks("ini")
    file = tmp_path / "ohlcvd.conf"
    file.write_text(example, "utf-8")
    config = Config(file, environ={})
    assert [one.name for one in config.exchanges] == ["kraken", "binance"]
    assert config.exchange("kraken").symbols == ("BTC/USD", "ETH/EUR")
    assert config.exchange("binance").symbols == ("BTC/USD", "BTC/USDT")


@pytest.mark.parametrize("number", range(len(readme_blocks("python"))))
def test_the_readmes_python_runs(installation: Installation, number: int) -> None:
    example = readme_blocks("python")[number]
    marks = re.findall(r'Path\("([^"]+)"\)', example)
    installation.run(example, until=installation.work / marks[0] if "async for" in example else None)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_docstrings_examples_run(installation: Installation, module: str) -> None:
    for example in docstring_blocks(ROOT / "ohlcvd" / f"{module}.py"):
        installation.run(PRELUDE + example)


def test_the_readmes_sql_runs(installation: Installation) -> None:
    dsn = next(
        line.partition("=")[2].strip()
        for line in (installation.folder / "etc" / "ohlcvd" / "ohlcvd.conf").read_text().splitlines()
        if line.startswith("dsn")
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        for block in readme_blocks("sql"):
            for statement in filter(str.strip, block.split(";\n")):
                connection.execute(statement.partition("; --")[0].encode()).fetchall()


@pytest.mark.parametrize(
    "line",
    [
        line
        for block in readme_blocks("sh")
        for line in block.splitlines()
        if re.match(r"bin/ohlcvd (candles|trades|export)", line)
    ],
)
def test_the_readmes_reading_commands_run(installation: Installation, line: str) -> None:
    command = line.partition(" #")[0].replace("bin/ohlcvd", f"{sys.executable} -P -m ohlcvd")
    done = subprocess.run(
        command, shell=True, cwd=installation.work, env=installation.environment | {"COLUMNS": "80", "LINES": "24"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert os.listdir(installation.work)
