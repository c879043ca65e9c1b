"""What the commands share: their form, the options that several have, and the readers of values."""

import argparse
import contextlib
import os
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


def level(text: str) -> str:
    """The name of a log level."""
    from ohlcvd.config.settings import read_log_level

    try:
        return read_log_level(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"the level {error}") from None


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
    from ohlcvd.report import times

    try:
        return times.moment_us(text, time.time_ns() // 1000)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def past_us(text: str) -> int:
    """A moment that is not in the future."""
    at_us = moment_us(text)
    if at_us > time.time_ns() // 1000:
        raise argparse.ArgumentTypeError(f'"{text}" lies in the future')
    return at_us


def kind(text: str) -> str:
    """candles or trades."""
    kinds = ("candles", "trades")
    if text not in kinds:
        raise argparse.ArgumentTypeError(f'"{text}" is neither candles nor trades{did_you_mean(text, kinds)}')
    return text


def given_flags(args: argparse.Namespace) -> list[str]:
    """The flags that replace configuration, as they were given."""
    return [f"--{name.replace('_', '-')}" for name in FLAGS if getattr(args, name, None) is not None]


def config_of(args: argparse.Namespace, *, as_owner: bool = True) -> "Config":
    """The configuration in effect; its warnings are said. With it root becomes whom the data belong to."""
    from ohlcvd.config import Config
    from ohlcvd.managers import as_owner as become_owner

    given = {name: getattr(args, name, None) for name in FLAGS}
    config = Config(
        getattr(args, "config", None),
        flags={f"ohlcvd.{name}": text for name, text in given.items() if text is not None},
    )
    for warning in config.warnings:
        say(f"warning: {warning}")
    return become_owner(config) if as_owner else config


def control_config_of(args: argparse.Namespace, *, quiet: bool = False, as_owner: bool = True) -> "Config":
    """To find what runs, also with a file that has been broken since: then its directories and defaults must do."""
    from ohlcvd.config import Config
    from ohlcvd.errors import ConfigError

    try:
        return config_of(args, as_owner=as_owner)
    except ConfigError as error:
        file = getattr(args, "config", None)
        if file is not None and not os.path.exists(file):
            raise
        config = Config.last_resort(file)
        if not quiet:
            say(f"warning: {error}; looking for the service in {config.run_dir}")
        return config
