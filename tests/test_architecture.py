"""The walls between the parts, by what each module imports directly. The checker is itself checked, on bad text."""

import ast
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ohlcvd"
MODULES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}

# What only one folder may import.
OWNERS = {
    "ccxt": "ohlcvd/exchange/",
    "psycopg": "ohlcvd/database/",
    "psycopg_pool": "ohlcvd/database/",
    "redis": "ohlcvd/cache/",
    "prometheus_client": "ohlcvd/monitor/",
}
# The parent does almost nothing, so that nothing can stop it.
SUPERVISOR = "ohlcvd/supervisor/"
NOT_IN_SUPERVISOR = (
    "asyncio",
    "aiohttp",
    "ccxt",
    "psycopg",
    "psycopg_pool",
    "redis",
    "ohlcvd.worker",
    "ohlcvd.database",
    "ohlcvd.cache",
    "ohlcvd.exchange",
)
# What decides takes `now` as an argument, and neither reads nor writes anything.
PURE = (
    "ohlcvd/config/dsn.py",
    "ohlcvd/config/settings.py",
    "ohlcvd/coverage.py",
    "ohlcvd/database/lag.py",
    "ohlcvd/database/pressure.py",
    "ohlcvd/exchange/abilities.py",
    "ohlcvd/exchange/catalog.py",
    "ohlcvd/exchange/clock.py",
    "ohlcvd/market.py",
    "ohlcvd/monitor/metrics.py",
    "ohlcvd/monitor/staleness.py",
    "ohlcvd/monitor/summary.py",
    "ohlcvd/monitor/totals.py",
    "ohlcvd/nearest.py",
    "ohlcvd/ohlcv/candles.py",
    "ohlcvd/ohlcv/check.py",
    "ohlcvd/ohlcv/minutes.py",
    "ohlcvd/problems.py",
    "ohlcvd/repair/book.py",
    "ohlcvd/repair/candles_walk.py",
    "ohlcvd/repair/lost.py",
    "ohlcvd/repair/plan.py",
    "ohlcvd/repair/walk.py",
    "ohlcvd/simulator/market.py",
    "ohlcvd/status.py",
    "ohlcvd/supervisor/health.py",
    "ohlcvd/supervisor/heartbeat.py",
    "ohlcvd/supervisor/report.py",
    "ohlcvd/supervisor/restart.py",
    "ohlcvd/supervisor/states.py",
    "ohlcvd/symbols.py",
    "ohlcvd/trade/seen.py",
    "ohlcvd/worker/standing.py",
)
NOT_IN_PURE = (
    "asyncio",
    "aiohttp",
    "io",
    "logging",
    "os",
    "pathlib",
    "select",
    "selectors",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "ohlcvd.log",
)
NOT_CALLED_IN_PURE = ("input", "now", "open", "print", "today", "utcnow")

MAX_LINES = 400
TOP_LEVEL = {
    "setup.cfg",
    "pyproject.toml",
    "ohlcvd",
    "etc",
    "tests",
    "bin",
    "debian",
    "README.md",
    "LICENSE",
    ".ci",
    ".gitignore",
    ".env.example",
}
# What work leaves behind, where there is no git to say what belongs to the project.
LEFT_BEHIND = {".git", ".env", ".venv", ".venv.lock", "build", "var", "dist", "__pycache__"}
UNFINISHED = ("TO" + "DO", "FIX" + "ME")


def imports_of(text: str, module: str) -> Iterator[str]:
    """Every module that `text` imports, inside functions and for type checking too, by absolute name."""
    package = module.removesuffix(".py").removesuffix("/__init__").split("/")
    depth_of_own = len(package) if module.endswith("/__init__.py") else len(package) - 1
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: depth_of_own - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def called(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    function = node.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def is_of(name: str, forbidden: str) -> bool:
    return name == forbidden or name.startswith(forbidden + ".")


def breaches(module: str, text: str) -> list[str]:
    """Every rule that this module breaks, as "module: what"."""
    found = []
    imported = sorted(set(imports_of(text, module)))
    for name in imported:
        found += [
            f"imports {name}" for owned, owner in OWNERS.items() if is_of(name, owned) and not module.startswith(owner)
        ]
        if module.startswith(SUPERVISOR):
            found += [f"imports {name}" for forbidden in NOT_IN_SUPERVISOR if is_of(name, forbidden)]
        if module in PURE:
            found += [f"imports {name}" for forbidden in NOT_IN_PURE if is_of(name, forbidden)]
    if module in PURE:
        calls = {called(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
        found += [f"calls {name}()" for name in sorted(calls & set(NOT_CALLED_IN_PURE))]
    lines = text.count("\n")
    if lines > MAX_LINES:
        found.append(f"has {lines} lines, at most {MAX_LINES} are allowed: split it by job")
    return [f"{module}: {what}" for what in dict.fromkeys(found)]


def strangers(entries: Iterable[str]) -> set[str]:
    """Top-level entries that the design does not have."""
    return {entry.split("/")[0] for entry in entries} - TOP_LEVEL


def tracked() -> list[str]:
    """What belongs to the project: what git tracks, or where there is no git, all but what work leaves behind."""
    try:
        command = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        entries = [entry for entry in ROOT.iterdir() if entry.name not in LEFT_BEHIND and "cache" not in entry.name]
        files = [path for entry in entries for path in ([entry] if entry.is_file() else entry.rglob("*"))]
        return [
            path.relative_to(ROOT).as_posix() for path in files if path.is_file() and "__pycache__" not in path.parts
        ]
    return [name for name in listed.split("\0") if name]


def test_no_module_breaks_a_wall() -> None:
    assert len(MODULES) > 30
    assert [breach for module, text in sorted(MODULES.items()) for breach in breaches(module, text)] == []


def test_every_module_with_rules_of_its_own_exists() -> None:
    assert [module for module in PURE if module not in MODULES] == []
    for folder in (*OWNERS.values(), SUPERVISOR):
        assert any(module.startswith(folder) for module in MODULES), folder


def test_only_the_designs_entries_are_at_the_top() -> None:
    assert strangers(tracked()) == set()


def test_nothing_is_marked_as_unfinished() -> None:
    for name in tracked():
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        marked = [word for word in UNFINISHED if word.encode() in data]
        assert not marked, f"{name} has {marked}"


@pytest.mark.parametrize(
    ("module", "text", "breach"),
    [
        ("ohlcvd/trade/manager.py", "import ccxt.pro\n", "imports ccxt.pro"),
        ("ohlcvd/trade/manager.py", "def f():\n    from ccxt import kraken\n", "imports ccxt"),
        (
            "ohlcvd/worker/life.py",
            "from importlib import import_module\nimport_module('psycopg.rows')\n",
            "imports psycopg.rows",
        ),
        ("ohlcvd/worker/life.py", "from psycopg_pool import ConnectionPool\n", "imports psycopg_pool"),
        ("ohlcvd/database/writer.py", "import redis.asyncio as r\n", "imports redis.asyncio"),
        ("ohlcvd/exchange/handler.py", "import psycopg\n", "imports psycopg"),
        ("ohlcvd/supervisor/loop.py", "import asyncio\n", "imports asyncio"),
        ("ohlcvd/supervisor/loop.py", "from ohlcvd import worker\n", "imports ohlcvd.worker"),
        ("ohlcvd/supervisor/loop.py", "from .. import worker\n", "imports ohlcvd.worker"),
        ("ohlcvd/supervisor/__init__.py", "from ..worker import worker_main\n", "imports ohlcvd.worker"),
        ("ohlcvd/supervisor/loop.py", "from ohlcvd.exchange import preload\n", "imports ohlcvd.exchange"),
        ("ohlcvd/coverage.py", "from time import monotonic\n", "imports time"),
        ("ohlcvd/coverage.py", "import os.path\n", "imports os.path"),
        ("ohlcvd/market.py", "from datetime import datetime\nx = datetime.now()\n", "calls now()"),
        ("ohlcvd/ohlcv/candles.py", "import logging\n", "imports logging"),
        ("ohlcvd/supervisor/restart.py", "def f():\n    print(open('x'))\n", "calls open()"),
        ("ohlcvd/log.py", "\n" * 401, "has 401 lines"),
    ],
)
def test_the_checker_finds(module: str, text: str, breach: str) -> None:
    assert any(found.startswith(f"{module}: {breach}") for found in breaches(module, text))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("ohlcvd/exchange/venues/kraken.py", "import ccxt.pro\nimport time\n"),
        ("ohlcvd/database/writer.py", "import psycopg\nimport asyncio\n"),
        ("ohlcvd/cache/live.py", "import redis.asyncio\nfrom ohlcvd.cache import keys\n"),
        ("ohlcvd/supervisor/loop.py", "import time\nfrom . import child\nimport selectors\n"),
        ("ohlcvd/coverage.py", "from ohlcvd.market import MINUTE_US\nimport bisect\nx = 'import ccxt'\n"),
        ("ohlcvd/redistribute.py", "import redistribute\n" + "\n" * 399),
    ],
)
def test_the_checker_lets_pass(module: str, text: str) -> None:
    assert breaches(module, text) == []


def test_the_checker_finds_strangers_at_the_top() -> None:
    assert strangers(["ohlcvd/cli.py", "README.md", ".ci/run"]) == set()
    assert strangers(["notes/x.md", "Makefile"]) == {"notes", "Makefile"}
