"""The relocation lists behind a relocatable kernel's ELF.

arch/x86/tools/relocs.c writes them, arch/x86/boot/compressed/misc.c (`handle_relocations`) reads them from the
end backwards: 32-bit sites, inverse 32-bit sites (per-CPU; gone since per-CPU addresses are not zero-based),
64-bit sites, each list ended by a 0 and each entry a sign-extended 32-bit link-time address.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from hybridbridge_vol.errors import KernelFileError

START_KERNEL_MAP = 0xFFFFFFFF80000000
_SIGN_EXTENSION = 0xFFFFFFFF00000000


@dataclass(frozen=True)
class Relocations:
    """Link-time virtual addresses (ascending) whose contents change with the load address.

    At `abs32` the low 32 bits and at `abs64` all 64 bits of an address of the kernel: add the delta. At `inverse32`
    a 32-bit distance from the kernel to something fixed: subtract it.
    """

    abs32: array[int]
    inverse32: array[int]
    abs64: array[int]


def parse_relocations(vmlinux: bytes, elf_end: int, name: str) -> Relocations:
    """Read the lists of a decompressed payload; `elf_end` is where the ELF's last segment ends in the file.

    Which lists are there is read off the data: a kernel has two or three, and the terminator of the last one read
    ends the file. KernelFileError if there are none (a kernel that was built without CONFIG_RELOCATABLE).
    """
    words = array("I")
    tail = vmlinux[elf_end + (len(vmlinux) - elf_end) % 4 :]
    words.frombytes(tail)
    lists: list[array[int]] = []
    current = array("Q")
    for word in reversed(words):
        if word == 0:
            lists.append(current)
            current = array("Q")
            if len(lists) == 3:
                break
        elif word < 0x80000000:
            break  # not an address of the kernel: the lists are over
        else:
            current.append(word | _SIGN_EXTENSION)
    lists = [array("Q", sorted(found)) for found in lists]
    if len(lists) == 3 and lists[2]:
        abs32, inverse32, abs64 = lists
    elif len(lists) >= 2 and lists[1]:
        abs32, abs64 = lists[:2]
        inverse32 = array("Q")
    else:
        raise KernelFileError(f"{name}: the kernel has no relocations (built without CONFIG_RELOCATABLE)")
    return Relocations(abs32, inverse32, abs64)
