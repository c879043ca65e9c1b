"""Which symbols are collected: list them, add some, remove some. Parsing and printing only."""

import argparse
import json

from ohlcvd.commands.arguments import Command, add_json, config_of
from ohlcvd.errors import Exit, UsageError


def _add_symbols(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("act", metavar="list|add|remove", choices=("list", "add", "remove"))
    parser.add_argument("exchange", metavar="EXCHANGE", nargs="?", help="a configured exchange")
    parser.add_argument("names", metavar="SYMBOL", nargs="*", help="names or globs: ETH/USD, '*/EUR'")


def _symbols(args: argparse.Namespace) -> int:
    from ohlcvd.report import symbols

    config = config_of(args)
    if args.act == "list":
        if args.names:
            raise UsageError("symbols list takes an exchange, or nothing")
        choices = symbols.read(config, args.exchange)
        print(json.dumps([one.as_dict() for one in choices], indent=2) if args.json else symbols.render(choices))
        return int(Exit.OK)
    names = _checked(args)
    if args.act == "add":
        symbols.add(config, args.exchange, names)
        print(f"{args.exchange}: {', '.join(names)} added; a running ohlcvd follows within seconds")
    else:
        symbols.remove(config, args.exchange, names)
        print(f"{args.exchange}: {', '.join(names)} removed; a running ohlcvd follows within seconds")
    return int(Exit.OK)


def _checked(args: argparse.Namespace) -> list[str]:
    from ohlcvd.config.settings import read_symbols

    if args.exchange is None or not args.names:
        raise UsageError(f"symbols {args.act} needs an exchange and at least one symbol, such as kraken ETH/USD")
    for name in args.names:
        if name.startswith("!"):
            raise UsageError(f"\"{name}\" takes symbols out: use symbols remove {args.exchange} '{name[1:]}'")
        try:
            read_symbols(name)
        except ValueError as error:
            raise UsageError(f"the list of symbols {error}") from None
    return list(dict.fromkeys(args.names))


COMMANDS: dict[str, Command] = {
    "symbols": (
        "list, add or remove what is collected, without a restart",
        "ohlcvd symbols add kraken ETH/USD",
        (_add_symbols, add_json),
        _symbols,
    ),
}
