"""The command line: parses, calls, prints, and turns every outcome into an exit code. It decides nothing.

The commands themselves are in `commands/`. An error that was foreseen is one sentence on stderr; one that was not is a
traceback and exit code 70.
"""

import argparse
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ohlcvd import __version__
from ohlcvd.commands import COMMANDS
from ohlcvd.commands.arguments import add_config, say
from ohlcvd.errors import Exit, OhlcvdError, UsageError
from ohlcvd.nearest import did_you_mean

INTERRUPTED = 130  # as a shell says it of a program that SIGINT ended

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
        say(str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the edge of the process: a bug is shown whole
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            # Whoever read our output has seen enough. Python would complain at its own last flush: it gets nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(Exit.OK)
        traceback.print_exc()
        say("this is a bug in ohlcvd")
        return int(Exit.BUG)


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The commands; the options only of the chosen one, because some cost an import."""
    parser = _Parser(
        prog="ohlcvd",
        description="Collects 1-minute candles and trades from cryptocurrency exchanges, and can prove what it has.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"ohlcvd {__version__}")
    add_config(parser)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    for name, (summary, example, add, run) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"example:\n  {example}",
        )
        add_config(command)
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
