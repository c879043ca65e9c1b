"""The fork itself: what must hold before it, and what the new process does before anything else.

Python with more than one thread cannot fork safely: a lock held by another thread stays locked in the child for ever.
So exactly one task is required, signals are blocked across the fork, and the child first makes itself independent: it
dies with its parent, hears no signal meant for it, keeps no descriptor of it or of its siblings. It leaves by
`os._exit`, so that no clean-up of the parent runs twice.
"""

import ctypes
import faulthandler
import gc
import logging
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple, NoReturn

import setproctitle

from ohlcvd.errors import Exit, OhlcvdError
from ohlcvd.log import flush_repeats, get_component_logger, reopen_logs
from ohlcvd.supervisor.commands import CommandReceiver, CommandSender, command_pair
from ohlcvd.supervisor.heartbeat import HeartbeatSender
from ohlcvd.supervisor.process import Process

Main = Callable[[HeartbeatSender, CommandReceiver], int]

STACKS_SIGNAL = signal.SIGUSR2

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded once, before any fork


class ForkRefused(OhlcvdError):
    """Forking now would be unsafe."""


class Forked(NamedTuple):
    """The parent's side of a forked child: close all of it when it is gone."""

    process: Process
    commands: CommandSender
    beats: int  # read end of the heartbeat pipe, non-blocking
    stacks: int  # memory file that faulthandler writes to


class Inherited(NamedTuple):
    """The child's side."""

    beats: int  # write end of the heartbeat pipe, non-blocking
    commands: CommandReceiver
    stacks: int


def freeze_memory() -> None:
    """Once, before the first fork: children share what exists now, because no collection touches these pages again."""
    gc.collect()
    gc.freeze()


def require_single_task() -> None:
    """ForkRefused if this process has a second thread, whoever made it (also one that Python does not know)."""
    tasks = os.listdir("/proc/self/task")
    if len(tasks) != 1:
        raise ForkRefused(f"the supervisor has {len(tasks)} threads; it forks only with one")


def fork_child(name: str, main: Main, forget_parent: Callable[[], None]) -> Forked:
    """Fork a child that runs `main`. `forget_parent` closes, in the child, what belongs to the parent alone.

    OSError when the system has no process, memory or descriptor to give; nothing is left behind then.
    """
    require_single_task()
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with ExitStack() as theirs, ExitStack() as ours:  # theirs is closed in any case, ours if something fails
            beats, beats_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            ours.callback(os.close, beats)
            theirs.callback(os.close, beats_out)
            sender, receiver = command_pair()
            ours.callback(sender.close)
            theirs.callback(receiver.close)
            stacks = os.memfd_create(f"stacks {name}", os.MFD_CLOEXEC)
            ours.callback(os.close, stacks)
            pid = os.fork()
            if pid == 0:
                os.close(beats)
                sender.close()
                _run_child(name, main, forget_parent, parent, Inherited(beats_out, receiver, stacks), mask)
            try:
                forked = Forked(Process(pid), sender, beats, stacks)
            except OSError:
                os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is certainly ours
                os.waitpid(pid, 0)
                raise
            ours.pop_all()
            return forked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _run_child(
    name: str,
    main: Main,
    forget_parent: Callable[[], None],
    parent: int,
    inherited: Inherited,
    mask: set[int | signal.Signals],
) -> NoReturn:
    code = int(Exit.BUG)
    try:
        _die_with(parent)
        _reset_signals(inherited.stacks)
        forget_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _detach_stdin()
        setproctitle.setproctitle(f"ohlcvd: {name}")
        random.seed()
        code = main(HeartbeatSender(partial(os.write, inherited.beats)), inherited.commands)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        log = get_component_logger(f"ohlcvd.{name}")
        log.exception("%s failed with %s; it ends with exit code 70", name, type(error).__name__)
    finally:
        leave(code)


def _die_with(parent: int) -> None:
    """SIGKILL when the parent ends, however it ends."""
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended between the fork and the call above
        os._exit(Exit.BUG)


def _reset_signals(stacks: int) -> None:
    """Drop every handler of the parent. A terminal's INT and HUP reach the whole group: the parent decides, not we.

    The wake-up descriptor goes first: else the child's signals would be written into the parent's loop.
    """
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, _reopen)  # until `main` has a better way: the default would kill
    faulthandler.enable(stacks)
    faulthandler.register(STACKS_SIGNAL, stacks, all_threads=True, chain=False)


def _reopen(_signum: int, _frame: object) -> None:
    reopen_logs()


def _detach_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def leave(code: int) -> NoReturn:
    """End this process now, with what was written flushed and nothing of the parent's clean-up run."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the reader is gone, or the stream closed or None: nobody is left to be told
    flush_repeats(everything=True)
    logging.shutdown()
    os._exit(code & 0xFF)
