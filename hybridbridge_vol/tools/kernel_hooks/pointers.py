"""Pointers, anywhere in memory, to code that is not the trusted package's.

The other kinds follow the lists that are known; there are thousands of others, and pointers that are on no
list. So where there is code that no listed module has, or a module that the package has no file for, all of
the image is searched for words that lead to it, or to a structure of it that has a function. Where there is
none, as on nearly all machines, nothing is searched.

Left out are words in that memory itself, stacks, free memory and memory of processes, and what the kernel
notes of any module: its records of vmalloc and of the tracer, and pointers to the `struct module`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hybridbridge_vol.bridge.objects.module_structs import module_structs, parts
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.bridge.objects.vmap_areas import vmap_areas
from hybridbridge_vol.cached_method import cached_method
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.cross_view.code import CodeOwners, without
from hybridbridge_vol.tools.kernel_hooks.judge import Judge
from hybridbridge_vol.tools.kernel_hooks.memory_places import MemoryPlaces, data_ranges
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Lost
from hybridbridge_vol.tools.physical_memory.page_kind import flags_of, kind_of
from hybridbridge_vol.trust.linked_kernel import linked_kernel
from hybridbridge_vol.units import PAGE_SIZE

MAX_POINTERS = 2048
"""Words that are reported."""
MAX_ALIKE = 8
"""Words that are reported of one field, or the like, and lead to one place."""
MAX_WORDS = 1 << 16
"""Words that are looked at."""
MAX_PAGES = 1 << 16
"""Pages of the regions."""
_PIECE = 16 << 20
"""Bytes of the image that are searched at once."""
_FAR = 1 << 30
"""Regions that are nearer to one another than this are searched for as one first."""
_STRUCTURE = 512
"""Bytes of a structure that are searched for a function, each way."""
_BLOCK = 256
"""Bytes of a structure of the module's own that another kind has reported."""
_OBJECT = 8 << 10
"""Bytes of an object that another kind has reported: a pointer in it is that one."""


class Region(NamedTuple):
    """Memory of code that is not the package's."""

    start: int
    end: int
    is_code: bool


class Pointers:
    """Of one snapshot. `reported` is what the other kinds have found until then: objects and functions."""

    def __init__(
        self,
        kernel: GuestKernel,
        memory: TypedMemory,
        names: KernelNames,
        judge: Judge,
        reported: list[tuple[int, int]],
    ) -> None:
        self._kernel = kernel
        self._memory = memory
        self._names = names
        self._judge = judge
        self._reported = reported
        self._structs: list[tuple[int, int]] = []
        self._variables = data_ranges(memory.bridge.kernel)

    def all(self) -> Iterator[Found]:
        """The words, by what they lie in."""
        yield from self._to_gaps()
        if self._names.lost:
            yield Lost(f"pointers to code of no listed module: {self._names.lost}")
            return
        regions = list(islice(self._regions(), MAX_PAGES))
        if not regions:
            return
        own = self._own_frames(regions)
        places = MemoryPlaces(self._memory, self._names)
        count = 0
        known = list(self._reported)
        seen: Counter[tuple[str, int]] = Counter()
        for paddr, target in islice(self._words(regions), MAX_WORDS):
            if paddr // PAGE_SIZE in own or not self._is_kernels(paddr):
                continue
            function, at = self._leads(target, regions)
            if not function:
                continue
            place = places.at(paddr)
            if not place.what or self._is_noted(place.vaddr, target):
                continue
            if self._is_known(place.vaddr, at, function, known):
                continue
            seen[place.what, target] += 1
            if seen[place.what, target] > MAX_ALIKE:
                continue
            count += 1
            if count > MAX_POINTERS:
                yield Lost(f"more than {MAX_POINTERS} pointers lead to code that is not the package's")
                return
            way = f", by way of {target:#x}" if at else ""
            yield Hook(f"{place.what}{way}", function, place.vaddr)

    def _to_gaps(self) -> Iterator[Found]:
        """Words of the kernel's own data that lead behind the code of a module, where there is room for some.
        All memory is not searched for these: every machine has such room."""
        regions = [Region(start + 1, end, True) for start, end, _name in self._judge.gaps if end - start > 1]
        layout = self._memory.bridge.layout
        for start, last in self._variables if regions else ():
            within = (layout.text_paddr + start, layout.text_paddr + last)
            for paddr, target in islice(self._words(regions, within), MAX_POINTERS):
                if self._is_kernels(paddr):
                    vaddr = layout.text_vaddr + paddr - layout.text_paddr
                    yield Hook(self._names.place(vaddr), target, vaddr)

    # --- the code -----------------------------------------------------------------------------------------

    def _regions(self) -> Iterator[Region]:
        memory = self._memory
        owners = CodeOwners(self._kernel, memory)
        for found in owners.unowned():
            yield Region(found.vaddr, found.end_vaddr, found.is_executable)
        size = memory.types.size("module")
        structs = module_structs(memory, self._kernel.addresses.module_pages())
        self._structs = [(vaddr, vaddr + size) for vaddr in structs.values()]
        if not memory.has_symbol("modules"):
            return
        for module in memory.list(memory.ring("modules"), "module", "list"):
            self._structs.append((module, module + size))
            own = parts(memory, module)
            if not any(self._names.modules.part_at(start) for start, _end in own):
                for start, end in own:
                    data = list(owners.data_in(start, end))
                    yield from (Region(first, last, False) for first, last in data)
                    yield from (Region(first, last, True) for first, last in without(start, end, data))

    def _own_frames(self, regions: list[Region]) -> set[int]:
        pages = (
            page for region in regions for page in range(region.start & -PAGE_SIZE, region.end, PAGE_SIZE)
        )
        paddrs = (self._memory.paddr(page) for page in islice(pages, MAX_PAGES))
        return {paddr // PAGE_SIZE for paddr in paddrs if paddr is not None}

    # --- the words ----------------------------------------------------------------------------------------

    def _words(
        self, regions: list[Region], within: tuple[int, int] = (0, 1 << 52)
    ) -> Iterator[tuple[int, int]]:
        """Physical address and value of each word of the image that is in a region; `within`: of which
        physical memory."""
        ordered = sorted(regions)
        starts = np.array([region.start for region in ordered], np.uint64)
        ends = np.array([region.end for region in ordered], np.uint64)
        spans = list(_spans(ordered))
        image, allowance = self._memory.bridge.image, self._memory.bridge.allowance
        for run in image.stored:
            first, last = max(run.paddr, within[0]), min(run.paddr + run.size, within[1])
            for paddr in range(-(-first // 8) * 8, last, _PIECE):
                allowance.check()
                size = min(_PIECE, last - paddr) // 8 * 8
                data = image.read_available(paddr, size)
                if data is None:
                    data = image.read_padded(paddr, size)
                words = np.frombuffer(data, "<u8")
                for at in _inside(words, spans, starts, ends):
                    yield paddr + 8 * at, int(words[at])

    def _is_kernels(self, paddr: int) -> bool:
        """Whether a word is in memory of the kernel, and no pointer that `check` compares."""
        layout = self._memory.bridge.layout
        offset = paddr - layout.text_paddr
        if any(start <= offset < end for start, end in self._variables):
            return offset not in self._compared
        return self._is_in_use(paddr // PAGE_SIZE)

    @cached_method
    def _is_in_use(self, frame: int) -> bool:
        kind = kind_of(flags_of(self._kernel.files, frame))
        return isinstance(kind, Unavailable) or kind in ("slab", "kernel")

    @cached_property
    def _compared(self) -> frozenset[int]:
        """Where pointers to code and constants were linked into the kernel; offsets from `_text`."""
        linked, symbols = linked_kernel(self._memory.bridge.kernel), self._memory.bridge.kernel.symbols
        text = self._memory.bridge.kernel.text_link_vaddr
        end = (symbols.get("__end_rodata") or text) - text
        sites = np.frombuffer(linked.abs64, np.uint32 if linked.abs64.itemsize == 4 else np.uint64)
        sites = sites.astype(np.int64)
        values = np.ndarray((len(linked.flat) - 7,), "<u8", linked.flat, 0, (1,))[sites]
        return frozenset(sites[values - np.uint64(text) < np.uint64(end)].tolist())

    # --- what they mean -----------------------------------------------------------------------------------

    def _leads(self, target: int, regions: list[Region]) -> tuple[int, int]:
        """The function that a word leads to, and where in a structure the pointer to it is, 0 if the word is
        that pointer; both 0 if it leads to none."""
        region = next(one for one in regions if one.start <= target < one.end)
        if region.is_code:
            return target, 0
        if any(start <= target < end for start, end in self._structs):
            return 0, 0
        for at in self._around(target & -8, region):
            try:
                word = self._memory.word(at)
            except UnreadableVirtual:
                continue
            if any(one.is_code and one.start <= word < one.end for one in regions):
                return word, at
        return 0, 0

    def _around(self, target: int, region: Region) -> Iterator[int]:
        """The words of a structure that a pointer leads to, or into the middle of: the nearest first."""
        for distance in range(0, _STRUCTURE, 8):
            for at in (target + distance, target - distance - 8):
                if region.start <= at < region.end - 7:
                    yield at

    def _is_noted(self, vaddr: int, target: int) -> bool:
        """Whether a word is what the kernel notes of any module or area of vmalloc: its structure, where its
        sections are (kernel/module/sysfs.c, arch/x86/kernel/alternative.c), where the area begins (struct
        vm_struct), a function that can be traced."""
        if any(start <= vaddr < end for start, end in self._notes):
            return True
        size = self._sizes.get(target)
        try:
            return size is not None and self._memory.word(vaddr + 8) == size + PAGE_SIZE
        except UnreadableVirtual:
            return False

    @cached_property
    def _sizes(self) -> dict[int, int]:
        """Of the areas of vmalloc, by where they begin."""
        return {area.vaddr: area.size for area in vmap_areas(self._memory)}

    @cached_property
    def _notes(self) -> list[tuple[int, int]]:
        memory, found = self._memory, list(self._structs)
        if memory.has_symbol("smp_alt_modules") and memory.types.has("smp_alt_module"):
            size = memory.types.size("smp_alt_module")
            notes = memory.list(memory.ring("smp_alt_modules"), "smp_alt_module", "next")
            found += ((note, note + size) for note in notes)
        for struct, _end in self._structs:
            for field in ("sect_attrs", "notes_attrs"):
                start = memory.get(struct, "module", field) if memory.types.has("module", field) else 0
                if start:
                    found.append((start, start + PAGE_SIZE))
        size, following = memory.types.size("dyn_ftrace"), memory.types.offset("ftrace_page", "next")
        for page in memory.chain(memory.word(memory.symbol("ftrace_pages_start")), following):
            start = memory.get(page, "ftrace_page", "records")
            used = size * memory.get(page, "ftrace_page", "index")
            found.append((start, start + max(used, PAGE_SIZE)))
        return found

    def _is_known(self, vaddr: int, at: int, function: int, known: list[tuple[int, int]]) -> bool:
        """Whether another kind has a row for it: of the object that the word is in, or of the one that the
        function's pointer is in."""
        return any(
            function == other and (0 <= vaddr - base < _OBJECT or 0 <= at - base < _BLOCK)
            for base, other in known
        )


def _spans(regions: list[Region]) -> Iterator[tuple[int, int]]:
    first = last = None
    for region in regions:
        if first is None or last is None or region.start - last > _FAR:
            if first is not None and last is not None:
                yield first, last
            first = region.start
        last = region.end if last is None else max(last, region.end)
    if first is not None and last is not None:
        yield first, last


def _inside(
    words: npt.NDArray[np.uint64],
    spans: list[tuple[int, int]],
    starts: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.uint64],
) -> list[int]:
    """The indices of the words that are in one of some ranges, ascending."""
    found: list[int] = []
    for start, end in spans:
        near = np.flatnonzero(words - np.uint64(start) < np.uint64(end - start))
        if near.size:
            values = words[near]
            index = np.searchsorted(starts, values, "right") - 1
            found += near[(index >= 0) & (values < ends[index])].tolist()
    return sorted(found)
