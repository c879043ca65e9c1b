"""`bin/ohlcvd` and `bin/test` as a stranger meets them: in a small checkout of their own, run by the real shell.

The checkout's package is a stand-in that prints what it got, and its lock file names one small package that lies beside
it, so that environments are made for real, by venv and pip, without a package index. Tests that are not about making an
environment use one that was made beforehand.
"""

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers import private_directory

SOURCE = Path(__file__).resolve().parent.parent
MESSAGE = "making the Python environment"
PROGRAM = """
import os, sys
print("arguments", sys.argv[1:])
print("python path", os.environ["PYTHONPATH"])
print("package", __file__)
print("input", sys.stdin.read())
try:
    import little
    print("little", little.VERSION)
except ImportError:
    print("no little")
sys.exit(7)
"""


@dataclass
class Checkout:
    """A checkout with the real launchers and a stand-in for everything else."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def lock(self) -> Path:
        return self.root / "etc" / "requirements.lock"

    def make(self) -> None:
        for folder in ("bin", "etc", "ohlcvd", "tests/long/night", "tests/long/year"):
            (self.root / folder).mkdir(parents=True)
        for name in ("ohlcvd", "environment", "test"):
            shutil.copy(SOURCE / "bin" / name, self.root / "bin" / name)
        (self.root / "ohlcvd" / "__init__.py").touch()
        (self.root / "ohlcvd" / "__main__.py").write_text(PROGRAM)
        self.lock.write_text("# nothing yet\n")
        for name in ("test", "first"):
            (self.root / "etc" / f"requirements-{name}.lock").write_text(f"# nothing for {name}\n")

    def environment(self, folder: Path, *locks: Path) -> Path:
        """An environment as the launcher leaves it, for the locks as they are now."""
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(Path(sys.executable).resolve())
        (folder / "lock.stamp").write_bytes(b"".join(lock.read_bytes() for lock in locks or (self.lock,)))
        return folder

    def run(
        self, *words: str | Path, program: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [program or self.root / "bin" / "ohlcvd", *words],
            env={**self.environ, **(environ or {})},
            input="typed",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def start(self, environ: Mapping[str, str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.root / "bin" / "ohlcvd"],
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )


@pytest.fixture
def folder() -> Iterator[Path]:
    with private_directory() as path:
        path.chmod(0o755)
        yield path


def new_checkout(folder: Path) -> Checkout:
    home = folder / "home"
    home.mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "OHLCVD_PYTHON": sys.executable}
    made = Checkout(folder / "check out", environ)
    made.make()
    return made


@pytest.fixture
def checkout(folder: Path) -> Checkout:
    return new_checkout(folder)


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    """With its environment made."""
    checkout.environment(checkout.root / ".venv")
    return checkout


@dataclass(frozen=True)
class FirstUse:
    """A checkout that was used for the first time, with all that Python really does."""

    checkout: Checkout
    environ: dict[str, str]
    run: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def first_use() -> Iterator[FirstUse]:
    with private_directory() as folder:
        made = new_checkout(folder)
        made.lock.write_text(package(folder, "first", "1.0"))
        environ = offline(folder) | {"PIP_TARGET": "/nonsense", "PIP_USER": "1", "PIP_NO_BINARY": ":all:"}
        yield FirstUse(made, environ, made.run(environ=environ))


@pytest.fixture
def quick(checkout: Checkout, folder: Path, first_use: FirstUse) -> Checkout:
    """With a Python whose venv module takes no time: what it makes is a copy. Everything else it does is real."""
    commands = folder / "commands"
    commands.mkdir()
    python = commands / "python3"
    python.write_text(
        f"""#!/bin/sh
case "$2 $3" in
"-m venv") cd "{first_use.checkout.root}/.venv" && exec cp -r bin lib pyvenv.cfg "$4" ;;
"-c import fcntl"*) exec {sys.executable} "$@" ;;
*) echo "3.11 $0" ;;
esac
"""
    )
    python.chmod(0o755)
    checkout.environ["PATH"] = f"{commands}:{checkout.environ['PATH']}"
    del checkout.environ["OHLCVD_PYTHON"]
    return checkout


def package(folder: Path, name: str, version: str) -> str:
    """Puts a wheel of one module into `folder` and returns its line for a lock file."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in (*files.items(), (f"{info}/RECORD", record + f"{info}/RECORD,,\n")):
            archive.writestr(path, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def offline(folder: Path) -> dict[str, str]:
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}


# --- running


def test_the_program_gets_arguments_input_and_its_exit_code_is_passed_on(ready: Checkout) -> None:
    run = ready.run("a b", "*", "", "--x=$y")
    assert run.returncode == 7
    assert run.stderr == ""
    assert "arguments ['a b', '*', '', '--x=$y']\n" in run.stdout
    assert f"package {ready.root}/ohlcvd/__main__.py\n" in run.stdout
    assert "input typed\n" in run.stdout


def test_it_can_be_called_through_a_symlink_and_from_anywhere(ready: Checkout, folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "collect").symlink_to("../check out/bin/ohlcvd")
    run = ready.run(program=folder / "elsewhere" / "collect", environ={"CDPATH": str(folder)})
    assert (run.returncode, run.stderr) == (7, "")
    assert f"package {ready.root}/ohlcvd/__main__.py\n" in run.stdout


def test_the_callers_python_settings_do_not_reach_it(ready: Checkout, folder: Path) -> None:
    (folder / "evil" / "ohlcvd").mkdir(parents=True)
    (folder / "evil" / "ohlcvd" / "__main__.py").write_text("print('evil')")
    names = dict.fromkeys(("PYTHONHOME", "python", "venv", "here", "environments"), "/nonsense")
    run = ready.run(environ=names | {"PYTHONPATH": str(folder / "evil")})
    assert (run.returncode, run.stderr) == (7, "")
    assert f"python path {ready.root}\n" in run.stdout


def test_a_relative_folder_for_the_environment(checkout: Checkout, folder: Path) -> None:
    checkout.environment(folder / "environments")
    run = subprocess.run(
        [checkout.root / "bin" / "ohlcvd"],
        env=checkout.environ | {"OHLCVD_VENV": "environments"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (7, "")


def test_a_colon_in_the_path_is_refused_with_the_reason(checkout: Checkout, folder: Path) -> None:
    checkout.root = checkout.root.rename(folder / "a:b")
    checkout.environment(checkout.root / ".venv")
    run = checkout.run()
    assert run.returncode == 78
    assert "colon" in run.stderr


# --- making the environment


def test_first_use_makes_the_environment_and_later_uses_are_silent(first_use: FirstUse) -> None:
    root = first_use.checkout.root
    assert first_use.run.returncode == 7
    assert first_use.run.stderr == f"ohlcvd: {MESSAGE} in {root}/.venv (once; a minute or so)\n"
    assert first_use.checkout.run(environ=first_use.environ).stderr == ""
    assert sorted(path.name for path in root.iterdir()) == [".venv", "bin", "etc", "ohlcvd", "tests"]
    first = subprocess.run(
        [root / ".venv/bin/python", "-c", "import first; print(first.VERSION)"], stdout=subprocess.PIPE, check=True
    )
    assert first.stdout == b"1.0\n"


def test_a_changed_lock_makes_it_anew(quick: Checkout, folder: Path) -> None:
    quick.lock.write_text(package(folder, "little", "1.0"))
    assert "little 1.0\n" in quick.run(environ=offline(folder)).stdout
    quick.lock.write_text(package(folder, "little", "2.0"))
    changed = quick.run(environ=offline(folder))
    assert MESSAGE in changed.stderr
    assert "little 2.0\n" in changed.stdout


def test_two_at_once_on_first_use(quick: Checkout, folder: Path) -> None:
    quick.lock.write_text(package(folder, "little", "1.0"))
    both = [quick.start(offline(folder)) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [7, 7]
    assert all("little 1.0\n" in stdout for stdout, _ in outputs)
    assert sum(MESSAGE in stderr for _, stderr in outputs) == 1


def test_killed_in_the_middle_then_used_again(quick: Checkout, folder: Path) -> None:
    quick.lock.write_text(package(folder, "little", "1.0"))
    with quick.start(offline(folder)) as process:
        assert process.stderr is not None
        assert MESSAGE in process.stderr.readline()
        os.killpg(process.pid, signal.SIGKILL)
    again = quick.run(environ=offline(folder))
    assert again.returncode == 7
    assert MESSAGE in again.stderr
    assert "little 1.0\n" in again.stdout


def test_what_a_killed_launcher_leaves_running_is_waited_for(quick: Checkout, folder: Path) -> None:
    quick.lock.write_text(package(folder, "little", "1.0"))
    with quick.start(offline(folder)) as process:
        assert process.stderr is not None
        assert MESSAGE in process.stderr.readline()
        process.kill()  # pip goes on
        again = quick.run(environ=offline(folder))
    assert again.returncode == 7
    assert again.stderr.startswith("ohlcvd: waiting for another run")
    assert "little 1.0\n" in again.stdout


def test_a_package_that_cannot_be_had_is_reported_and_tried_again(quick: Checkout, folder: Path) -> None:
    quick.lock.write_text(package(folder, "little", "1.0"))
    wheel = folder / "little-1.0-py3-none-any.whl"
    wheel.rename(folder / "hidden")
    failed = quick.run(environ=offline(folder))
    assert failed.returncode == 69
    assert "could not install the packages" in failed.stderr.splitlines()[-1]
    (folder / "hidden").rename(wheel)
    assert "little 1.0\n" in quick.run(environ=offline(folder)).stdout


def test_a_package_that_was_changed_is_not_installed(quick: Checkout, folder: Path) -> None:
    line = package(folder, "little", "1.0")
    quick.lock.write_text(line.replace(line[-9:-1], "00000000"))
    failed = quick.run(environ=offline(folder))
    assert failed.returncode == 69
    assert "DO NOT MATCH THE HASHES" in failed.stderr


def test_a_folder_that_is_not_ours_is_left_alone(checkout: Checkout, folder: Path) -> None:
    mine = folder / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    run = checkout.run(environ={"OHLCVD_VENV": str(mine)})
    assert run.returncode == 78
    assert run.stderr == (
        f"ohlcvd: {mine} was not made by ohlcvd; remove it, or set OHLCVD_VENV to a folder that does not exist yet\n"
    )
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_a_python_that_does_not_do_is_refused_in_one_sentence(checkout: Checkout, folder: Path) -> None:
    for python in ("/nonsense", "/bin/false"):
        run = checkout.run(environ={"OHLCVD_PYTHON": python})
        assert run.returncode == 69
        assert run.stderr == (
            f"ohlcvd: OHLCVD_PYTHON={python} is not a Python 3.11, 3.12 or 3.13 with the venv and ensurepip modules\n"
        )
    assert not (checkout.root / ".venv").exists()


def test_an_environment_made_with_another_python_is_made_anew(ready: Checkout, folder: Path) -> None:
    other = folder / "python3.12"
    other.write_text(f'#!/bin/sh\n[ "$2 $3" = "-c import fcntl" ] && exit 1\necho "3.12 {other}"\n')
    other.chmod(0o755)
    run = ready.run(environ={"OHLCVD_PYTHON": str(other)})  # this one cannot even lock
    assert run.returncode == 69
    assert (ready.root / ".venv" / "lock.stamp").read_text() == ""


# --- a checkout that cannot be written


@pytest.fixture
def stranger(checkout: Checkout) -> Iterator[int | None]:
    """The user to run as, to be able to read the checkout but not to write it; None: as who we are."""
    if os.geteuid() == 0:
        yield 65534
        return
    checkout.root.chmod(0o555)
    yield None
    checkout.root.chmod(0o755)


def shell_python(checkout: Checkout, folder: Path) -> None:
    """An environment whose Python says that it was called: a stranger may not be able to reach ours."""
    checkout.environment(folder)
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").write_text('#!/bin/sh\necho "called in ${0%/bin/python}"\n')
    (folder / "bin" / "python").chmod(0o755)


def as_stranger(checkout: Checkout, stranger: int | None, **environ: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in checkout.environ.items() if name != "OHLCVD_PYTHON"}
    return subprocess.run(
        [checkout.root / "bin" / "ohlcvd"],
        env=kept | environ,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        user=stranger,
    )


def test_an_environment_made_for_everyone_is_used_by_a_stranger(checkout: Checkout, stranger: int | None) -> None:
    checkout.root.chmod(0o755)  # as whoever made it for everyone
    shell_python(checkout, checkout.root / ".venv")
    (checkout.root / ".venv").chmod(0o555)
    checkout.root.chmod(0o555)
    run = as_stranger(checkout, stranger)
    assert (run.stdout, run.stderr) == (f"called in {checkout.root}/.venv\n", "")
    (checkout.root / ".venv").chmod(0o755)  # to be removed


def test_a_stranger_gets_an_environment_in_the_cache(checkout: Checkout, folder: Path, stranger: int | None) -> None:
    number = subprocess.run(["cksum"], input=str(checkout.root).encode(), stdout=subprocess.PIPE, check=True).stdout
    for cache in (folder / "home" / ".cache", folder / "cache"):
        shell_python(checkout, cache / "ohlcvd" / f"venv-{number.split()[0].decode()}")
    run = as_stranger(checkout, stranger)
    assert run.stdout.startswith(f"called in {folder}/home/.cache/ohlcvd/venv-")
    run = as_stranger(checkout, stranger, XDG_CACHE_HOME=str(folder / "cache"))
    assert run.stdout.startswith(f"called in {folder}/cache/ohlcvd/venv-")


def test_a_stranger_without_a_home_is_told_what_to_do(checkout: Checkout, stranger: int | None) -> None:
    run = as_stranger(checkout, stranger, HOME="")
    assert run.returncode == 77
    assert run.stderr == (
        f"ohlcvd: cannot write {checkout.root}; set OHLCVD_VENV to a folder for the Python environment\n"
    )


def test_a_stranger_whose_folder_cannot_be_written_is_told_what_to_do(
    checkout: Checkout, folder: Path, stranger: int | None
) -> None:
    locked = folder / "locked"
    locked.mkdir(mode=0o555)
    run = as_stranger(checkout, stranger, OHLCVD_VENV=str(locked / "venv"))
    assert run.returncode in (69, 77)  # 69: no Python that this stranger could reach
    assert run.stderr.startswith("ohlcvd: ")
    assert len(run.stderr.splitlines()) == 1


# --- finding Pythons


def in_environment(checkout: Checkout, script: str, **environ: str) -> str:
    """What a line of shell prints that has `bin/environment` sourced."""
    command = f'here=$1; . "$here/bin/environment"; {script}'
    return subprocess.run(
        ["sh", "-c", command, "sh", checkout.root], env=checkout.environ | environ, stdout=subprocess.PIPE, check=False
    ).stdout.decode()


def test_pyenv_and_the_usual_places_are_searched(checkout: Checkout, folder: Path) -> None:
    pythons = []
    for root, version in (("home/.pyenv", "3.12.1"), ("home/.pyenv", "3.9.18"), ("other", "3.13.0")):
        python = folder / root / "versions" / version / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        pythons.append(str(python))
    found = in_environment(checkout, "python_candidates", PYENV_ROOT=str(folder / "other")).splitlines()
    assert found[:2] == [sys.executable, "python3"]
    assert "/usr/bin/python3" in found
    assert pythons[0] in found
    assert pythons[1] not in found
    assert pythons[2] in found


def test_an_old_python_first_on_the_path_is_passed_over(checkout: Checkout, folder: Path) -> None:
    commands = folder / "commands"
    commands.mkdir()
    (commands / "python3").write_text("#!/bin/sh\nexit 1\n")  # as an old one answers
    (commands / "python3").chmod(0o755)
    (commands / "python3.13").symlink_to(Path(sys.executable).resolve())
    path = f"{commands}:/usr/bin:/bin"
    found = in_environment(checkout, 'find_python; echo "$python_version $python"', PATH=path, OHLCVD_PYTHON="")
    assert found == f"{sys.version_info[0]}.{sys.version_info[1]} {Path(sys.executable).resolve()}\n"


# --- bin/test


@pytest.fixture
def testable(checkout: Checkout) -> Checkout:
    """With the environment for tests made; its Python prints how it was called."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    environments = checkout.root / ".venv"
    locks = (checkout.lock, *(checkout.root / "etc" / f"requirements-{name}.lock" for name in ("test", "first")))
    environment = checkout.environment(environments / f"test-{version}", *locks)
    (environments / "lock.stamp").touch()
    python = environment / "bin" / "python"
    python.rename(environment / "bin" / "real")
    python.write_text(
        '#!/bin/sh\n[ -t 0 ] && exit 1\necho "$PWD $PYTHONPATH ${OHLCV_SYMBOLS-unset} ${PGHOST-unset} $*"\n'
    )
    python.chmod(0o755)
    # for the script, the environment's Python is the one it was made with
    checkout.environ["OHLCVD_PYTHON"] = str(python_that_claims(python, version, checkout.root))
    return checkout


def python_that_claims(python: Path, version: str, folder: Path) -> Path:
    claiming = folder / "claiming"
    claiming.write_text(f'#!/bin/sh\necho "{version} {python}"\n')
    claiming.chmod(0o755)
    return claiming


def test_arguments_go_to_pytest_in_a_clean_environment(testable: Checkout) -> None:
    test = testable.root / "bin" / "test"
    run = testable.run("tests/a b.py", "-k", "x and y", program=test, environ={"OHLCV_SYMBOLS": "x", "PGHOST": "x"})
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == (
        f"{testable.root} {testable.root} unset unset "
        "-P -m pytest -p no:cacheprovider -o faulthandler_timeout=300 tests/a b.py -k x and y\n"
    )


def test_long_tests_are_run_by_name(testable: Checkout) -> None:
    test = testable.root / "bin" / "test"
    run = testable.run("--long", "night", "-x", program=test)
    assert run.stdout.endswith("faulthandler_timeout=5400 tests/long/night -x\n")
    for words in (("--long", "week"), ("--long",)):
        run = testable.run(*words, program=test)
        assert run.returncode == 64
        assert run.stderr.startswith("ohlcvd: no long test ")
        assert run.stderr.endswith("; there are: night year \n")
    shutil.rmtree(testable.root / "tests" / "long")
    assert testable.run("--long", "night", program=test).stderr == "ohlcvd: no long test night; there are: none\n"


def test_help_is_the_head_of_the_script(testable: Checkout) -> None:
    run = testable.run("--help", program=testable.root / "bin" / "test")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("Sets up and runs every test")
    assert "--long NAME" in run.stdout
