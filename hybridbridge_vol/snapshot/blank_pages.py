"""Pages that an image has as zeros, and that no running kernel has so: whoever made the image could not read
them, and left them empty.

Three kinds can be told from memory that is really empty. In the kernel's own initialized data, a page that is
not empty in the trusted kernel. A page of the kernel's map of its memory: `_mapcount` of a page that nobody
has mapped is -1 (mm/mm_init.c, `__init_single_page`), and reading a file by a map of zeros does not end. And
a page that this map (`struct page`) has in a slab of tasks, credentials, files and their like: every object
in use has a pointer or a counter that is not zero.
(Since 6.18 a slab may be new and all of its objects set aside for a CPU: nothing leads there.) Slabs of
`kmalloc`, whose objects may be anything, are not judged. What is judged here counts as not in the image.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from hybridbridge_vol.machine.paging import PAGE_SHIFT
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.memory_image.ranges import merged
from hybridbridge_vol.snapshot.kernel_layout import PAGE_STRUCT, SnapshotLayout
from hybridbridge_vol.units import PAGE_SIZE, U64

WHY = "the image has zeros where the kernel has data: a page that could not be read when it was made"
CACHES = (
    "task_struct_cachep", "cred_jar", "dentry_cache", "filp_cachep", "inode_cachep", "files_cachep",
    "fs_cachep", "nsproxy_cachep", "signal_cachep", "sighand_cachep", "mm_cachep", "vm_area_cachep",
    "anon_vma_cachep", "anon_vma_chain_cachep", "mnt_cache", "kernfs_node_cache", "proc_dir_entry_cache",
    "proc_inode_cachep", "sock_inode_cachep", "shmem_inode_cachep", "radix_tree_node_cachep",
)  # fmt: skip
"""Variables of the kernel that lead to a cache whose objects are never zeros (kernel/fork.c, kernel/cred.c,
fs/, net/socket.c, lib/radix-tree.c). Those that a kernel lacks, or has merged with `kmalloc`, are left
out."""
TASKS = CACHES[0]
GENERIC = "kmalloc_caches"
PID_NAMESPACE = "init_pid_ns"
"""It has the pointer to the cache of `struct pid` (include/linux/pid_namespace.h)."""
TASK_SIZE = "arch_task_struct_size"
"""Bytes of a task_struct (kernel/fork.c): with the registers at its end, which may be zeros."""
_HEAD_OF_TASK = 64
"""Bytes at the beginning of a task_struct that are not all zeros: `stack` and `usage` are among them
(include/linux/sched.h)."""
_IDENTITY = 1024
"""A page that begins so many bytes within a task_struct, or fewer, is not all zeros: `tasks`, `pid`,
`parent`, `cred` and `comm` are behind."""
_MOST_OBJECTS_PAGES = 64
"""Pages of one slab; the largest has 8 (slub_max_order)."""
_MAX_TASK = 1 << 16
_AREA = 2 << 20
_MOST_STEPS = 1 << 16
"""Pages of the memory map that are looked up: one of 2 MiB, as the kernel takes where it can, is of 128 MiB
of memory."""
_MOST_AREAS = 1 << 12
"""Stretches of the image's memory; of more, what lies between close ones is looked up too."""
_KEPT_AREAS = 256
_WORDS = PAGE_STRUCT // 8
_HEAD = 1
"""The word of a struct page that leads to the first page of a slab (`compound_head`)."""
ZERO_PAGE = bytes(PAGE_SIZE)


class KernelData(NamedTuple):
    """What the trusted kernel has in its initialized data: `trusted` are its bytes, `start` is where they
    begin, as an offset from `_text` that is a multiple of a page."""

    start: int
    trusted: memoryview | bytes


class Variables(NamedTuple):
    """Offsets from `_text` of what leads to caches, and sizes: of pointers to those in CACHES, of the one to
    the cache of tasks (None: there is none), of the arrays of words `generic` and `pid_namespace`, and of the
    size of a task."""

    caches: Sequence[int]
    tasks: int | None = None
    generic: tuple[int, int] = (0, 0)
    pid_namespace: tuple[int, int] = (0, 0)
    task_size: int | None = None


class _Caches(NamedTuple):
    """What the snapshot has in `Variables`: addresses of caches, that of the cache of tasks (0: there is
    none), and the bytes between two tasks (0: unknown)."""

    addresses: frozenset[int]
    tasks: int
    task_size: int


class BlankPages:
    """Of one snapshot. Addresses are physical."""

    def __init__(
        self,
        image: PhysicalImage,
        layout: SnapshotLayout,
        variables: Variables,
        data: KernelData,
        read_only_later: KernelData | None = None,
    ) -> None:
        """`read_only_later`: what is constant once the kernel has started, which only Python asks for."""
        self._image = image
        self._layout = layout
        self._variables = variables
        self._data = data
        self._read_only_later = read_only_later
        self._areas: dict[int, memoryview] = {}

    def holds(self, page: int) -> bool:
        """Whether the page at an address, which is zeros, should not be."""
        found = self._is_of_kernel(page, self._data)
        return self._is_of_memory_map(page) or self._is_of_slab(page) if found is None else found

    def holds_read_only(self, page: int) -> bool:
        """The same of a page of what is constant once the kernel has started."""
        return bool(self._read_only_later and self._is_of_kernel(page, self._read_only_later))

    def _is_of_kernel(self, page: int, part: KernelData) -> bool | None:
        """Whether the trusted kernel has more than zeros there; None elsewhere."""
        offset = page - self._layout.text_paddr - part.start
        if not 0 <= offset < len(part.trusted) & -PAGE_SIZE:
            return None
        return bytes(part.trusted[offset : offset + PAGE_SIZE]) != ZERO_PAGE

    def any_in(self, page: int, content: memoryview | bytes) -> bool:
        """Whether a page among those that begin at an address, and whose bytes are `content`, is zeros and
        should not be."""
        return any(self.holds(page + at) for at in zero_pages(content))

    # --- the memory map -----------------------------------------------------------------------------------

    def _is_of_memory_map(self, page: int) -> bool:
        number = bisect_right(self._memory_map, page, key=lambda part: part.start) - 1
        return number >= 0 and page in self._memory_map[number]

    @cached_property
    def _memory_map(self) -> list[range]:
        """Where the structs of the image's pages are, ascending."""
        found: list[range] = []
        steps = 0
        for first, size in merged(((run.paddr, run.size) for run in self._image.stored), _MOST_AREAS):
            vaddr = self._layout.page_struct_of(first) & -PAGE_SIZE
            until = self._layout.page_struct_of(first + size)
            while vaddr < until and steps < _MOST_STEPS:
                steps += 1
                place = self._layout.translate(self._image, vaddr)
                mapped = 1 << (PAGE_SHIFT if place is None else place.shift)
                behind = min((vaddr & -mapped) + mapped, until)
                if place is not None:
                    found.append(range(place.paddr, place.paddr + behind - vaddr))
                vaddr = behind
        return sorted(found, key=lambda part: part.start)

    # --- slabs --------------------------------------------------------------------------------------------

    def _is_of_slab(self, page: int) -> bool:
        words, head = self._struct_of(page), page
        if words[_HEAD] & 1:
            head = self._head_of(page, words)
            words = self._struct_of(head)
        if self._known.addresses.isdisjoint(words):
            return False
        return self._known.tasks not in words or self._has_part_of_task(page, head)

    def _head_of(self, page: int, words: Sequence[int]) -> int:
        """The first page of what a page is a part of: its address plus 1, or since 7.0 a mask that leads to
        it."""
        value = words[_HEAD]
        if not value & 1:
            return page
        struct = self._layout.page_struct_of(page)
        head = value - 1 if value <= struct else struct & value - 1
        return self._layout.page_of(head) if 0 <= head - self._layout.vmemmap_base else page

    def _has_part_of_task(self, page: int, slab: int) -> bool:
        """Whether the beginning of a task_struct, or what tells it from others, is in a page: the rest may be
        zeros."""
        size = self._known.task_size
        if not size:
            return False
        count = next(
            (number for number in range(1, _MOST_OBJECTS_PAGES) if not self._is_part(slab, number)), 0
        )
        start = -(-(page - slab) // size) * size
        if start and start - size >= page - slab - _IDENTITY:
            start -= size  # the page begins in it
        if start + size > count * PAGE_SIZE or slab + start + _HEAD_OF_TASK > page + PAGE_SIZE:
            return False
        return not self._was_never_used(slab + start, size)

    def _was_never_used(self, start: int, size: int) -> bool:
        """Whether an object has nothing but the pointer to the next free one, which is in its middle
        (mm/slub.c, `calculate_sizes`, since 5.7): so is a new slab of tasks."""
        data = self._image.read_available(start, size)
        return data is not None and sum(map(bool, memoryview(data).cast("Q"))) == 1

    def _is_part(self, slab: int, number: int) -> bool:
        page = slab + number * PAGE_SIZE
        words = self._struct_of(page)
        return words[_HEAD] & 1 == 1 and self._head_of(page, words) == slab

    def _struct_of(self, page: int) -> Sequence[int]:
        """The words of a page's struct page; zeros if the image lacks it."""
        area = page & -_AREA
        structs = self._areas.get(area)
        if structs is None:
            if len(self._areas) >= _KEPT_AREAS:
                self._areas.clear()
            structs = self._areas[area] = memoryview(self._structs(area)).cast("Q")
        first = (page - area) // PAGE_SIZE * _WORDS
        return structs[first : first + _WORDS].tolist()

    def _structs(self, area: int) -> bytes:
        vaddr, size = self._layout.page_struct_of(area), _AREA // PAGE_SIZE * PAGE_STRUCT
        found = self._layout.translate(self._image, vaddr)
        if found is not None and found.shift > PAGE_SHIFT:  # the kernel maps its map by 2 MiB where it can
            whole = self._image.read_available(found.paddr, size)
            if whole is not None:
                return whole
        parts = []
        for at in range(vaddr, vaddr + size, PAGE_SIZE):
            found = self._layout.translate(self._image, at)
            data = None if found is None else self._image.read_available(found.paddr, PAGE_SIZE)
            parts.append(data or ZERO_PAGE)
        return b"".join(parts)

    @cached_property
    def _known(self) -> _Caches:
        variables = self._variables
        caches = {self._number(offset, 8) for offset in variables.caches}
        start, size = variables.pid_namespace
        caches.update(self._number(start + at, 8) for at in range(0, size, 8))
        start, size = variables.generic
        caches.difference_update(self._number(start + at, 8) for at in range(0, size, 8))
        base, end = self._layout.page_offset_base, self._layout.vmalloc_base
        size = 0 if variables.task_size is None else self._number(variables.task_size, 4)
        return _Caches(
            addresses=frozenset(one for one in caches if base <= one < end),
            tasks=0 if variables.tasks is None else self._number(variables.tasks, 8),
            task_size=(size + 63) & -64 if size < _MAX_TASK else 0,  # SLAB_HWCACHE_ALIGN
        )

    def _number(self, offset: int, size: int) -> int:
        data = self._image.read_available(self._layout.text_paddr + offset, size)
        return 0 if data is None else int.from_bytes(data, "little") & U64


def zero_pages(content: memoryview | bytes) -> Iterator[int]:
    """The offsets of the pages of some bytes that are zeros; a last one that is not whole is left out."""
    size = len(content) & -PAGE_SIZE
    firsts = memoryview(content)[:size].cast("Q")[:: PAGE_SIZE // 8].tolist()
    for number, first in enumerate(firsts):
        at = number * PAGE_SIZE
        if not first and bytes(content[at : at + PAGE_SIZE]) == ZERO_PAGE:
            yield at
