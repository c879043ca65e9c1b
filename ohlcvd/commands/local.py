"""What needs no service: demo, simulate, check-config. Parsing and printing only."""

import argparse
from typing import TYPE_CHECKING

from ohlcvd.commands.arguments import Command, add_flags, config_of, seconds
from ohlcvd.errors import Exit

if TYPE_CHECKING:
    from ohlcvd.config import Config


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", metavar="N", type=seconds, help="end after N seconds; without it, with Ctrl-C")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    from ohlcvd.simulator.server import add_arguments

    add_arguments(parser)


def _add_online(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--online", action="store_true", help="ask the exchanges whether they list the symbols, too")


def _demo(args: argparse.Namespace) -> int:
    from ohlcvd.demo import main

    return main(seconds=args.seconds)


def _simulate(args: argparse.Namespace) -> int:
    from ohlcvd.simulator.server import main

    return main(args)


def _check_config(args: argparse.Namespace) -> int:
    config = config_of(args)
    rows = [(f"{s.section}.{s.key}", s.value or "(none)", s.origin) for s in config.effective()]
    name_width = max(len(name) for name, _, _ in rows)
    # A long value goes beyond its column instead of moving all the others to the right.
    value_width = min(48, max(len(value) for _, value, _ in rows))
    for name, value, origin in rows:
        print(f"{name:<{name_width}}  {value:<{value_width}}  {origin}")
    return _check_online(config) if args.online else int(Exit.OK)


def _check_online(config: "Config") -> int:
    from ohlcvd.report.markets import check_online

    check = check_online(config)
    print("\n" + "\n".join(check.sentences))
    if check.unreachable:
        return int(Exit.UNAVAILABLE)
    return int(Exit.OK if check.collectable else Exit.CONFIG)


COMMANDS: dict[str, Command] = {
    "demo": (
        "run everything against a local exchange, then compare what was sent with what is stored",
        "ohlcvd demo --seconds 30",
        (_add_demo,),
        _demo,
    ),
    "simulate": (
        "run only the local exchange that speaks Kraken's and Binance's protocols",
        "ohlcvd simulate --port 8000 --symbols 10 --rate 60",
        (_add_simulate,),
        _simulate,
    ),
    "check-config": (
        "show the configuration in effect and where each value comes from",
        "ohlcvd check-config --config my.conf --symbols '*/USDT'",
        (add_flags, _add_online),
        _check_config,
    ),
}
