"""What is odd about an executable mapping, by what /proc/PID/maps says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hybridbridge_vol.procfs.maps import DELETED, Mapping

_KERNELS = ("[vdso]", "[vsyscall]", "[uprobes]", "[vvar]", "[vvar_vclock]")
"""Mappings that the kernel makes and fills."""
_WRITABLE_BY_ALL = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/shm/", "/dev/mqueue/")
_SHARED = re.compile(r"/dev/zero \(deleted\)|/SYSV[0-9a-f]{8} \(deleted\)|\[anon_shmem:.*\]", re.DOTALL)
"""Shared memory without a name (mm/shmem.c `shmem_zero_setup`, ipc/shm.c `newseg`)."""


def oddities(mapping: Mapping, mappings: Sequence[Mapping]) -> list[str]:
    """The kinds of what is odd; empty where a file explains the mapping, or the kernel made it. `mappings`
    are all of the process."""
    if "x" not in mapping.permissions or mapping.path in _KERNELS:
        return []
    kinds = ["stack"] if _is_cut_off_stack(mapping, mappings) else _of_origin(mapping)
    if "w" in mapping.permissions:
        kinds.append("writable")
    return kinds


def _is_cut_off_stack(mapping: Mapping, mappings: Sequence[Mapping]) -> bool:
    """Whether it was the stack's before mprotect(2) split it: one part keeps the name, which part depends on
    the kernel (fs/proc/task_mmu.c, `is_stack`, `vma_is_initial_stack`)."""
    if mapping.path:
        return False
    start = end = -1
    for item in mappings:
        if item.inode or (item.path and not item.path.startswith("[stack")) or item.start_vaddr != end:
            start = item.start_vaddr
        end = item.end_vaddr
        if item.path.startswith("[stack"):
            break
    else:
        return False
    after = [item for item in mappings if item.start_vaddr >= start]
    for item, following in zip(after, [*after[1:], None], strict=True):
        if item is mapping:
            return True
        if (
            following is None
            or following.start_vaddr != item.end_vaddr
            or following.path not in ("", "[stack]")
        ):
            return False
    return False


def _of_origin(mapping: Mapping) -> list[str]:
    path = mapping.path
    if path.startswith("/memfd:"):
        return ["memfd"]
    if path.startswith("[stack"):
        return ["stack"]
    if path == "[heap]":
        return ["heap"]
    if not mapping.inode or _SHARED.fullmatch(path):
        return ["anonymous"]
    kinds = ["deleted"] if path.endswith(DELETED) else []
    if path.startswith(_WRITABLE_BY_ALL):
        kinds.append("temporary")
    return kinds
