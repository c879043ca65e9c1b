"""Every command, in the order of `--help`. A module holds those that belong together and imports what they need when
they run: `--help`, `check-config` and `status` load neither ccxt nor a database driver."""

from ohlcvd.commands import completeness, local, service
from ohlcvd.commands.arguments import Command

_ORDER = """
demo start stop restart run status
backfill gaps verify
logs check-config simulate
""".split()
_ALL = {**service.COMMANDS, **completeness.COMMANDS, **local.COMMANDS}
COMMANDS: dict[str, Command] = {name: _ALL[name] for name in _ORDER}
