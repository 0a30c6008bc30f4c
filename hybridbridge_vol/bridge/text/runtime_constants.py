"""Runtime constants: variables whose values the kernel writes into its own text at boot, as immediates.

From 6.11 on, `dentry_hashtable` and `d_hash_shift` are immediates of the instructions that use them
(arch/x86/include/asm/runtime-const.h): a table for each, which the linker makes, lists where they stand. In
the twin those that the policy names must be the snapshot's, like the variables that they stand for.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, Self

from hybridbridge_vol.bridge.text.twin_text import Patch
from hybridbridge_vol.kernel_file.symbols import Symbols

_ENTRY = struct.Struct("<i")  # the distance from the entry to the immediate
KINDS = {"ptr": (8, 8), "shift": (1, 4)}
"""Kinds of constants: bytes of the immediate, and of the variable."""


class StaticNumbers(Protocol):
    """Where the snapshot's variables are read; see `snapshot.virtual_memory.VirtualMemory`."""

    def static_number(self, offset: int, size: int) -> int | None:
        """A little-endian number at an offset from `_text`; None if it is absent."""


class RuntimeConstants(NamedTuple):
    """Columns of one length: offsets from `_text` of an immediate, its bytes, the offset of its variable and
    the variable's bytes."""

    sites: array[int]
    sizes: array[int]
    variables: array[int]
    variable_sizes: array[int]

    @classmethod
    def none(cls) -> Self:
        """Columns without a row."""
        return cls(array("I"), array("B"), array("I"), array("B"))

    def patches(self, snapshot: StaticNumbers) -> Iterator[Patch]:
        """The immediates as the snapshot's kernel wrote them; one whose variable is absent stays."""
        columns = zip(self.sites, self.sizes, self.variables, self.variable_sizes, strict=True)
        for site, size, variable, variable_size in columns:
            value = snapshot.static_number(variable, variable_size)
            if value is not None:
                yield site, (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def read_runtime_constants(
    flat: bytes | bytearray, symbols: Symbols, text_vaddr: int, names: Iterable[str]
) -> RuntimeConstants:
    """The sites of the variables `names`, in a kernel image `flat` that begins at `_text`.

    `symbols` are link-time virtual addresses. A variable without a table is a variable in this kernel.
    """
    found = RuntimeConstants.none()
    for name in names:
        for kind, (size, variable_size) in KINDS.items():
            start, stop = (symbols.get(f"__{end}_runtime_{kind}_{name}") for end in ("start", "stop"))
            if start is None or stop is None or name not in symbols:
                continue
            for entry in range(start - text_vaddr, stop - text_vaddr - _ENTRY.size + 1, _ENTRY.size):
                site = entry + _ENTRY.unpack_from(flat, entry)[0]
                if 0 <= site <= len(flat) - size:
                    found.sites.append(site)
                    found.sizes.append(size)
                    found.variables.append(symbols.address(name) - text_vaddr)
                    found.variable_sizes.append(variable_size)
    return found
