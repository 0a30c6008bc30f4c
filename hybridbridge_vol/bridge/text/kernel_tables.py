"""What a booted kernel's own tables say of its text: functions, fix-ups, warnings, branches, slab caches.

Offsets count from `_text`; `booted` is the kernel's memory from there on.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator

from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText, read_per_cpu_text
from hybridbridge_vol.bridge.text.proxy_task import MAX_OBJECT
from hybridbridge_vol.bridge.text.static_keys import JumpLabels, read_jump_labels
from hybridbridge_vol.bridge.text.twin_text import Sites
from hybridbridge_vol.bridge.text.ud1 import BUGFLAG_WARNING, UD2
from hybridbridge_vol.kernel_file.code_sweep import Range, static_references, text_ranges
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.words import read_words
from hybridbridge_vol.trust.stored_kernel import StoredKernel

MAX_CACHES = 10000
"""Slab caches that the kernel's list may have; real kernels have two hundred."""
_RUNNING_TASK = ("current_task", "pcpu_hot", "const_current_task", "const_pcpu_hot", "__preempt_count",
                 "cpu_current_top_of_stack")  # fmt: skip
"""Per-CPU variables that say what runs (arch/x86/include/asm/current.h, preempt.h)."""
_BUG_SIZES = (8, 12, 16)
_EXCEPTION_ENTRY = 12  # struct exception_table_entry: three 32-bit words since 4.6


def text_functions(kernel: StoredKernel) -> Iterator[tuple[int, int, str]]:
    """`(offset from _text, size in bytes, name)` of every function of the kernel's text."""
    text, end = kernel.text_link_vaddr, kernel.symbols.address("_etext")
    functions = [
        (address, name) for address, kind, name in kernel.symbols if kind in "tTwW" and text <= address < end
    ]
    following = sys.maxsize
    last = functions[-1][0] if functions else 0
    for address, name in reversed(functions):
        if address != last:
            following, last = last, address
        elif following == sys.maxsize:
            following = end
        yield address - text, following - address, name


def exception_sites(kernel: StoredKernel, booted: memoryview) -> array[int]:
    """Offsets of the instructions that have a fix-up (`__ex_table`, arch/x86/include/asm/extable.h)."""
    text = kernel.text_link_vaddr
    start = kernel.symbols.address("__start___ex_table") - text
    stop = kernel.symbols.address("__stop___ex_table") - text
    found = []
    for entry in range(start, stop - _EXCEPTION_ENTRY + 1, _EXCEPTION_ENTRY):
        target = entry + struct.unpack_from("<i", booted, entry)[0]
        if 0 <= target < len(booted):
            found.append(target)
    return array("I", sorted(found))


def warning_sites(kernel: StoredKernel, booted: memoryview) -> array[int]:
    """Offsets of the `ud2` of every WARN (`__bug_table`, arch/x86/include/asm/bug.h).

    An entry begins with the distance to its instruction and ends with 16 bits of flags; its length depends on
    the configuration, so it is the length for which most entries point to a `ud2`. Since 6.19 some
    lead to other instructions: their WARN is a `ud1`, which stands for nothing else (see ud1.py).
    """
    text = kernel.text_link_vaddr
    start = kernel.symbols.address("__start___bug_table") - text
    stop = kernel.symbols.address("__stop___bug_table") - text
    best: list[int] = []
    for size in _BUG_SIZES:
        sites = [
            site
            for entry in range(start, stop - size + 1, size)
            if 0 <= (site := entry + struct.unpack_from("<i", booted, entry)[0]) < len(booted) - 1
            and booted[site : site + len(UD2)] == UD2
            and booted[entry + size - 2] & BUGFLAG_WARNING
        ]
        best = max(best, sites, key=len)
    return array("I", sorted(set(best)))


def jump_labels(kernel: StoredKernel, booted: memoryview, delta: int) -> JumpLabels:
    """The kernel's static branches; none if it was built without."""
    text = kernel.text_link_vaddr
    start, stop = kernel.symbols.get("__start___jump_table"), kernel.symbols.get("__stop___jump_table")
    if start is None or stop is None:
        return read_jump_labels(booted, 0, 0, 0)
    end = kernel.symbols.address("_etext") - text
    return read_jump_labels(booted, start - text, stop - text, end, text + delta)


def per_cpu_text(kernel: StoredKernel, booted: memoryview, sites: Sites, delta: int) -> PerCpuText:
    """The text's references to static per-CPU variables; none if these are linked at 0. `sites` are the
    relocated 32-bit addresses. Without CONFIG_SMP they are variables like any others, of which those of the
    running task must be the running kernel's."""
    symbols, text = kernel.symbols, kernel.text_link_vaddr
    if "__per_cpu_offset" not in symbols:
        return PerCpuText(0, 0, _own_fields(kernel, booted, delta), array("I"))
    start, end = symbols.get("__per_cpu_start"), symbols.get("__per_cpu_end")
    if start is None or end is None or start < text:
        return PerCpuText(0, 0, array("I"), array("I"))
    code = bytes(booted[: symbols.address("_etext") - text])
    own = symbols.get("this_cpu_off")
    own = None if own is None else own - text
    return read_per_cpu_text(code, start - text, end - text, own, sites.offsets, text + delta)


def _own_fields(kernel: StoredKernel, booted: memoryview, delta: int) -> array[int]:
    """Offsets of the references to what belongs to the running task, in the kernel of a single CPU."""
    symbols, text = kernel.symbols, kernel.text_link_vaddr
    variables = [
        Range(vaddr - text, vaddr - text + symbols.size(name))
        for name in _RUNNING_TASK
        if (vaddr := symbols.get(name)) is not None
    ]
    functions = text_ranges(
        (offset for offset, _size, _name in text_functions(kernel)),
        [Range(0, symbols.address("_etext") - text)],
    )
    return array("I", sorted(static_references(bytes(booted), text + delta, functions, variables)))


def slab_caches(machine: Machine, kernel: StoredKernel, delta: int) -> set[int]:
    """The trusted kernel's slab caches (virtual addresses): those on the list `slab_caches`
    (mm/slab_common.c).

    The list node's offset inside a cache is the distance with which the most nodes become pointers that
    `kmalloc_caches` holds too. LookupError if there is none.
    """
    symbols = kernel.symbols
    head = symbols.address("slab_caches") + delta
    nodes: list[int] = []
    node = machine.read_u64(head)
    while node != head and len(nodes) < MAX_CACHES:
        nodes.append(node)
        node = machine.read_u64(node)
    table = symbols.address("kmalloc_caches")
    known = {word for word in read_words(machine, table + delta, symbols.size("kmalloc_caches")) if word}
    candidates = ({node - distance for node in nodes} for distance in range(8, MAX_OBJECT, 8))
    best = max(candidates, key=lambda caches: len(caches & known))
    if len(best & known) < len(known) // 2:
        raise LookupError("the list of slab caches makes no sense")
    return best
