"""Where a `struct file` has its position, flags and inode, and that its locks: found by value in the trusted
kernel, so that no debug information is needed.

A file of the trusted kernel's own is opened with flags, set to a position and locked, and the words of its
memory that say so are looked for. LookupError where a field cannot be told for sure.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

from hybridbridge_vol.bridge.run.descriptor_loop import FileFields, OwnDescriptor
from hybridbridge_vol.guest.proxy_calls import AT_FDCWD, ProxyCalls
from hybridbridge_vol.kernel_file.struct_sizes import WITH_CHECKED_LOCKS, StructSizes, in_usual_or_larger
from hybridbridge_vol.machine.words import read_mapped, read_words
from hybridbridge_vol.units import U64

_PATH = "/init"
"""In the trusted kernel's initramfs (trust/boot.py, `initramfs`)."""
_OPEN_FLAGS = 0o1004000
"""O_NOATIME and O_NONBLOCK, include/uapi/asm-generic/fcntl.h: hardly another word is like that."""
_F_GETFL, _SEEK_SET, _LOCK_EX, _LOCK_NB = 3, 0, 2, 4
_POSITION = 0x2B_5C7E_913D
"""Bytes: as unlikely, and allowed in every file system."""
_LOCK_SIZE = 256
"""Bytes of a struct file_lock before or behind its list entry."""
_TASK_SIZE = 16384
"""Of a `task_struct`; real ones have up to ten thousand."""
_FILES_SIZE = 1024
"""Of a `struct files_struct`, with its first 64 pointers to files (include/linux/fdtable.h)."""


def open_own(proxy: ProxyCalls) -> OwnDescriptor:
    """Open a file of the trusted kernel's as a descriptor of the proxy task's. LookupError, OSError,
    CallRolledBack, UnmappedVirtual, KeyError if the kernel has no `fget`."""
    number = proxy.checked(_PATH, "openat", AT_FDCWD, proxy.put_path(_PATH), _OPEN_FLAGS, 0)
    file = proxy.caller.call(proxy.bridge.home("fget"), number, label="fget") & U64
    slots = [slot for slot in _pointers_to(proxy, file) if _is_slot(proxy, number, slot, file)]
    if len(slots) != 1:
        raise LookupError("the proxy task's table of open files was not found")
    return OwnDescriptor(number, slots[0], file)


def find_fields(proxy: ProxyCalls, own: OwnDescriptor) -> FileFields:
    """The fields, found by a descriptor that is otherwise unused. It is locked afterwards. Raises as
    `open_own`."""
    position = proxy.checked(_PATH, "lseek", own.number, _POSITION, _SEEK_SET)
    flags = proxy.checked(_PATH, "fcntl", own.number, _F_GETFL, 0)
    machine, largest = proxy.bridge.machine, WITH_CHECKED_LOCKS
    content = read_mapped(machine, own.file_vaddr, largest.file)
    targets = _pointers(proxy, content)
    before = [read_words(machine, vaddr, largest.inode) for vaddr in targets.values()]
    proxy.checked(_PATH, "flock", own.number, _LOCK_EX | _LOCK_NB)
    after = [read_words(machine, vaddr, largest.inode) for vaddr in targets.values()]
    locks = [
        (offset, 8 * number, new)
        for offset, old_words, new_words in zip(targets, before, after, strict=True)
        for number, (old, new) in enumerate(zip(old_words, new_words, strict=False))
        if old == 0 and new in proxy.bridge.boot.layout
    ]

    def fields(sizes: StructSizes) -> FileFields:
        file = content[: sizes.file]
        found = [
            (inode, place)
            for inode, place, context in locks
            if inode < sizes.file
            and place < sizes.inode
            and _has_lock_of(proxy, context, own.file_vaddr, sizes.lock_context)
        ]
        return FileFields(
            _only("f_pos", _places(file, "<q", position)),
            _only("f_flags", _places(file, "<I", flags)),
            _only("f_inode", [inode for inode, _place in found]),
            _only("i_flctx", [place for _inode, place in found]),
        )

    return in_usual_or_larger(fields, LookupError)


def _has_lock_of(proxy: ProxyCalls, context: int, file: int, size: int) -> bool:
    """Whether a virtual address is that of a struct file_lock_context of `size` bytes, one of whose lists has
    a lock of the file (fs/locks.c): what is allocated for the lock changes other memory, too, which pointers
    lead to."""
    machine = proxy.bridge.machine
    heads = _pointers(proxy, read_mapped(machine, context, size))
    return any(
        file in read_words(machine, entry - _LOCK_SIZE, 2 * _LOCK_SIZE)
        for entry in heads.values()
        if entry % 8 == 0 and not context <= entry < context + size
    )


def _only(name: str, places: Sequence[int]) -> int:
    if len(places) != 1:
        raise LookupError(f"{name} was found {len(places)} times")
    return places[0]


def _places(content: bytes, form: str, value: int) -> list[int]:
    """Offsets of a number in `content`, aligned."""
    wanted = struct.pack(form, value)
    return [at for at in range(0, len(content), len(wanted)) if content[at : at + len(wanted)] == wanted]


def _pointers(proxy: ProxyCalls, content: bytes) -> dict[int, int]:
    """The words of a structure that lead to other memory of the trusted kernel's, by their offsets."""
    layout = proxy.bridge.boot.layout
    words = struct.unpack(f"<{len(content) // 8}Q", content)
    return {8 * number: word for number, word in enumerate(words) if word in layout}


def _pointers_to(proxy: ProxyCalls, file: int) -> set[int]:
    """Where the structures that the proxy task points to have a pointer to `file`."""
    task = read_mapped(proxy.bridge.machine, proxy.bridge.prepared.proxy_task.task, _TASK_SIZE)
    found = set()
    for vaddr in set(_pointers(proxy, task).values()):
        words = read_words(proxy.bridge.machine, vaddr, _FILES_SIZE)
        found |= {vaddr + 8 * number for number, word in enumerate(words) if word == file}
    return found


def _is_slot(proxy: ProxyCalls, number: int, slot: int, file: int) -> bool:
    """Whether the descriptor leads nowhere while this pointer to the file is 0."""
    machine = proxy.bridge.machine
    machine.write_u64(slot, 0)
    try:
        return proxy.raw("fcntl", number, _F_GETFL, 0) == -errno.EBADF
    finally:
        machine.write_u64(slot, file)
