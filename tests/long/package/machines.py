"""Throw-away Debian 12 machines: folders stacked with overlayfs, entered through namespaces of their own.

A machine is *plain* (a shell as its first process, which reaps) or *booted* (systemd in nspawn). Either has its own
processes and, unless it is to install from the archive, a network that holds nothing but itself. Everything is mounted
in a mount namespace of this very process (`enter_namespace`), so nothing is left behind however it ends.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

CLONE_NEWNS = 0x20000
TOOLS = (
    "mmdebstrap", "systemd-nspawn", "nsenter", "unshare", "setpriv", "ip", "lintian", "piuparts", "autopkgtest",
)  # fmt: skip
COMMAND_S = 300.0
BUILD_S = 900.0
BOOT_S = 120.0
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
}
# The first process of a plain machine is a shell that waits: it reaps whatever is left to it. It is up when its root is
# the machine's, because that is what commands take over from it; until then they would meet this computer.
FIRST_PROCESS = """
ip link set lo up
mount -t proc proc {root}/proc
exec chroot {root} sh -c 'echo up; while :; do sleep 1; done'
"""

PROBE = """
mkdir lower upper work root
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root
umount root
"""

_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """What this computer lacks for machines of this kind; None if nothing."""
    if os.geteuid() != 0:
        return "it takes root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} must be installed"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        probe = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", PROBE], cwd=folder,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return f"namespaces and mounts are refused: {probe.stderr.strip()}" if probe.returncode else None


def enter_namespace() -> None:
    """From now on mounts of this process are its own, and end with it."""
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")
    os.makedirs("/run/systemd/nspawn", exist_ok=True)
    mount("-t", "tmpfs", "tmpfs", "/run/systemd/nspawn")  # nspawn wants to mount from here, which / may not allow


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True, stdin=subprocess.DEVNULL)


def wait_for(what: str, condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.2)


class Layer:
    """A folder with a Debian in it that others are stacked upon; it does not change any more."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders  # the uppermost first

    @contextlib.contextmanager
    def opened(self, work: Path) -> Iterator[Path]:
        """A copy to write to; `work`/changes holds what was written."""
        root = work / "root"
        for name in ("root", "changes", "overlay"):
            (work / name).mkdir(parents=True)
        lower = ":".join(map(str, self.folders))
        mount(
            "-t", "overlay", "overlay", "-o",
            f"lowerdir={lower},upperdir={work / 'changes'},workdir={work / 'overlay'}", root,
        )  # fmt: skip
        try:
            yield root
        finally:
            subprocess.run(["umount", "--lazy", root], check=True)

    def above(self, work: Path) -> "Layer":
        """This layer with the changes that were made in `work`."""
        return Layer(work / "changes", *self.folders)


class Machine:
    """A machine that runs; `pid` is its first process."""

    def __init__(self, pid: int, root: Path) -> None:
        assert is_root_of(root, pid)
        self.pid, self.root = pid, root

    def command(self, *words: str, user: str | None = None) -> list[str]:
        """What runs `words` in it, seen from outside."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "--root", "--wd"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        return [*enter, "--", "env", "-i", *(f"{name}={value}" for name, value in ENVIRONMENT.items()), *become, *words]

    def try_run(self, *words: str, user: str | None = None, timeout_s: float = COMMAND_S) -> tuple[int, str]:
        """Exit code, and both outputs together."""
        done = subprocess.run(
            self.command(*words, user=user), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def run(self, *words: str, user: str | None = None, timeout_s: float = COMMAND_S) -> str:
        """The output of a command that must succeed."""
        code, output = self.try_run(*words, user=user, timeout_s=timeout_s)
        assert code == 0, f"{' '.join(words)}: exit code {code}\n{output}"
        return output.strip()

    def install(self, deb: Path, *options: str) -> str:
        """With apt, as a person would; a changed configuration file is kept, as dpkg does when told nothing."""
        shutil.copy(deb, self.root / "root")
        keep = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
        return self.run(
            "apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "--allow-downgrades", *keep, *options,
            f"/root/{deb.name}", timeout_s=600,
        )  # fmt: skip

    def pids_of(self, user: str = "ohlcvd") -> list[str]:
        """What runs as this user, without what is dead already."""
        _, listed = self.try_run("ps", "--no-headers", "-u", user, "-o", "pid=,stat=,args=")
        return [line for line in listed.splitlines() if line.split()[1][0] != "Z"]

    def sql(self, statement: str) -> str:
        """The answer of the private PostgreSQL, empty while it cannot give one."""
        words = ("psql", "-h", "/var/lib/ohlcvd/postgres.socket", "-U", "ohlcvd", "-d", "ohlcvd", "-Atqc", statement)
        code, answer = self.try_run(*words, user="ohlcvd")
        return answer.strip() if code == 0 else ""

    def rows(self) -> int:
        """Trades that are stored; -1 while that cannot be asked."""
        return int(self.sql("SELECT count(*) FROM ohlcvd.named_trades") or -1)


@contextlib.contextmanager
def plain(root: Path, *, network: bool = False) -> Iterator[Machine]:
    """A machine without a service manager."""
    isolate = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
    script = FIRST_PROCESS.format(root=root)
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *isolate, "sh", "-c", script],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            (pid,) = children_of(process.pid)
            yield Machine(pid, root)
        finally:
            process.kill()


@contextlib.contextmanager
def booted(root: Path, log: Path) -> Iterator[Machine]:
    """A machine with systemd; what its console says goes to `log`."""
    with log.open("wb") as console, subprocess.Popen(
        [
            "setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "-D", root, "--register=no", "--keep-unit",
            "--private-network", "--console=pipe", "--boot",
        ],
        stdin=subprocess.DEVNULL, stdout=console, stderr=console,
    ) as process:  # fmt: skip
        try:
            wait_for(
                "systemd is started", lambda: any(is_root_of(root, pid) for pid in children_of(process.pid)), BOOT_S
            )
            machine = Machine(next(pid for pid in children_of(process.pid) if is_root_of(root, pid)), root)
            wait_for("the machine is up", lambda: is_up(machine), BOOT_S)
            yield machine
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def is_up(machine: Machine) -> bool:
    """Booted to the end; "degraded" is a unit that a container cannot run."""
    _, state = machine.try_run("systemctl", "is-system-running")
    return state.strip() in ("running", "degraded")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_root_of(root: Path, pid: int) -> bool:
    """Whether a process has left this computer's files for these."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat(root))
    except FileNotFoundError:  # it has ended
        return False


def without_services(root: Path) -> None:
    """Packages that are installed now do not start their services."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def with_services(root: Path) -> None:
    (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)


def run(words: Sequence[str | Path], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """The output of a command of this computer that must succeed.

    It does not see what bin/test sets for the Python of the tests: Debian's tools are Python too and go into chroots.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        words, cwd=cwd, env={**inherited, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=BUILD_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout
