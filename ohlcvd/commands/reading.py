"""Reading what is stored: candles, trades, export. Parsing and printing only."""

import argparse
from pathlib import Path

from ohlcvd.commands.arguments import Command, config_of, count, kind, moment_us, say
from ohlcvd.errors import Exit, UsageError
from ohlcvd.nearest import did_you_mean

FORMS = ("table", "csv", "json", "parquet", "arrow")
# What a table shows when nothing else limits it: nobody reads a million rows.
TABLE_ROWS = 100


def _timeframe(text: str) -> str:
    from ohlcvd.report.times import timeframe_us

    try:
        timeframe_us(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _form(text: str) -> str:
    if text not in FORMS:
        hint = did_you_mean(text, FORMS) or f"; there are {', '.join(FORMS)}"
        raise argparse.ArgumentTypeError(f'"{text}" is not a format{hint}')
    return text


def _file_form(text: str) -> str:
    if text == "table":
        raise argparse.ArgumentTypeError("a table is for people; files are csv, json, parquet or arrow")
    return _form(text)


def _add_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exchange", metavar="EXCHANGE", help="one that is collected: kraken")
    parser.add_argument("symbol", metavar="SYMBOL", help="one of its symbols: BTC/USD")
    times = "2h, 3 days, yesterday, or a date or time in UTC (2026-01-31T12:00)"
    # Names of their own: `since` would be taken for what is configured.
    parser.add_argument("--since", metavar="T", dest="since_us", type=moment_us, help=f"from then on: {times}")
    parser.add_argument("--until", metavar="T", dest="until_us", type=moment_us, help="only what is before then")


def _add_timeframe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeframe", metavar="T", type=_timeframe, default="1m", help="1m, 15m, 1h, 4h, 1d, 1w or another (1m)"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        metavar="N",
        type=count,
        help=f"the newest N, with --since the first N (a table without either: {TABLE_ROWS})",
    )
    parser.add_argument(
        "--format", metavar="F", type=_form, default="table", help="table, csv, json, parquet or arrow (table)"
    )


def _add_plot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", action="store_true", help="draw candlesticks, as many of the newest as fit")


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", metavar="KIND", type=kind, default="candles", help="candles or trades (candles)")
    parser.add_argument("--to", metavar="FOLDER", type=Path, default=Path(), help="below this folder (the current one)")
    parser.add_argument(
        "--format", metavar="F", type=_file_form, default="csv", help="csv, json, parquet or arrow (csv)"
    )


def _candles(args: argparse.Namespace) -> int:
    return _read(args, "candles", args.timeframe, plot=args.plot)


def _trades(args: argparse.Namespace) -> int:
    return _read(args, "trades", "1m", plot=False)


def _read(args: argparse.Namespace, what: str, timeframe: str, *, plot: bool) -> int:
    from ohlcvd.database.bulk import Selection
    from ohlcvd.reading import read

    config = config_of(args)
    _check_range(args)
    limit = args.limit
    if limit is None and args.since_us is None and args.format == "table":
        limit = TABLE_ROWS
    selection = Selection(
        args.exchange,
        args.symbol,
        "trades" if what == "trades" else "candles",
        timeframe,
        args.since_us,
        args.until_us,
        limit,
        first=args.since_us is not None,
    )
    if plot:
        if args.format != "table":
            raise UsageError("--plot draws instead of writing a format: leave --format out")
        print(read.draw(config, selection._replace(limit=args.limit)))
    elif not read.write(config, selection, args.format):
        say(f"no {what} of {args.exchange} {args.symbol} are stored in this time")
    return int(Exit.OK)


def _export(args: argparse.Namespace) -> int:
    from ohlcvd.database.bulk import Selection
    from ohlcvd.reading.export import export

    config = config_of(args)
    _check_range(args)
    selection = Selection(args.exchange, args.symbol, args.kind, args.timeframe, args.since_us, args.until_us)
    done = export(config, selection, args.format, args.to, tell=lambda path: print(path, flush=True))
    sentence = f"{done.written} days written, {done.skipped} were there already"
    if done.incomplete:
        names = ", ".join(done.incomplete[-3:])
        sentence += f"; {len(done.incomplete)} of them not complete yet ({names}): run it again later"
    say(sentence)
    return int(Exit.OK)


def _check_range(args: argparse.Namespace) -> None:
    if args.since_us is not None and args.until_us is not None and args.until_us <= args.since_us:
        raise UsageError("--until is not after --since")


COMMANDS: dict[str, Command] = {
    "candles": (
        "show stored candles of any timeframe, as a table, a file or a chart",
        "ohlcvd candles kraken BTC/USD --timeframe 1h --plot\n"
        "  ohlcvd candles kraken BTC/USD --since yesterday --format csv > candles.csv",
        (_add_range, _add_timeframe, _add_output, _add_plot),
        _candles,
    ),
    "trades": (
        "show stored trades",
        "ohlcvd trades binance BTC/USDT --since 2h --format json",
        (_add_range, _add_output),
        _trades,
    ),
    "export": (
        "write a market's candles or trades into files, one for each day; resumes when it is run again",
        "ohlcvd export kraken BTC/USD --kind trades --since 2026-01-01 --to data --format parquet",
        (_add_range, _add_timeframe, _add_files),
        _export,
    ),
}
