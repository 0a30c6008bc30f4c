"""Running one program of the examiner's machine on an image."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.native import launch
from hybridbridge_vol.native.environment import (
    find_program,
    more_folders,
    tool_folders,
    variables,
)
from hybridbridge_vol.native.host_files import HostFiles
from hybridbridge_vol.native.notifications import Listener
from hybridbridge_vol.native.supervisor import Supervisor, Trace, own_terminals

_PRCTL_SET_SUBREAPER = 36
_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


@dataclass(frozen=True)
class Ended:
    """How a program ended. `status` is its exit status, or the negative number of the signal that ended it;
    `failures`: what it asked and could not be answered, with the reason."""

    status: int
    failures: Mapping[str, str]


@dataclass(frozen=True)
class Options:
    """`tools`: a folder of programs (and libraries) to look in first. `environment`: more variables.
    `seconds`: of real time, after which the program is ended. `on_sleep` is called when a program first asks
    to wait for time that stands still."""

    tools: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    trace: Trace | None = None
    on_sleep: Callable[[], None] | None = None


def run_program(
    session: Session,
    arguments: Sequence[str],
    descriptors: Sequence[int] = (0, 1, 2),
    options: Options | None = None,
) -> Ended:
    """Run a program natively, and answer from the image what it asks about the system. `descriptors` are its
    standard input, output and error.

    Raises HostLacks if this machine cannot confine it, OptionError if there is no such program,
    supervisor.TimedOut.
    """
    launch.check_host()
    options = options or Options()
    folders = tool_folders(options.tools)
    program = find_program(arguments[0], folders)
    more = more_folders(program, options.tools)
    host = HostFiles([*folders, program.path], more)
    slept: list[bool] = []

    def sleep() -> None:
        if not slept and options.on_sleep is not None:
            options.on_sleep()
        slept[:] = [True]

    supervisor = Supervisor(session, host, own_terminals(), sleep, options.trace)
    guarded = any(os.isatty(fd) for fd in descriptors[1:])
    environment = variables(host, folders, program, options.environment, options.tools)
    libc = ctypes.CDLL(None)
    handlers = _hold_signals()
    libc.prctl(_PRCTL_SET_SUBREAPER, 1, 0, 0, 0)
    try:
        child = launch.start(
            host.prefix + program.path, arguments, environment, descriptors, host.executable(), guarded
        )
        listener = Listener(child.listener)
        try:
            supervisor.serve(listener, child.pidfd, options.seconds)
        finally:
            status = _status(child)
            supervisor.close()
            listener.close()
        return Ended(status, dict(supervisor.failures))
    finally:
        libc.prctl(_PRCTL_SET_SUBREAPER, 0, 0, 0, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        host.close()


def _hold_signals() -> dict[int, _Handler]:
    """Ctrl-C is the program's; what would end this process ends the program first. The handlers before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[int, _Handler] = {}
    for number in (signal.SIGINT, signal.SIGQUIT):
        before[number] = signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, _end)
    return before


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _status(child: launch.Child) -> int:
    """The exit status of the program, which has ended, or is ended now."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
    _pid, status = os.waitpid(child.pid, 0)
    os.close(child.pidfd)
    return os.waitstatus_to_exitcode(status)
