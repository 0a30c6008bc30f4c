"""A program and its dynamic linker in memory, with the stack that they begin on, as execve(2) leaves them
(fs/binfmt_elf.c)."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.native.emulated.address_space import (
    MAPPINGS_END,
    PROT_READ,
    PROT_WRITE,
    STACK_SIZE,
    TOP,
    AddressSpace,
)
from hybridbridge_vol.native.emulated.elf import Executable
from hybridbridge_vol.units import PAGE_SIZE

PROGRAM_BASE = 0x5555_5555_4000
"""Where a movable program lies: ELF_ET_DYN_BASE, two thirds of the addresses."""
_AT_PHDR, _AT_PHENT, _AT_PHNUM, _AT_PAGESZ, _AT_BASE, _AT_FLAGS, _AT_ENTRY = 3, 4, 5, 6, 7, 8, 9
_AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_PLATFORM, _AT_HWCAP, _AT_CLKTCK = 11, 12, 13, 14, 15, 16, 17
_AT_SECURE, _AT_RANDOM, _AT_EXECFN = 23, 25, 31  # include/uapi/linux/auxvec.h
_HEADER_SIZE, _TICKS = 56, 100
_PLATFORM = b"x86_64\0"


class Image(NamedTuple):
    """What is loaded, and how it is started: by its dynamic linker `linker`, if it has one."""

    program: Executable
    linker: Executable | None
    name: str
    """The path by which the program is started, as AT_EXECFN has it."""
    arguments: Sequence[str]
    environment: Mapping[str, str]

    @property
    def program_base(self) -> int:
        return PROGRAM_BASE if self.program.is_movable else 0

    @property
    def linker_base(self) -> int:
        """The dynamic linker is the highest mapping."""
        return 0 if self.linker is None else MAPPINGS_END - self.linker.span.stop & -PAGE_SIZE

    @property
    def linker_range(self) -> range:
        """Where the dynamic linker lies; none if there is none."""
        if self.linker is None:
            return range(0)
        return range(self.linker_base + self.linker.span.start, self.linker_base + self.linker.span.stop)


class Started(NamedTuple):
    """Addresses that the program begins with. `auxiliary_vector` as /proc/PID/auxv has it."""

    entry: int
    stack: int
    break_vaddr: int
    auxiliary_vector: bytes


def load(space: AddressSpace, image: Image, capabilities: int) -> Started:
    """Load a program. `capabilities` are AT_HWCAP's. OSError if it does not fit."""
    _map(space, image.program, image.program_base)
    if image.linker is not None:
        _map(space, image.linker, image.linker_base)
    vector = {
        _AT_HWCAP: capabilities,
        _AT_PAGESZ: PAGE_SIZE,
        _AT_CLKTCK: _TICKS,
        _AT_PHDR: image.program_base + image.program.headers_vaddr,
        _AT_PHENT: _HEADER_SIZE,
        _AT_PHNUM: image.program.header_count,
        _AT_BASE: image.linker_base,
        _AT_FLAGS: 0,
        _AT_ENTRY: image.program_base + image.program.entry,
        **dict.fromkeys((_AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_SECURE), 0),
    }
    stack, content, full = initial_stack(image, vector, os.urandom(16))
    space.map(TOP - STACK_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE)
    space.fill(stack, content)
    first = image.program if image.linker is None else image.linker
    base = image.program_base if image.linker is None else image.linker_base
    return Started(base + first.entry, stack, image.program_base + image.program.span.stop, full)


def _map(space: AddressSpace, executable: Executable, base: int) -> None:
    for segment in executable.segments:
        start = base + segment.vaddr & -PAGE_SIZE
        size = page_up(base + segment.vaddr + segment.size) - start
        if space.extent(start, PAGE_SIZE):  # two segments share a page
            shared, start = start, start + PAGE_SIZE
            space.protect(shared, PAGE_SIZE, PROT_READ | PROT_WRITE | segment.protection)
            size -= PAGE_SIZE
        if size:
            space.map(start, size, segment.protection)
        space.fill(base + segment.vaddr, segment.content)


def initial_stack(
    image: Image, vector: Mapping[int, int], random: bytes, top: int = TOP
) -> tuple[int, bytes, bytes]:
    """The stack pointer, the bytes from there to `top`, and the whole auxiliary vector: number of arguments,
    arguments, variables, the vector, and the texts that they point to (psABI, "Initial Stack")."""
    arguments = [os.fsencode(text) + b"\0" for text in image.arguments]
    variables = [os.fsencode(f"{name}={value}") + b"\0" for name, value in image.environment.items()]
    texts = [*arguments, *variables, os.fsencode(image.name) + b"\0", _PLATFORM, random]
    if sum(map(len, texts)) > STACK_SIZE // 4:  # as fs/exec.c has it
        raise OSError(7, "Argument list too long")
    places, at = [], top - 8
    for text in texts:
        at -= len(text)
        places.append(at)
    count = len(arguments)
    pairs = [
        *vector.items(),
        (_AT_EXECFN, places[-3]),
        (_AT_PLATFORM, places[-2]),
        (_AT_RANDOM, places[-1]),
        (0, 0),
    ]
    full = b"".join(struct.pack("<QQ", *pair) for pair in pairs)
    pointers = [count, *places[:count], 0, *places[count : count + len(variables)], 0]
    table = struct.pack(f"<{len(pointers)}Q", *pointers) + full
    pointer = at - len(table) & ~15
    content = bytearray(top - pointer)
    content[: len(table)] = table
    for place, text in zip(places, texts, strict=True):
        content[place - pointer : place - pointer + len(text)] = text
    return pointer, bytes(content), full
