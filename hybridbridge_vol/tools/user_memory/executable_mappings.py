"""What is odd about an executable mapping, by what /proc/PID/maps says of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from hybridbridge_vol.procfs.maps import DELETED, Mapping

_KERNELS = ("[vdso]", "[vsyscall]", "[uprobes]", "[vvar]", "[vvar_vclock]")
"""Mappings that the kernel makes and fills."""
_WRITABLE_BY_ALL = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/shm/", "/dev/mqueue/")
_ZEROS = "/dev/zero"
"""What is mapped of it privately is memory of the process's own (drivers/char/mem.c, `mmap_zero`)."""
_SHARED = re.compile(r"/dev/zero \(deleted\)|/SYSV[0-9a-f]{8} \(deleted\)|\[anon_shmem:.*\]", re.DOTALL)
"""Shared memory without a name (mm/shmem.c `shmem_zero_setup`, ipc/shm.c `newseg`)."""


def oddities(at: int, mappings: Sequence[Mapping]) -> list[str]:
    """The kinds of what is odd about one of a process's mappings, by its place among all; empty where a file
    explains it, or the kernel made it."""
    mapping = mappings[at]
    if "x" not in mapping.permissions or mapping.path in _KERNELS:
        return []
    kinds = ["stack"] if _is_cut_off_stack(at, mappings) else _of_origin(mapping)
    if "w" in mapping.permissions:
        kinds.append("writable")
    return kinds


def _is_cut_off_stack(at: int, mappings: Sequence[Mapping]) -> bool:
    """Whether it was the stack's before mprotect(2) split it: one part keeps the name, which part depends on
    the kernel (fs/proc/task_mmu.c, `is_stack`, `vma_is_initial_stack`)."""
    if mappings[at].path:
        return False
    return any(
        _leads_to_stack(map(mappings.__getitem__, places))
        for places in (range(at, len(mappings)), range(at, -1, -1))
    )


def _leads_to_stack(chain: Iterable[Mapping]) -> bool:
    """Whether mappings without a file and without a gap lead from the first of them to the stack."""
    for before, item in pairwise(chain):
        touch = before.end_vaddr == item.start_vaddr or item.end_vaddr == before.start_vaddr
        if not touch or item.inode or item.path not in ("", "[stack]"):
            return False
        if item.path:
            return True
    return False


def _of_origin(mapping: Mapping) -> list[str]:
    path = mapping.path
    if path.startswith("/memfd:"):
        return ["memfd"]
    if path.startswith("[stack"):
        return ["stack"]
    if path == "[heap]":
        return ["heap"]
    if not mapping.inode or _SHARED.fullmatch(path) or path == _ZEROS:
        return ["anonymous"]
    kinds = ["deleted"] if path.endswith(DELETED) else []
    if path.startswith(_WRITABLE_BY_ALL):
        kinds.append("temporary")
    return kinds
