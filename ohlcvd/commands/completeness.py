"""What is missing and what is wrong: backfill, gaps, verify. Parsing and printing only."""

import argparse
import json

from ohlcvd.commands.arguments import Command, add_json, config_of, kind, moment_us, past_us
from ohlcvd.errors import Exit


def _add_backfill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE")
    parser.add_argument("symbol", metavar="SYMBOL")
    times = "so long ago (90m, 2h, 3d), or a date or time in UTC (2026-01-31T12:00)"
    parser.add_argument("--since", metavar="T", dest="since_us", type=past_us, required=True, help=f"from: {times}")
    parser.add_argument("--until", metavar="T", dest="until_us", type=past_us, help="up to then, else up to now")
    parser.add_argument("--kind", metavar="KIND", type=kind, help="candles or trades, else all that is collected")


def _add_gaps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE", nargs="?", help="only of this exchange")
    parser.add_argument("symbol", metavar="SYMBOL", nargs="?", help="only of this market of it")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE")
    parser.add_argument("symbol", metavar="SYMBOL")
    times = "how long ago (90m, 2h, 3d), or a date or time in UTC (2026-01-31T12:00)"
    # Names of their own: `since` would be taken for what is configured.
    parser.add_argument("--since", metavar="T", dest="since_us", type=moment_us, help=f"from then on: {times}")
    parser.add_argument("--until", metavar="T", dest="until_us", type=moment_us, help="up to then")


def _backfill(args: argparse.Namespace) -> int:
    from ohlcvd import backfill

    order = backfill.Order(args.exchange, args.symbol, args.since_us, args.until_us, args.kind)
    return backfill.run(config_of(args), order)


def _gaps(args: argparse.Namespace) -> int:
    from ohlcvd.report import gaps

    found = gaps.read(config_of(args), args.exchange, args.symbol)
    print(json.dumps(gaps.as_dict(found), indent=2) if args.json else gaps.render(found))
    return int(Exit.NO if found.gaps else Exit.OK)


def _verify(args: argparse.Namespace) -> int:
    from ohlcvd.report import verify

    result = verify.read(config_of(args), args.exchange, args.symbol, since_us=args.since_us, until_us=args.until_us)
    print(verify.render(result))
    return int(Exit.OK if result.holds else Exit.NO)


COMMANDS: dict[str, Command] = {
    "backfill": (
        "fetch history now; interrupted, it resumes when it is run again",
        "ohlcvd backfill kraken BTC/USD --since 3d",
        (_add_backfill,),
        _backfill,
    ),
    "gaps": (
        "show what is missing and why; exit code 1 if there is anything",
        "ohlcvd gaps kraken BTC/USD --json",
        (_add_gaps, add_json),
        _gaps,
    ),
    "verify": (
        "rebuild candles from the stored trades, compare them with the stored ones and the venue's",
        "ohlcvd verify kraken BTC/USD --since 2h",
        (_add_verify,),
        _verify,
    ),
}
