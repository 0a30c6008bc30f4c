"""Whether a process still runs the program that /proc/PID/exe names: where its entry point lies."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hybridbridge_vol.procfs.maps import Mapping
from hybridbridge_vol.units import PAGE_SIZE

_AT_NULL, _AT_PAGESZ, _AT_ENTRY = 0, 6, 9
"""include/uapi/linux/auxvec.h."""


def entry_point(auxv: bytes) -> int | None:
    """AT_ENTRY in /proc/PID/auxv, the entry point of the program that execve(2) loaded: the kernel's own
    copy, which a process changes by prctl(2) only. None where there is none. A 32-bit program's words are of
    32 bits."""
    for form, size in (("<QQ", 16), ("<II", 8)):
        pairs = dict(struct.iter_unpack(form, auxv[: len(auxv) // size * size]))
        if pairs.get(_AT_PAGESZ) == PAGE_SIZE:
            return pairs.get(_AT_ENTRY)
    return None


def replaced(exe: str, entry_vaddr: int, mappings: Sequence[Mapping]) -> tuple[Mapping | None, str]:
    """The mapping in which the entry point lies, and how that belies the program (empty if it does not)."""
    own = {mapping.inode for mapping in mappings if mapping.path == exe and mapping.inode}
    found = next((item for item in mappings if item.start_vaddr <= entry_vaddr < item.end_vaddr), None)
    if found is None:
        return None, f"nothing is mapped at the entry point {entry_vaddr:#x} of {exe}"
    if found.inode and (found.path == exe or found.inode in own):
        return found, ""
    where = found.path or "anonymous memory"
    return found, f"the entry point {entry_vaddr:#x} of {exe} lies in {where}"
