"""The service: start, stop, restart, run, status, and its log files. Parsing and printing only."""

import argparse
import json
import sys

from ohlcvd.commands.arguments import Command, add_flags, add_json, config_of, count
from ohlcvd.errors import Exit


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE", nargs="?", help="only this one (or supervisor, or binance/2)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is logged from now on")
    parser.add_argument("-n", "--lines", metavar="N", type=count, default=50, help="begin with the last N lines (50)")


def _start(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.start(config_of(args))


def _stop(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.stop(config_of(args))


def _restart(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.restart(config_of(args))


def _run_foreground(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.run(config_of(args), terminal=sys.stderr.isatty())


def _status(args: argparse.Namespace) -> int:
    from ohlcvd import daemon
    from ohlcvd.status import render

    report = daemon.status(config_of(args))
    print(json.dumps(report.as_dict(), indent=2) if args.json else render(report))
    return int(report.exit_code)


def _logs(args: argparse.Namespace) -> int:
    from ohlcvd import logview

    logview.main(config_of(args).log_dir, args.exchange, lines=args.lines, follow_on=args.follow)
    return int(Exit.OK)


COMMANDS: dict[str, Command] = {
    "start": (
        "start in the background; returns when it runs, or says why not",
        "ohlcvd start --exchanges kraken --symbols BTC/USD,ETH/USD",
        (add_flags,),
        _start,
    ),
    "stop": ("stop, with everything stored that was received", "ohlcvd stop", (), _stop),
    "restart": ("stop, then start", "ohlcvd restart", (add_flags,), _restart),
    "run": (
        "run in the foreground, as systemd and supervisord want it",
        "ohlcvd run --service trade --exchanges kraken --symbols BTC/USD",
        (add_flags,),
        _run_foreground,
    ),
    "status": ("show what is running, and how each market fares", "ohlcvd status --json", (add_json,), _status),
    "logs": ("show the log files, readable", "ohlcvd logs kraken -f", (_add_logs,), _logs),
}
