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
from typing import Protocol

from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.native import launch
from hybridbridge_vol.native.environment import (
    find_program,
    library_folders,
    more_folders,
    tool_folders,
    variables,
)
from hybridbridge_vol.native.host_files import HostFiles
from hybridbridge_vol.native.notifications import CallSource, Listener
from hybridbridge_vol.native.own_libraries import is_below, needs_linker, own_libraries
from hybridbridge_vol.native.processes import Processes
from hybridbridge_vol.native.supervisor import Supervisor, Trace, own_terminals

NATIVE, EMULATED = "native", "emulated"
USER_MODES = (NATIVE, EMULATED)
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
    `seconds`: of real time, after which the program is ended. `user_mode`: how it runs, one of `USER_MODES`:
    by this machine's processor, confined, or in an emulator, where that cannot be. `on_sleep` is called when
    a program first asks to wait for time that stands still."""

    tools: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    trace: Trace | None = None
    user_mode: str = NATIVE
    on_sleep: Callable[[], None] | None = None


class Running(Protocol):
    """A program that has been started. `ended` can be read when it has ended."""

    @property
    def ended(self) -> int: ...

    @property
    def listener(self) -> CallSource: ...

    @property
    def processes(self) -> Processes: ...

    @property
    def failures(self) -> Mapping[str, str]:
        """What could not be done before the supervisor was asked."""

    def end(self) -> int:
        """Its exit status; it is ended if it has not."""

    def close(self) -> None:
        """Let its descriptors go."""


def run_program(
    session: Session,
    arguments: Sequence[str],
    descriptors: Sequence[int] = (0, 1, 2),
    options: Options | None = None,
) -> Ended:
    """Run a program, and answer from the image what it asks about the system. `descriptors` are its standard
    input, output and error.

    Raises HostLacks if this machine cannot confine it, OptionError if there is no such program, or it cannot
    be emulated, supervisor.TimedOut.
    """
    options = options or Options()
    check_host(options.user_mode)
    folders = tool_folders(options.tools)
    program = find_program(arguments[0], folders, options.tools)
    more = more_folders(program, options.tools)
    own = own_libraries(options.tools)
    started_by = own if is_below(program.path, options.tools) and needs_linker(program.path) else None
    linker = started_by.linker if started_by is not None else ""
    libraries = library_folders(options.tools) if options.tools is not None else []
    host = HostFiles([*folders, program.path, *([linker] if linker else [])], more)
    slept: list[bool] = []

    def sleep() -> None:
        if not slept and options.on_sleep is not None:
            options.on_sleep()
        slept[:] = [True]

    guarded = any(os.isatty(fd) for fd in descriptors[1:])
    environment = variables(host, folders, program, options.environment, options.tools, own)
    libc = ctypes.CDLL(None)
    handlers = _hold_signals()
    libc.prctl(_PRCTL_SET_SUBREAPER, 1, 0, 0, 0)
    try:
        running: Running
        if options.user_mode == EMULATED:
            from hybridbridge_vol.native.emulated import start as emulated  # most programs run natively

            if started_by is not None:
                environment["LD_LIBRARY_PATH"] = ":".join(libraries)
            image = emulated.image_of(host, program, options.tools, arguments, environment, linker)
            running = emulated.start(image, descriptors, guarded)
        else:
            path, executable = host.prefix + program.path, host.executable()
            if started_by is not None:
                arguments = started_by.command(path, list(arguments), libraries)
                path = host.prefix + linker
            child = launch.start(path, arguments, environment, descriptors, executable, guarded)
            running = Native(child, linker)
        supervisor = Supervisor(session, host, own_terminals(), sleep, running.processes, options.trace)
        try:
            supervisor.serve(running.listener, running.ended, options.seconds)
        finally:
            status = running.end()
            supervisor.close()
            running.close()
        return Ended(status, {**running.failures, **supervisor.failures})  # why it ended comes first
    finally:
        libc.prctl(_PRCTL_SET_SUBREAPER, 0, 0, 0, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        host.close()


def check_host(user_mode: str) -> None:
    """HostLacks, in one line, if programs cannot be run so on this machine."""
    if user_mode == EMULATED:
        from hybridbridge_vol.native.emulated import start as emulated  # as above

        emulated.check_host()
    else:
        launch.check_host()


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


class Native:
    """A program that runs natively (`Running`)."""

    def __init__(self, child: launch.Child, linker: str = "") -> None:
        self._child = child
        self.ended = child.pidfd
        self.listener = Listener(child.listener)
        self.processes = Processes(linker)
        self.failures: Mapping[str, str] = {}

    def end(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._child.pidfd, signal.SIGKILL)
        _pid, status = os.waitpid(self._child.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        os.close(self._child.pidfd)
        self.listener.close()
