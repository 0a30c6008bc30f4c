"""bpf(2) on the twin side (kernel/bpf/syscall.c): its commands, and descriptors of the snapshot's objects.

A descriptor takes a reference, on copy-on-write pages; no program is run, and no map is changed.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Iterator

from hybridbridge_vol.bpf.objects import BTF, LINK, MAP, PROG
from hybridbridge_vol.errors import BootError, CallRolledBack, kernel_error
from hybridbridge_vol.guest.proxy_calls import BUFFER_AT, BUFFER_SIZE, ProxyCalls

LOOKUP, NEXT_KEY, OBJ_GET, GET_INFO, PROG_QUERY, TASK_QUERY = 1, 4, 7, 15, 16, 20
NEXT_ID = {PROG: 11, MAP: 12, LINK: 31, BTF: 23}
BY_ID = {PROG: 13, MAP: 14, LINK: 30, BTF: 19}
"""Commands: include/uapi/linux/bpf.h, enum bpf_cmd."""
ATTR_SIZE = 128
"""Bytes of `union bpf_attr` that are handed over: it stands at the beginning of the proxy's buffer."""
LARGE_AT = BUFFER_AT + (64 << 10)
LARGEST = BUFFER_SIZE - (64 << 10)
"""Where arrays that a command fills in may stand, and how many bytes they may have together."""


class BpfCommands:
    """Makes the calls. All methods raise OSError with the kernel's errno (ENOSYS where the kernel has no such
    call), or CallRolledBack."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy

    @contextlib.contextmanager
    def opened(self, kind: str, number: int) -> Iterator[int]:
        """The proxy task's descriptor of an object by its id, closed afterwards."""
        fd = self.open(kind, number)
        try:
            yield fd
        finally:
            with contextlib.suppress(CallRolledBack):
                self._proxy.raw("close", fd)

    def open(self, kind: str, number: int) -> int:
        """The same, which the caller closes."""
        self._proxy.buffer(struct.pack("<I", number).ljust(ATTR_SIZE, b"\0"))
        return self.call(BY_ID[kind], f"bpf {kind} {number}")

    def command(self, number: int, attributes: bytes, source: str = "bpf") -> bytes:
        """`union bpf_attr` after the command."""
        self._proxy.buffer(attributes.ljust(ATTR_SIZE, b"\0"))
        self.call(number, source)
        return self._proxy.caller.get(BUFFER_AT, ATTR_SIZE)

    def call(self, number: int, source: str) -> int:
        """What a command returns; its attributes are in the buffer."""
        vaddr = self._proxy.buffer()
        try:
            answer = self._proxy.raw("bpf", number, vaddr, ATTR_SIZE, side="twin", label=f"bpf {number}")
        except BootError as error:
            raise OSError(errno.ENOSYS, str(error), source) from None
        if answer < 0:
            raise kernel_error(answer, source)
        return answer
