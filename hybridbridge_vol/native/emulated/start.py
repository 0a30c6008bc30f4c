"""Starting an emulated program: a child that gives up what it does not need, and then runs the emulator."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from hybridbridge_vol.child_process import die_with, fork
from hybridbridge_vol.errors import HostLacks, OptionError
from hybridbridge_vol.native import filter as seccomp_filter
from hybridbridge_vol.native import landlock
from hybridbridge_vol.native.emulated.channel import PATIENCE, Channel, Kind
from hybridbridge_vol.native.emulated.elf import Executable, read_executable
from hybridbridge_vol.native.emulated.listener import EmulatedListener, EmulatedProcess, EmulatedProgram
from hybridbridge_vol.native.emulated.loader import Image
from hybridbridge_vol.native.emulated.policy import Policy
from hybridbridge_vol.native.emulated.program import EmulatedRun
from hybridbridge_vol.native.environment import Program
from hybridbridge_vol.native.host_files import HostFiles
from hybridbridge_vol.native.launch import FAILED_TO_START, MAX_OPEN_FILES, keep_only
from hybridbridge_vol.native.rights import no_capabilities, no_new_rights

_HIDDEN = 2
"""Descriptors of the child that are not the program's: the channel, and one that closes when it ends."""
_MAX_INTERPRETER_LINE = 256  # BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h


class Emulated:
    """A program that runs in a process of its own. `ended` can be read when it has ended."""

    def __init__(
        self, pid: int, listener: EmulatedListener, processes: EmulatedProcess, channel: Channel, ended: int
    ) -> None:
        self.listener = listener
        self.processes = processes
        self.ended = ended
        self._pid = pid
        self._channel = channel

    @property
    def failures(self) -> Mapping[str, str]:
        """What the program's own process could not do."""
        return self.listener.notes

    def end(self) -> int:
        """Its status as of `os.waitstatus_to_exitcode`; it is ended if it has not."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        _pid, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Let its descriptors go."""
        os.close(self.ended)
        self._channel.close()


def check_host() -> None:
    """HostLacks, in one line, if no program can be emulated here."""
    if sys.platform != "linux":
        raise HostLacks("programs can be run on an image on Linux only")


def image_of(
    host: HostFiles,
    program: Program,
    tools: str | None,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    own_linker: str = "",
) -> Image:
    """What is to be started: a program, or the interpreter that a script names; by `own_linker`, if it has a
    dynamic linker of its own. OptionError if it cannot be emulated."""
    path, name, words = os.path.realpath(program.path), host.prefix + program.path, list(arguments)
    named = _interpreter_line(path)
    if named:
        found = os.path.realpath(named[0])
        if not host.is_tool(found):
            raise OptionError(f"{path}: its interpreter {named[0]} is not among the programs that may be run")
        words, path, name = [named[0], *named[1:], name, *words[1:]], found, named[0]
    executable = read_executable(path)
    linker = read_executable(own_linker) if own_linker else _linker(executable, tools)
    return Image(executable, linker, name, words, environment)


def _interpreter_line(path: str) -> list[str]:
    """The interpreter of a script and its argument (fs/binfmt_script.c); nothing if it is not a script."""
    try:
        with open(path, "rb") as file:
            head = file.read(_MAX_INTERPRETER_LINE)
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None
    if not head.startswith(b"#!"):
        return []
    return os.fsdecode(head[2:].partition(b"\n")[0]).strip().split(None, 1)


def _linker(executable: Executable, tools: str | None) -> Executable | None:
    """The dynamic linker that a program names: this machine's, or below `tools`."""
    named = executable.interpreter
    if not named:
        return None
    if os.path.basename(named).startswith("ld-musl-"):
        raise OptionError(
            f"{executable.path}: linked to musl dynamically, which is not run; a static program is"
        )
    below = [] if tools is None else [os.path.join(os.path.abspath(tools), named.lstrip("/"))]
    found = next((path for path in (named, *below) if os.path.exists(path)), None)
    if found is None:
        raise OptionError(
            f"{executable.path}: its dynamic linker {named} is not here: give a folder with it by --tools, "
            "or a static program"
        )
    return read_executable(os.path.realpath(found))


def start(image: Image, descriptors: Sequence[int], guarded: bool) -> Emulated:
    """Start a program; `descriptors` become its standard input, output and error; for `guarded` see
    `filter.program`."""
    policy = Policy(seccomp_filter.program(guarded))
    limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], MAX_OPEN_FILES)
    ours, theirs = socket.socketpair()
    ended, alive = os.pipe()
    parent, pid = os.getpid(), fork()
    if not pid:
        _become(image, policy, descriptors, theirs.fileno(), alive, limit, parent)
    theirs.close()
    os.close(alive)
    channel = Channel(ours, PATIENCE)
    program = EmulatedProgram(channel)
    processes = EmulatedProcess(program, pid, image.linker_range, image.program.path, limit - _HIDDEN)
    return Emulated(pid, EmulatedListener(program, pid), processes, channel, ended)


def _become(
    image: Image, policy: Policy, descriptors: Sequence[int], theirs: int, alive: int, limit: int, parent: int
) -> NoReturn:
    """In the child."""
    channel = None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        end, _alive = keep_only(descriptors, (theirs, alive), limit - _HIDDEN)
        channel = Channel(socket.socket(fileno=end))
        _give_up(parent)
        EmulatedRun(image, channel, policy, limit - _HIDDEN).run()
    except BaseException as error:  # noqa: BLE001  this child must end, whatever it is
        if channel is not None:
            text = f"{image.arguments[0]}\0{type(error).__name__}: {error}"
            with contextlib.suppress(OSError):
                channel.send(Kind.NOTE, text.encode(errors="replace"))
    finally:
        os._exit(FAILED_TO_START)


def _give_up(parent: int) -> None:
    """Everything that the emulator does not need, should a program break out of it: rights, and where this
    machine has Landlock, every access to files by name."""
    die_with(parent)
    no_new_rights()
    no_capabilities()
    if landlock.version():
        with contextlib.suppress(OSError):
            landlock.restrict_self(())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
    os.chdir("/")
