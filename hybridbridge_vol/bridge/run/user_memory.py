"""The proxy task's user memory: paths and buffers of its system calls."""

from __future__ import annotations

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.physical_map import USER_PADDR
from hybridbridge_vol.bridge.text.copy_log import LOG_SIZE, LOG_VADDR
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import ACCESSED, LARGE_SHIFT, NO_EXECUTE, USER, WRITABLE
from hybridbridge_vol.trust.placement import random_below

USER_AREA = 32 << 20
"""Bytes of address space for all that is the proxy task's own: this memory, and that of programs."""
_LOWEST, _HIGHEST = 1 << 40, 1 << 46


def _drawn() -> int:
    """An address that the author of an image does not know: a pointer of the image's could be led there,
    where former answers lie. An area does not cross an edge of 1 GiB."""
    areas = (_HIGHEST - _LOWEST) // USER_AREA
    return _LOWEST + random_below(areas) * USER_AREA


USER_VADDR = _drawn()
LOG_AT = 4 << 20
"""Where the log of copies begins: behind the buffers."""
USER_SIZE = LOG_AT + LOG_SIZE
USER_PADDRS = range(USER_PADDR, USER_PADDR + USER_SIZE)
"""Where it is in guest-physical memory."""


class UserMemory:
    """`USER_SIZE` bytes at `USER_VADDR`. It is not rolled back with a call. The head of the log is seen at
    `LOG_VADDR` too."""

    def __init__(self, bridge: Bridge) -> None:
        self._mapping = HostMapping.anonymous(USER_SIZE)
        bridge.machine.place(USER_PADDR, self._mapping)
        for offset in range(0, USER_SIZE, 1 << LARGE_SHIFT):
            flags = WRITABLE | USER | ACCESSED | NO_EXECUTE
            bridge.space.builder.map_page(USER_VADDR + offset, USER_PADDR + offset, flags, LARGE_SHIFT)
        bridge.space.builder.map_page(LOG_VADDR, USER_PADDR + LOG_AT, flags)

    def put(self, data: bytes, offset: int) -> int:
        """Store bytes at an offset; their virtual address. ValueError if they do not fit."""
        if not 0 <= offset <= USER_SIZE - len(data):
            raise ValueError(f"{len(data)} bytes do not fit into user memory at {offset:#x}")
        self._mapping.view[offset : offset + len(data)] = data
        return USER_VADDR + offset

    def get(self, offset: int, size: int) -> bytes:
        """Bytes at an offset."""
        return bytes(self._mapping.view[offset : offset + size])
