"""The command line: parses, calls, prints, and turns every outcome into an exit code. It decides nothing.

Each command imports what it needs when it runs: `--help`, `check-config` and `status` load neither ccxt nor a database
driver. An error that was foreseen is one sentence on stderr; one that was not is a traceback and exit code 70.
"""

import argparse
import contextlib
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ohlcvd import __version__
from ohlcvd.errors import Exit, OhlcvdError, UsageError
from ohlcvd.nearest import did_you_mean

if TYPE_CHECKING:
    from ohlcvd.config import Config

INTERRUPTED = 130  # as a shell says it of a program that SIGINT ended

_FLAGS = ("service", "exchanges", "symbols", "since", "log_level")

_EPILOG = """\
examples:
  ohlcvd demo --seconds 30            see the whole thing work, with no account, network or set-up
  ohlcvd check-config                 what is configured, and where each value comes from
  ohlcvd start && ohlcvd status       collect in the background
  ohlcvd run --exchanges kraken --symbols BTC/USD

exit codes: 0 done, 1 the answer is no, 64 usage, 69 a needed service cannot be reached, 70 bug,
75 already running, 77 permission, 78 configuration; of status: 0 running, 1 died, 3 not running, 4 unknown"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        if sys.stdout is not None:  # None: it was closed before we began
            sys.stdout.flush()  # here, where a reader that has gone away can still be dealt with
        return code
    except OhlcvdError as error:
        _say(str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge of the process: a bug is shown whole
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            # Whoever read our output has seen enough. Python would complain at its own last flush: it gets nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(Exit.OK)
        traceback.print_exc()
        _say("this is a bug in ohlcvd")
        return int(Exit.BUG)


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The commands; the options only of the chosen one, because some cost an import."""
    parser = _Parser(
        prog="ohlcvd",
        description="Collects 1-minute candles and trades from cryptocurrency exchanges, and can prove what it has.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"ohlcvd {__version__}")
    _add_config(parser)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    for name, (summary, example, add, run) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
        )
        _add_config(command)
        for add_arguments in add if name == chosen else ():
            add_arguments(command)
        command.set_defaults(run=run)
    return parser


class _Parser(argparse.ArgumentParser):
    """Wrong words are a UsageError."""

    def __init__(self, **settings: Any) -> None:
        # Abbreviations that work today would mean something else after the next new option.
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _run(argv: list[str]) -> int:
    parser = build_parser(_chosen_command(argv))
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    if args.command is None:
        parser.print_help(sys.stderr)
        return int(Exit.USAGE)
    run: Callable[[argparse.Namespace], int] = args.run
    return int(run(args))


def _chosen_command(argv: list[str]) -> str | None:
    """The command, which must exist: argparse would list all of them where the nearest is more use."""
    words = iter(argv)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            if word not in COMMANDS:
                hint = did_you_mean(word, COMMANDS)
                raise UsageError(f'there is no command "{word}"{hint or "; commands are " + ", ".join(COMMANDS)}')
            return word
    return None


def _nobody_reads() -> bool:
    """Whether stdout is a pipe that has no reader any more; a broken pipe may also have been another one."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody is listening
        print(f"ohlcvd: {sentence}", file=sys.stderr, flush=True)


# Arguments


def _add_config(parser: argparse.ArgumentParser) -> None:
    # Before or after the command; no default, or the second parser would overwrite what the first one found.
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="read FILE, not the usual one")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("in place of what is configured")
    group.add_argument("--service", metavar="WHAT", help="ohlcv (candles), trade, or both")
    group.add_argument("--exchanges", metavar="LIST", help="ids, separated by commas: kraken,binance")
    group.add_argument("--symbols", metavar="LIST", help="names or globs, separated by commas: BTC/USD,*/USDT")
    group.add_argument("--since", metavar="T", help="history wanted: 7d, 2026-01-31, or 0 for live only")
    group.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", metavar="N", type=_seconds, help="end after N seconds; without it, with Ctrl-C")


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE", nargs="?", help="only this one (or supervisor, or binance/2)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is logged from now on")
    parser.add_argument("-n", "--lines", metavar="N", type=_count, default=50, help="begin with the last N lines (50)")


def _add_gaps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE", nargs="?", help="only of this exchange")
    parser.add_argument("symbol", metavar="SYMBOL", nargs="?", help="only of this market of it")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE")
    parser.add_argument("symbol", metavar="SYMBOL")
    times = "how long ago (90m, 2h, 3d), or a date or time in UTC (2026-01-31T12:00)"
    # Names of their own: `since` would be taken for what is configured.
    parser.add_argument("--since", metavar="T", dest="since_us", type=_moment_us, help=f"from then on: {times}")
    parser.add_argument("--until", metavar="T", dest="until_us", type=_moment_us, help="up to then")


def _add_backfill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE")
    parser.add_argument("symbol", metavar="SYMBOL")
    times = "so long ago (90m, 2h, 3d), or a date or time in UTC (2026-01-31T12:00)"
    parser.add_argument("--since", metavar="T", dest="since_us", type=_past_us, required=True, help=f"from: {times}")
    parser.add_argument("--until", metavar="T", dest="until_us", type=_past_us, help="up to then, else up to now")
    parser.add_argument("--kind", metavar="KIND", type=_kind, help="candles or trades, else all that is collected")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    from ohlcvd.simulator.server import add_arguments

    add_arguments(parser)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds above 0')


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number')
    return int(text)


def _moment_us(text: str) -> int:
    from ohlcvd.report.times import read_moment

    try:
        return read_moment(text).start_us(time.time_ns() // 1000)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _past_us(text: str) -> int:
    from ohlcvd.report.times import read_moment

    at_us = _moment_us(text)
    if (read_moment(text).at_us or 0) > at_us:
        raise argparse.ArgumentTypeError(f'"{text}" lies in the future')
    return at_us


def _kind(text: str) -> str:
    kinds = ("candles", "trades")
    if text not in kinds:
        raise argparse.ArgumentTypeError(f'"{text}" is neither candles nor trades{did_you_mean(text, kinds)}')
    return text


def _config(args: argparse.Namespace) -> "Config":
    from ohlcvd.config import Config

    given = {name: getattr(args, name, None) for name in _FLAGS}
    config = Config(
        getattr(args, "config", None),
        flags={f"ohlcvd.{name}": text for name, text in given.items() if text is not None},
    )
    for warning in config.warnings:
        _say(f"warning: {warning}")
    return config


# Commands


def _demo(args: argparse.Namespace) -> int:
    from ohlcvd.demo import main

    return main(seconds=args.seconds)


def _simulate(args: argparse.Namespace) -> int:
    from ohlcvd.simulator.server import main

    return main(args)


def _start(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.start(_config(args))


def _stop(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.stop(_config(args))


def _restart(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.restart(_config(args))


def _run_foreground(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.run(_config(args), terminal=sys.stderr.isatty())


def _status(args: argparse.Namespace) -> int:
    from ohlcvd import daemon
    from ohlcvd.status import render

    report = daemon.status(_config(args))
    print(json.dumps(report.as_dict(), indent=2) if args.json else render(report))
    return int(report.exit_code)


def _gaps(args: argparse.Namespace) -> int:
    from ohlcvd.report import gaps

    found = gaps.read(_config(args), args.exchange, args.symbol)
    print(json.dumps(gaps.as_dict(found), indent=2) if args.json else gaps.render(found))
    return int(Exit.NO if found.gaps else Exit.OK)


def _verify(args: argparse.Namespace) -> int:
    from ohlcvd.report import verify

    result = verify.read(_config(args), args.exchange, args.symbol, since_us=args.since_us, until_us=args.until_us)
    print(verify.render(result))
    return int(Exit.OK if result.holds else Exit.NO)


def _backfill(args: argparse.Namespace) -> int:
    from ohlcvd import backfill

    order = backfill.Order(args.exchange, args.symbol, args.since_us, args.until_us, args.kind)
    return backfill.run(_config(args), order)


def _check_config(args: argparse.Namespace) -> int:
    rows = [(f"{s.section}.{s.key}", s.value or "(none)", s.origin) for s in _config(args).effective()]
    name_width = max(len(name) for name, _, _ in rows)
    # A long value goes beyond its column instead of moving all the others to the right.
    value_width = min(48, max(len(value) for _, value, _ in rows))
    for name, value, origin in rows:
        print(f"{name:<{name_width}}  {value:<{value_width}}  {origin}")
    return int(Exit.OK)


def _logs(args: argparse.Namespace) -> int:
    from ohlcvd import logview

    logview.main(_config(args).log_dir, args.exchange, lines=args.lines, follow_on=args.follow)
    return int(Exit.OK)


Arguments = Callable[[argparse.ArgumentParser], None]
Command = tuple[str, str, tuple[Arguments, ...], Callable[[argparse.Namespace], int]]

# name -> what it does, an example, its arguments, its function
COMMANDS: dict[str, Command] = {
    "demo": (
        "run everything against a local exchange, then compare what was sent with what is stored",
        "ohlcvd demo --seconds 30",
        (_add_demo,),
        _demo,
    ),
    "start": (
        "start in the background; returns when it runs, or says why not",
        "ohlcvd start --exchanges kraken --symbols BTC/USD,ETH/USD",
        (_add_flags,),
        _start,
    ),
    "stop": ("stop, with everything stored that was received", "ohlcvd stop", (), _stop),
    "restart": ("stop, then start", "ohlcvd restart", (_add_flags,), _restart),
    "run": (
        "run in the foreground, as systemd and supervisord want it",
        "ohlcvd run --service trade --exchanges kraken --symbols BTC/USD",
        (_add_flags,),
        _run_foreground,
    ),
    "status": ("show what is running, and how each market fares", "ohlcvd status --json", (_add_json,), _status),
    "backfill": (
        "fetch history now; interrupted, it resumes when it is run again",
        "ohlcvd backfill kraken BTC/USD --since 3d",
        (_add_backfill,),
        _backfill,
    ),
    "gaps": (
        "show what is missing and why; exit code 1 if there is anything",
        "ohlcvd gaps kraken BTC/USD --json",
        (_add_gaps, _add_json),
        _gaps,
    ),
    "verify": (
        "rebuild candles from the stored trades, compare them with the stored ones and the venue's",
        "ohlcvd verify kraken BTC/USD --since 2h",
        (_add_verify,),
        _verify,
    ),
    "logs": ("show the log files, readable", "ohlcvd logs kraken -f", (_add_logs,), _logs),
    "check-config": (
        "show the configuration in effect and where each value comes from",
        "ohlcvd check-config --config my.conf --symbols '*/USDT'",
        (_add_flags,),
        _check_config,
    ),
    "simulate": (
        "run only the local exchange that speaks Kraken's and Binance's protocols",
        "ohlcvd simulate --port 8000 --symbols 10 --rate 60",
        (_add_simulate,),
        _simulate,
    ),
}
