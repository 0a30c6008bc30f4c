"""Starting the program: a child that gives up everything it does not need, and then becomes the program.

The filter is installed last. From then on the child makes no call that would wait for the supervisor, but
execve, which is its first. The supervisor takes the filter's listener out of the child by its number, which
the child announces before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from hybridbridge_vol.child_process import die_with, fork, limit
from hybridbridge_vol.errors import HostLacks
from hybridbridge_vol.native import filter as seccomp_filter
from hybridbridge_vol.native import landlock
from hybridbridge_vol.native.abi import FIRST_WINDOW
from hybridbridge_vol.native.libc import syscall
from hybridbridge_vol.native.rights import Filter, no_capabilities, no_new_rights

_SECCOMP, _PIDFD_GETFD = 317, 438
_GET_NOTIF_SIZES = 3
_NEW_LISTENER, _WAIT_KILLABLE = 8, 32
_LISTENER_LINK = "anon_inode:seccomp notify"
_PATIENCE = 30.0
"""Seconds that the child may need until its filter stands."""
FAILED_TO_START = 127
"""The exit status of a child that could not become the program, as a shell's."""
MAX_OPEN_FILES = 4096
MAX_DATA = 8 << 30
"""Bytes of writable memory of its own that a process of the program's may have: what runs reasonably needs
less, and what takes memory without end fails in time."""


class Child(NamedTuple):
    """A started program. `pidfd` becomes readable when it has ended; `listener` is the descriptor on which
    its calls arrive."""

    pid: int
    pidfd: int
    listener: int


def lacks(what: str) -> HostLacks:
    """The error of a machine that lacks something, with the way to do without."""
    return HostLacks(f"{what}; 'hb exec --user-mode emulated' does without")


def check_host() -> None:
    """HostLacks, in one line, if this machine cannot confine a program."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise lacks("programs are run natively on Linux on x86-64 only")
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit())
    if release < (5, 14):
        raise lacks(f"Linux {os.uname().release}: running programs natively needs 5.14 or later")
    try:
        syscall("seccomp", _SECCOMP, _GET_NOTIF_SIZES, 0, bytes(6))
    except OSError as error:
        raise lacks(
            f"seccomp is not available ({error.strerror}): in a container, allow it "
            "(--security-opt seccomp=unconfined)"
        ) from None
    if not landlock.version():
        raise lacks(
            "Landlock is not available, and nothing is run without it: add 'landlock' to the kernel's "
            "lsm= parameter, or in a container allow its system calls"
        )


def start(
    path: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    descriptors: Sequence[int],
    executable: Sequence[str],
    guarded: bool = False,
) -> Child:
    """Start the program `path`, confined; `descriptors` become its standard input, output and error,
    `executable` is what it may execute; for `guarded` see `filter.program`. HostLacks if that cannot be
    done here."""
    reading, low = os.pipe()
    writing = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(low)
    parent, pid = os.getpid(), fork()
    if not pid:
        os.close(reading)
        program = seccomp_filter.program(guarded)
        _become(path, arguments, environment, descriptors, executable, writing, program, parent)
    os.close(writing)
    pidfd = os.pidfd_open(pid)
    try:
        announced = os.read(reading, 4)
        if len(announced) != 4:
            raise HostLacks(os.read(reading, 4096).decode(errors="replace") or "the program did not start")
        return Child(pid, pidfd, _take_listener(pidfd, struct.unpack("<i", announced)[0], reading))
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
        raise
    finally:
        os.close(reading)


def take_descriptor(pidfd: int, number: int) -> int:
    """A copy of another process's descriptor (pidfd_getfd(2)). OSError."""
    return syscall("pidfd_getfd", _PIDFD_GETFD, pidfd, number, 0)


def _take_listener(pidfd: int, number: int, failure: int) -> int:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            listener = take_descriptor(pidfd, number)
            if os.readlink(f"/proc/self/fd/{listener}") == _LISTENER_LINK:
                os.set_inheritable(listener, False)
                return listener
            os.close(listener)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOSYS):
                raise lacks(
                    "pidfd_getfd is not permitted: in a container add '--cap-add SYS_PTRACE', elsewhere set "
                    "kernel.yama.ptrace_scope to 0 or 1"
                ) from None
        if select.select([failure], [], [], 0.0005)[0]:
            text = os.read(failure, 4096).decode(errors="replace")
            raise HostLacks(text or "the program ended before it was confined")
        if time.monotonic() > end:
            raise HostLacks("the program was not confined in time")


def _become(
    path: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    descriptors: Sequence[int],
    executable: Sequence[str],
    announce: int,
    program: bytes,
    parent: int,
) -> NoReturn:
    """In the child. What goes wrong is written to `announce`, which closes when the program runs."""
    try:
        (announce,) = keep_only(descriptors, (announce,))
        try:
            _confine(executable, program, announce, parent)
        except OSError as error:
            reason = f"{error.filename or 'limits'}: {error.strerror}"
            raise lacks(
                f"a program cannot be confined here ({reason}){_HELP.get(error.errno or 0, '')}"
            ) from None
        _execute(path, arguments, environment)
    except BaseException as error:  # noqa: BLE001  this child must end, whatever it is
        os.write(announce, str(error).encode()[:4000])
    finally:
        os._exit(FAILED_TO_START)


def _execute(path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Returns if it cannot, with the reason on standard error: the supervisor is asked already."""
    try:
        os.execve(path, list(arguments), dict(environment))
    except OSError as error:
        os.write(2, f"{arguments[0]}: {error.strerror}\n".encode())


_HELP = {
    errno.EPERM: "; in a container, allow seccomp and Landlock (--security-opt seccomp=unconfined)",
    errno.EBUSY: "; whoever started this process listens to its system calls already, and one only can",
}


def _confine(executable: Sequence[str], program: bytes, announce: int, parent: int) -> None:
    """OSError with the call that failed."""
    hard = max(min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], MAX_OPEN_FILES), FIRST_WINDOW)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * 1024), hard))
    limit(resource.RLIMIT_DATA, MAX_DATA)
    die_with(parent)
    no_new_rights()
    no_capabilities()
    landlock.restrict_self(executable)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGQUIT, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    decides = Filter(program)
    listener = os.dup(0)  # the number that the listener gets, being the lowest that is free
    os.close(listener)
    os.write(announce, struct.pack("<i", listener))
    _install(decides)


def keep_only(descriptors: Sequence[int], others: Sequence[int], first: int = 3) -> list[int]:
    """Nothing of the supervisor's stays open in this process but the program's descriptors, from 0 on, and
    `others`, which get new numbers from `first` on."""
    kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(descriptors)) for fd in descriptors]
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(first, len(descriptors))) for fd in others]
    for number, fd in enumerate(kept):
        os.dup2(fd, number, inheritable=True)
    for name in os.listdir("/proc/self/fd"):
        if int(name) >= len(descriptors) and int(name) not in moved:
            _close(int(name))
    os.chdir("/")
    return moved


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)


def _install(decides: Filter) -> None:
    try:
        decides.install(_NEW_LISTENER | _WAIT_KILLABLE)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 5.19
            raise
        decides.install(_NEW_LISTENER)
