"""Who runs an installed ohlcvd: systemd, supervisord, or nobody. `start`, `stop` and `restart` go through whoever does.

A service manager that is passed over would start again what was stopped, or fail to start what is already there. Who
runs a running daemon is read from its process; who would start one that is not running, from what is set up. A checkout
and a daemon with a configuration of its own (--config, other directories) are nobody's but their caller's.

Root that calls another command becomes the user that the data belong to: files of root's among them would stop the
daemon.
"""

import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ohlcvd
from ohlcvd.config import Config
from ohlcvd.config.layers import place_of
from ohlcvd.errors import Exit, OhlcvdError, PermissionRefused, ServiceUnavailable, UsageError, error_of
from ohlcvd.supervisor.lock import Holder, look

UNIT = "ohlcvd.service"
PROGRAM = "ohlcvd"
UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
PROGRAM_FILE = "/etc/supervisor/conf.d/ohlcvd.conf"  # the unit's condition is that it does not exist


@dataclass(frozen=True, slots=True)
class Manager:
    """One that runs the daemon: `command` and a verb and `what` make it act."""

    name: str
    command: tuple[str, ...]
    what: str

    def line(self, verb: str) -> list[str]:
        """The command line for one verb."""
        return [*self.command, verb, self.what]


def start(config: Config, flags: Sequence[str]) -> int | None:
    """Start it through its manager; None if there is none, and the caller has to do it."""
    manager = manager_of(config, None)
    if manager is None or (config.run_dir.exists() and look(config.run_dir).held):
        return None  # also to say who has it
    return _started(manager, "start", config, flags)


def stop(config: Config) -> int | None:
    """Stop it through its manager; None if there is none, or it does not run."""
    holder = look(config.run_dir).holder
    manager = manager_of(config, holder)
    if manager is None or (holder is None and not _is_trying(manager)):
        return None
    _tell(manager, "stop")
    if look(config.run_dir).held:
        raise ServiceUnavailable(f"{manager.name} did not stop it; see: {_log_of(manager)}")
    print(f"ohlcvd: stopped by {manager.name}")
    return Exit.OK


def restart(config: Config, flags: Sequence[str]) -> int | None:
    """Start it anew through its manager; None if there is none."""
    holder = look(config.run_dir).holder
    manager = manager_of(config, holder)
    if manager is None:
        return None
    return _started(manager, "restart" if holder or _is_trying(manager) else "start", config, flags)


def remarks(config: Config, holder: Holder | None) -> list[str]:
    """For `status`: who runs it, or what its manager says of one that does not run."""
    manager = manager_of(config, holder)
    if manager is None:
        return []
    if holder is not None:
        return [f"run by {manager.name} ({manager.what})"]
    return [f"{manager.name} says of {manager.what}: {_state(manager)}"]


def as_owner(config: Config) -> Config:
    """The same configuration; root with an installed ohlcvd is from now on the user that its data belong to."""
    if os.geteuid() == 0 and is_installed() and config.state_dir.exists():
        found = config.state_dir.stat()
        if found.st_uid != 0:
            _become(found.st_uid, found.st_gid)
    return config


def _become(uid: int, gid: int) -> None:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        os.setgroups([])
    else:
        os.initgroups(entry.pw_name, gid)
        os.environ["HOME"] = entry.pw_dir  # where libpq looks for certificates
    os.setgid(gid)
    os.setuid(uid)


def is_installed() -> bool:
    """Not a checkout."""
    return place_of(Path(ohlcvd.__file__).parent).root is None


def manager_of(config: Config, holder: Holder | None) -> Manager | None:
    """Who runs the holder of the lock; if there is none, who would start it."""
    if not is_installed():
        return None
    place = place_of(Path(ohlcvd.__file__).parent)
    if config.file not in (None, place.file) or config.run_dir != place.directories["run_dir"]:
        return None
    if holder is not None:
        return manager_of_process(holder.pid)
    if os.path.exists(PROGRAM_FILE):
        return Manager("supervisord", ("supervisorctl",), PROGRAM)
    if os.path.isdir("/run/systemd/system") and any(os.path.exists(f"{at}/{UNIT}") for at in UNIT_FOLDERS):
        return Manager("systemd", ("systemctl",), UNIT)
    return None


def manager_of_process(pid: int) -> Manager | None:
    """Who runs this process: the unit of its control group, or a supervisord that is its parent."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        words = Path(f"/proc/{parent}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return None
    control = supervisorctl_of(words)
    if control is not None:  # first: supervisord's own unit is in the control group too
        return Manager("supervisord", control, PROGRAM)
    return Manager("systemd", ("systemctl",), UNIT) if is_in_unit(groups) else None


def is_in_unit(groups: str) -> bool:
    """Whether /proc/PID/cgroup names our unit."""
    return any(UNIT in line.rpartition(":")[2].split("/") for line in groups.splitlines())


def supervisorctl_of(words: Sequence[str]) -> tuple[str, ...] | None:
    """The supervisorctl that belongs to a command line of supervisord; None if that is something else."""
    for at, word in enumerate(words[:3]):  # perhaps after an interpreter and its options
        if os.path.basename(word) == "supervisord":
            beside = os.path.join(os.path.dirname(word), "supervisorctl")
            options = words[at + 1 :]
            control = beside if os.path.isabs(word) and os.path.exists(beside) else "supervisorctl"
            for index, option in enumerate(options):
                if option in ("-c", "--configuration") and index + 1 < len(options):
                    return (control, "-c", options[index + 1])
            return (control,)
    return None


def _started(manager: Manager, verb: str, config: Config, flags: Sequence[str]) -> int:
    if flags:
        raise UsageError(
            f"{manager.name} runs ohlcvd as {config.file or 'its configuration'} says, without {', '.join(flags)}; "
            "set that there, or use: ohlcvd run"
        )
    _tell(manager, verb)
    holder = look(config.run_dir).holder
    if holder is None:
        raise ServiceUnavailable(f"it was started by {manager.name} and ended again; see: {_log_of(manager)}")
    print(f"ohlcvd: started by {manager.name}, pid {holder.pid}")
    return Exit.OK


def _tell(manager: Manager, verb: str) -> None:
    """Let it act, and say so. What it says itself is seen."""
    line = manager.line(verb)
    print(f"ohlcvd: {manager.name} runs it: {' '.join(line)}", flush=True)
    try:
        # supervisorctl says on stdout what a person wants to know on failure, and only then
        done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise ServiceUnavailable(f"{line[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        print(done.stdout, end="", file=sys.stderr)
        raise _failure(manager, verb)


def _failure(manager: Manager, verb: str) -> OhlcvdError:
    if os.geteuid() != 0:
        return PermissionRefused(f"{manager.name} did not {verb} it; as root it may: sudo ohlcvd {verb}")
    if manager.name == "systemd":
        status = _unit_properties().get("ExecMainStatus", "")
        code = int(status) if status.isdecimal() else 0
        if code in (Exit.CONFIG, Exit.PERMISSION, Exit.ALREADY_RUNNING):
            return error_of(code, f"it ended with exit code {code}; see: {_log_of(manager)}")
    return ServiceUnavailable(f"{manager.name} did not {verb} it; see: {_log_of(manager)}")


def _is_trying(manager: Manager) -> bool:
    """Whether a manager whose daemon does not run would start it again by itself."""
    return _state(manager).split(" ")[0] not in ("inactive", "failed", "STOPPED", "EXITED", "FATAL", "unknown")


def _state(manager: Manager) -> str:
    """In the manager's own words, "unknown" where it says none."""
    if manager.name == "systemd":
        found = _unit_properties()
        state = found.get("ActiveState", "unknown")
        if state in ("failed", "activating"):
            state += f" ({found.get('Result')}, exit code {found.get('ExecMainStatus')})"
        return state
    answer = _output(manager.line("status"))
    return " ".join(answer.split()[1:]) if answer.startswith(PROGRAM) else "unknown"


def _unit_properties() -> dict[str, str]:
    lines = _output(["systemctl", "show", "--property=ActiveState,Result,ExecMainStatus", UNIT]).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceUnavailable(f"{command[0]} cannot be asked: {type(error).__name__}: {error}") from error


def _log_of(manager: Manager) -> str:
    return f"journalctl -u {UNIT}" if manager.name == "systemd" else "supervisorctl tail ohlcvd stderr"
