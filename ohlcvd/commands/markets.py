"""What an exchange can give and what it lists: markets. Parsing and printing only."""

import argparse
import json

from ohlcvd.commands.arguments import Command, add_json, config_of, say
from ohlcvd.errors import Exit


def _add_markets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE", help="one of ccxt's ids: kraken, binance, coinbase")


def _markets(args: argparse.Namespace) -> int:
    from ohlcvd.report import markets

    markets.check_exchange(args.exchange)
    found = markets.read(config_of(args), args.exchange)
    print(json.dumps(markets.as_dict(found), indent=2) if args.json else markets.render(found))
    if found.trouble is not None:
        say(f"the markets of {args.exchange} are not known now: {found.trouble}")
        return int(Exit.UNAVAILABLE)
    return int(Exit.OK)


COMMANDS: dict[str, Command] = {
    "markets": (
        "show how an exchange is collected, how far back it goes, and what it lists",
        "ohlcvd markets kraken --json",
        (_add_markets, add_json),
        _markets,
    ),
}
