"""The service: start, stop, restart, reload, run, status, and its log files. Parsing and printing only."""

import argparse
import json
import sys

from ohlcvd.commands.arguments import (
    Command,
    add_flags,
    add_json,
    config_of,
    control_config_of,
    count,
    given_flags,
    level,
)
from ohlcvd.errors import Exit


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE", nargs="?", help="only this one (or supervisor, or binance/2)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is logged from now on")
    parser.add_argument("-n", "--lines", metavar="N", type=count, default=50, help="begin with the last N lines (50)")


def _add_log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("level", metavar="LEVEL", type=level, help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    parser.add_argument("child", metavar="CHILD", nargs="?", help="only this one (supervisor, kraken, binance/2)")


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-w", "--watch", action="store_true", help="again every second, until Ctrl-C")


def _start(args: argparse.Namespace) -> int:
    from ohlcvd import daemon, managers

    config = config_of(args, as_owner=False)
    code = managers.start(config, given_flags(args))
    return code if code is not None else daemon.start(managers.as_owner(config))


def _stop(args: argparse.Namespace) -> int:
    from ohlcvd import daemon, managers

    config = control_config_of(args, as_owner=False)
    code = managers.stop(config)
    return code if code is not None else daemon.stop(managers.as_owner(config))


def _restart(args: argparse.Namespace) -> int:
    from ohlcvd import daemon, managers

    config = config_of(args, as_owner=False)
    code = managers.restart(config, given_flags(args))
    return code if code is not None else daemon.restart(managers.as_owner(config))


def _reload(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.reload(control_config_of(args, quiet=True))  # the service itself says what is wrong


def _log_level(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.log_level(control_config_of(args), args.level, args.child)


def _run_foreground(args: argparse.Namespace) -> int:
    from ohlcvd import daemon

    return daemon.run(config_of(args), terminal=sys.stderr.isatty())


def _status(args: argparse.Namespace) -> int:
    from ohlcvd import daemon
    from ohlcvd.watch import shown, watch

    config = control_config_of(args)
    if args.watch:
        return watch(lambda: daemon.status(config), as_json=args.json)
    report = daemon.status(config)
    print(json.dumps(report.as_dict(), indent=2) if args.json else shown(report))
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
    "reload": (
        "read the configuration again; only what has changed is touched",
        "ohlcvd reload",
        (),
        _reload,
    ),
    "log-level": (
        "log more or less from now on, without a restart",
        "ohlcvd log-level DEBUG kraken",
        (_add_log_level,),
        _log_level,
    ),
    "run": (
        "run in the foreground, as systemd and supervisord want it",
        "ohlcvd run --service trade --exchanges kraken --symbols BTC/USD",
        (add_flags,),
        _run_foreground,
    ),
    "status": (
        "show whether all is well, what is not, and how each process and market fares",
        "ohlcvd status --watch",
        (_add_status, add_json),
        _status,
    ),
    "logs": ("show the log files, readable", "ohlcvd logs kraken -f", (_add_logs,), _logs),
}
