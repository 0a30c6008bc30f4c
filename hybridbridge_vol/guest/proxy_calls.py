"""System calls of the proxy task and calls of kernel functions: the primitives that every facility of a
session is made of.

The proxy task (the trusted kernel's own process) has a few MiB of user memory: paths stand at its beginning,
and one buffer for everything else behind them. A call overwrites what the one before left there.
"""

from __future__ import annotations

import errno
import os
from functools import cached_property

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.run.caller import Caller, Generation
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.run.program import ProgramMemory
from hybridbridge_vol.bridge.run.user_memory import LOG_AT
from hybridbridge_vol.errors import kernel_error
from hybridbridge_vol.guest import magic_links
from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.guest.answer_labels import AnswerLabels
from hybridbridge_vol.guest.endless import Patience
from hybridbridge_vol.units import U64

_PATH_AT = 0
PATH_SIZE = 4096
"""PATH_MAX, include/uapi/linux/limits.h."""
BUFFER_AT = 64 << 10
BUFFER_SIZE = LOG_AT - BUFFER_AT
_NETLINK_TABLE = "/net/netlink"
"""Below /proc, /proc/PID and /proc/PID/task/TID."""
AT_FDCWD = -100 & U64
"""include/uapi/linux/fcntl.h."""


class ProxyCalls:
    """System calls on either side, kernel functions by name, and the buffers of both."""

    def __init__(self, caller: Caller, labels: AnswerLabels) -> None:
        self.caller = caller
        self.labels = labels
        self.patience = Patience(self.under_taint)
        self.own_sockets_since: Generation | None = None
        """The generation in which netlink sockets of ours were last opened: they stand among the
        snapshot's."""

    @cached_property
    def program_memory(self) -> ProgramMemory:
        """The memory for programs of several calls."""
        return ProgramMemory(self.caller)

    @property
    def bridge(self) -> Bridge:
        return self.caller.bridge

    @property
    def under_taint(self) -> bool:
        """Whether every call is run by SLOW-BRIDGE, where each byte of an answer has a label of its own."""
        return self.caller.hybrid.mode is Mode.SLOW

    def raw(self, name: str, *arguments: int, side: str = "home", label: str = "") -> int:
        """Make a system call; what it returns, a negative errno included. CallRolledBack; BootError if the
        kernel has no such call.

        `side` is "home" or "twin": the trusted kernel's function or its copy on the snapshot's side, which
        works on the kernel's own variables. `label` names the call in messages and statistics.
        """
        return self.caller.syscall(name, *arguments, side=side, label=label or name)

    def checked(self, source: str, name: str, *arguments: int, side: str = "home") -> int:
        """The same for an answer about `source` (a path, or the call itself): an errno is raised as an
        OSError that names it."""
        answer = self.raw(name, *arguments, side=side, label=f"{name} {source}" if source != name else name)
        if answer < 0:
            raise magic_links.error_of(source, -answer, self.bridge.state.is_booting)
        return answer

    def show_no_own_sockets(self, path: str) -> None:
        """Before a file is opened: if it lists netlink sockets, go back to before ours were there."""
        if path.endswith(_NETLINK_TABLE) and self.own_sockets_since == self.caller.generation:
            self.caller.roll_back()

    def function(self, name: str, *arguments: int) -> int:
        """Call a function of the snapshot's kernel by its symbol; what it returns, as a signed number.
        KeyError if there is no such function; CallRolledBack."""
        return self.caller.call(self.bridge.snapshot(name), *arguments, label=name)

    def install(self, file_vaddr: int, source: str) -> int:
        """Make a `struct file` a descriptor of the proxy task's; its number. OSError that names `source`;
        KeyError if the kernel has no such functions; CallRolledBack."""
        call, home = self.caller.call, self.bridge.home
        number = signed32(call(home("get_unused_fd_flags"), 0, label="get_unused_fd_flags"))
        if number < 0:
            raise kernel_error(number, source)
        call(home("fd_install"), number, file_vaddr, label="fd_install")
        return number

    def put_path(self, path: str) -> int:
        """Store a path; its virtual address. OSError if it cannot be one."""
        encoded = os.fsencode(path)
        if len(encoded) >= PATH_SIZE or b"\0" in encoded:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        return self.caller.put(encoded + b"\0", _PATH_AT)

    def buffer(self, content: bytes = b"") -> int:
        """The virtual address of the buffer, which begins with `content`."""
        return self.caller.put(content, BUFFER_AT)

    def answer(self, source: str, size: int, more: bool = False) -> bytes:
        """What a call left in the buffer. Its labels are kept under `source`; with `more` they are added to
        those that are there."""
        self.labels.keep(source, BUFFER_AT, size, more)
        return self.caller.get(BUFFER_AT, size)
