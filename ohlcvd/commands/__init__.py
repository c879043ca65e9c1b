"""Every command, in the order of `--help`. A module holds those that belong together and imports what they need when
they run: `--help`, `check-config` and `status` load neither ccxt nor a database driver."""

from ohlcvd.commands import completeness, local, markets, reading, service, symbols
from ohlcvd.commands.arguments import Command

COMMANDS: dict[str, Command] = {
    **local.COMMANDS,
    **service.COMMANDS,
    **symbols.COMMANDS,
    **markets.COMMANDS,
    **completeness.COMMANDS,
    **reading.COMMANDS,
}
