"""What is odd about an executable mapping, by what /proc/PID/maps says of it."""

from __future__ import annotations

import re

from hybridbridge_vol.procfs.maps import DELETED, Mapping

_KERNELS = ("[vdso]", "[vsyscall]", "[uprobes]", "[vvar]", "[vvar_vclock]")
"""Mappings that the kernel makes and fills."""
_WRITABLE_BY_ALL = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/shm/", "/dev/mqueue/")
_SHARED = re.compile(r"/dev/zero \(deleted\)|/SYSV[0-9a-f]{8} \(deleted\)|\[anon_shmem:.*\]", re.DOTALL)
"""Shared memory without a name (mm/shmem.c `shmem_zero_setup`, ipc/shm.c `newseg`)."""


def oddities(mapping: Mapping) -> list[str]:
    """The kinds of what is odd; empty where a file explains the mapping, or the kernel made it."""
    if "x" not in mapping.permissions or mapping.path in _KERNELS:
        return []
    kinds = list(_of_origin(mapping))
    if "w" in mapping.permissions:
        kinds.append("writable")
    return kinds


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
