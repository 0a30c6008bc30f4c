"""The program's memory: mmap(2) and its like."""

from __future__ import annotations

import errno
import os

from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.emulated.address_space import (
    MAX_MEMORY,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    AddressSpace,
)
from hybridbridge_vol.native.emulated.local import Arguments, Descriptors, Handler, answers
from hybridbridge_vol.units import PAGE_SIZE

_SHARED, _TYPE, _FIXED, _ANONYMOUS, _LOW, _NO_REPLACE = 1, 3, 0x10, 0x20, 0x40, 0x100000
"""MAP_*, include/uapi/asm-generic/mman-common.h; MAP_32BIT of x86."""
_LOW_END = 0x8000_0000
_MAY_MOVE, _MOVE_FIXED = 1, 2  # MREMAP_*
_DONT_NEED, _FREE = 4, 8  # MADV_*
_PROTECTIONS = PROT_READ | PROT_WRITE | PROT_EXEC


class MemoryCalls:
    """`handlers`: by the name of the system call. `break_vaddr`: where the heap begins."""

    def __init__(self, space: AddressSpace, descriptors: Descriptors, break_vaddr: int) -> None:
        self._space = space
        self._descriptors = descriptors
        self._first_break = self._break = break_vaddr
        self.handlers: dict[str, Handler] = {
            "brk": self._brk,
            "mmap": self._mmap,
            "munmap": self._munmap,
            "mprotect": self._mprotect,
            "mremap": self._mremap,
            "madvise": self._madvise,
            "msync": answers(0),
            "mlock": answers(0),
            "mlock2": answers(0),
            "munlock": answers(0),
            "mlockall": answers(0),
            "munlockall": answers(0),
        }

    @property
    def heap(self) -> range:
        """What brk(2) has given."""
        return range(self._first_break, page_up(self._break))

    def _brk(self, given: Arguments) -> int:
        wanted, old = given[0], page_up(self._break)
        if not self._first_break <= wanted < self._first_break + MAX_MEMORY:
            return self._break
        new = page_up(wanted)
        if new > old:
            if not self._space.is_free(old, new - old):
                return self._break
            try:
                self._space.map(old, new - old, PROT_READ | PROT_WRITE)
            except OSError:
                return self._break
        elif new < old:
            self._space.unmap(new, old - new)
        self._break = wanted
        return wanted

    def _mmap(self, given: Arguments) -> int:
        vaddr, length, protection, flags, number, offset = given
        size = _size(length)
        if offset % PAGE_SIZE or not flags & _TYPE:
            raise failed(errno.EINVAL)
        protection &= _PROTECTIONS
        content = b""
        if not flags & _ANONYMOUS:
            if flags & _TYPE != 2 and protection & PROT_WRITE:
                raise failed(errno.ENODEV)  # what is written would have to reach the file
            content = os.pread(self._descriptors.number(number), min(length, size), offset)
        place = self._place(vaddr, size, flags)
        self._space.map(place, size, protection)
        self._space.fill(place, content)
        return place

    def _place(self, vaddr: int, size: int, flags: int) -> int:
        if flags & (_FIXED | _NO_REPLACE):
            if vaddr % PAGE_SIZE:
                raise failed(errno.EINVAL)
            if flags & _NO_REPLACE and not self._space.is_free(vaddr, size):
                raise failed(errno.EEXIST)
            return vaddr
        hint = vaddr & -PAGE_SIZE
        if hint and self._space.is_free(hint, size):
            return hint
        return self._space.find_free(size, _LOW_END) if flags & _LOW else self._space.find_free(size)

    def _munmap(self, given: Arguments) -> int:
        if given[0] % PAGE_SIZE:
            raise failed(errno.EINVAL)
        self._space.unmap(given[0], _size(given[1]))
        return 0

    def _mprotect(self, given: Arguments) -> int:
        if given[0] % PAGE_SIZE:
            raise failed(errno.EINVAL)
        if given[1]:
            self._space.protect(given[0], _size(given[1]), given[2] & _PROTECTIONS)
        return 0

    def _mremap(self, given: Arguments) -> int:
        vaddr, flags = given[0], given[3]
        old, new = _size(given[1]), _size(given[2])
        if vaddr % PAGE_SIZE or flags & ~_MAY_MOVE:  # MREMAP_FIXED, MREMAP_DONTUNMAP
            raise failed(errno.EINVAL)
        if self._space.extent(vaddr, old) != old:
            raise failed(errno.EFAULT)
        if new <= old:
            self._space.unmap(vaddr + new, old - new)
            return vaddr
        protection = next(area.protection for area in self._space if area.start <= vaddr < area.end)
        if self._space.is_free(vaddr + old, new - old):
            self._space.map(vaddr + old, new - old, protection)
            return vaddr
        if not flags & _MAY_MOVE:
            raise failed(errno.ENOMEM)
        place = self._space.find_free(new)
        self._space.map(place, new, protection)
        self._space.move(vaddr, old, place)
        return place

    def _madvise(self, given: Arguments) -> int:
        vaddr, size, advice = given[0], page_up(given[1]), given[2]
        if vaddr % PAGE_SIZE:
            raise failed(errno.EINVAL)
        if self._space.extent(vaddr, size) != size:
            raise failed(errno.ENOMEM)
        if advice in (_DONT_NEED, _FREE):
            self._space.clear(vaddr, size)
        return 0


def _size(length: int) -> int:
    """In whole pages. OSError EINVAL, ENOMEM."""
    if not length:
        raise failed(errno.EINVAL)
    if length > MAX_MEMORY:
        raise failed(errno.ENOMEM)
    return page_up(length)
