"""What the commands share: their form, the options that several have, and the readers of values."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ohlcvd.nearest import did_you_mean

if TYPE_CHECKING:
    from ohlcvd.config import Config

Arguments = Callable[[argparse.ArgumentParser], None]
# what it does, an example, its arguments, its function
Command = tuple[str, str, tuple[Arguments, ...], Callable[[argparse.Namespace], int]]

FLAGS = ("service", "exchanges", "symbols", "since", "log_level")


def say(sentence: str) -> None:
    """One sentence on stderr."""
    with contextlib.suppress(OSError, ValueError):  # nobody is listening
        print(f"ohlcvd: {sentence}", file=sys.stderr, flush=True)


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config`, before or after the command."""
    # Before or after the command; no default, or the second parser would overwrite what the first one found.
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="read FILE, not the usual one")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What replaces configuration."""
    group = parser.add_argument_group("in place of what is configured")
    group.add_argument("--service", metavar="WHAT", help="ohlcv (candles), trade, or both")
    group.add_argument("--exchanges", metavar="LIST", help="ids, separated by commas: kraken,binance")
    group.add_argument("--symbols", metavar="LIST", help="names or globs, separated by commas: BTC/USD,*/USDT")
    group.add_argument("--since", metavar="T", help="history wanted: 7d, 2026-01-31, or 0 for live only")
    group.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds above 0')


def count(text: str) -> int:
    """A whole number."""
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number')
    return int(text)


def moment_us(text: str) -> int:
    """A moment, microseconds since 1970."""
    from ohlcvd.report.times import read_moment

    try:
        return read_moment(text).start_us(time.time_ns() // 1000)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def past_us(text: str) -> int:
    """A moment that is not in the future."""
    from ohlcvd.report.times import read_moment

    at_us = moment_us(text)
    if (read_moment(text).at_us or 0) > at_us:
        raise argparse.ArgumentTypeError(f'"{text}" lies in the future')
    return at_us


def kind(text: str) -> str:
    """candles or trades."""
    kinds = ("candles", "trades")
    if text not in kinds:
        raise argparse.ArgumentTypeError(f'"{text}" is neither candles nor trades{did_you_mean(text, kinds)}')
    return text


def config_of(args: argparse.Namespace) -> "Config":
    """The configuration in effect; its warnings are said."""
    from ohlcvd.config import Config

    given = {name: getattr(args, name, None) for name in FLAGS}
    config = Config(
        getattr(args, "config", None),
        flags={f"ohlcvd.{name}": text for name, text in given.items() if text is not None},
    )
    for warning in config.warnings:
        say(f"warning: {warning}")
    return config
