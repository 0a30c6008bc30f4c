"""What the bridge derives from one booted kernel, once: relocation sites, trampolines, offsets.

It is stored beside the boot it belongs to, named by the policy it follows, and made again when absent or
damaged. Structure offsets are found by value in the booted kernel (which word of the proxy task's task is
`&init_nsproxy`?), so no debug information is needed.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from hybridbridge_vol.bridge.text.cpu_features import FeatureBranches, read_feature_branches
from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText, read_per_cpu_text
from hybridbridge_vol.bridge.text.policy import Trampoline, load_policy, policy_digest, resolve
from hybridbridge_vol.bridge.text.proxy_task import MAX_OBJECT, ProxyTask, find_proxy_task, read_words
from hybridbridge_vol.bridge.text.rebased_text import Sites, relocation_sites
from hybridbridge_vol.bridge.text.static_keys import JumpLabels, read_jump_labels
from hybridbridge_vol.errors import BootError, StoreError
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.placement import START_KERNEL_MAP
from hybridbridge_vol.trust.stored_kernel import Boot, StoredKernel
from hybridbridge_vol.units import Progress

FORMAT = 8
"""Version of what this module stores."""

_MAX_CACHES = 10000
_UD2 = b"\x0f\x0b"
_BUGFLAG_WARNING = 1  # include/asm-generic/bug.h
_EXCEPTION_ENTRY = 12  # struct exception_table_entry: three 32-bit words since 4.6


@dataclass(frozen=True)
class Prepared:
    """See the module's text. Offsets of text and data count from `_text`.

    `rodata_end`: first byte after what the twin provides. `unmatched`: name patterns of the policy that this
    kernel has no function for. `fixups`: offsets of the instructions that the exception table covers,
    `warnings` of the `ud2` of every WARN, both ascending; `labels` are its static branches, `features` its
    branches on the processor's features, `per_cpu` its references to per-CPU variables, `caches` the virtual
    addresses of its slab caches.
    """

    rodata_end: int
    sites: tuple[Sites, ...]
    trampolines: list[Trampoline]
    unmatched: list[str]
    fixups: array[int]
    warnings: array[int]
    labels: JumpLabels
    features: FeatureBranches
    per_cpu: PerCpuText
    caches: list[int]
    proxy_task: ProxyTask


def prepare(kernel: StoredKernel, boot: Boot, progress: Progress | None = None) -> Prepared:
    """The stored preparation of `boot` for the policy as shipped, made and stored if there is none.

    KeyError names a symbol that the kernel lacks; BootError if it is not laid out as expected.
    """
    digest = f"{FORMAT}-{policy_digest()}"
    path = boot.folder / f"prepared-{digest}"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, struct.error):
        return _load(path.read_bytes())
    if progress:
        progress(0.0, "preparing the twin")
    prepared = derive(kernel, boot)
    with contextlib.suppress(OSError):  # a read-only store works, only slower
        files.write_atomically(path, _dump(prepared))
    return prepared


def _dump(prepared: Prepared) -> bytes:
    labels, per_cpu = prepared.labels, prepared.per_cpu
    lists = [
        *(sites.offsets for sites in prepared.sites),
        prepared.fixups,
        prepared.warnings,
        labels.codes,
        labels.targets,
        labels.keys,
        labels.flags,
        *prepared.features.columns(),
        per_cpu.fields,
        per_cpu.offset_fields,
    ]
    head = json.dumps(
        {
            "rodata_end": prepared.rodata_end,
            "trampolines": prepared.trampolines,
            "unmatched": prepared.unmatched,
            "caches": prepared.caches,
            "per_cpu": [per_cpu.start, per_cpu.end],
            "proxy_task": list(vars(prepared.proxy_task).values()),
            "sites": [[sites.step, sites.size] for sites in prepared.sites],
            "lengths": [len(item) for item in lists],
        }
    ).encode()
    body = struct.pack("<I", len(head)) + head + b"".join(array("I", item).tobytes() for item in lists)
    return struct.pack("<I", zlib.crc32(body)) + body


def _load(data: bytes) -> Prepared:
    if struct.unpack_from("<I", data)[0] != zlib.crc32(data[4:]):
        raise ValueError
    (size,) = struct.unpack_from("<I", data, 4)
    head = json.loads(data[8 : 8 + size])
    lists, offset = [], 8 + size
    for length in head["lengths"]:
        item = array("I")
        item.frombytes(data[offset : offset + 4 * length])
        lists.append(item)
        offset += 4 * length
    sites = tuple(
        Sites(offsets, step, width) for offsets, (step, width) in zip(lists, head["sites"], strict=False)
    )
    return Prepared(
        head["rodata_end"],
        sites,
        [Trampoline(*item) for item in head["trampolines"]],
        head["unmatched"],
        lists[-13],
        lists[-12],
        JumpLabels(*lists[-11:-7]),
        FeatureBranches(*lists[-7:-2]),
        PerCpuText(*head["per_cpu"], *lists[-2:]),
        head["caches"],
        ProxyTask(*head["proxy_task"]),
    )


def derive(kernel: StoredKernel, boot: Boot) -> Prepared:
    """Work everything out anew (about a second)."""
    image = kernel.kernel_image()
    symbols = kernel.symbols
    text = kernel.text_link_vaddr
    delta = boot.layout.kernel_delta
    machine = Machine(boot.layout.levels)
    memory = boot.map_memory()
    machine.place(0, memory)
    machine.load_state(boot.state)
    start = text - START_KERNEL_MAP
    booted = memory.view[start : start + kernel.end_link_vaddr - text]
    rodata_end = symbols.address("__end_rodata") - text
    flat = image.flat()
    sites = tuple(
        Sites(relocation_sites(booted, flat, vaddrs, text, rodata_end, step * delta, size), step, size)
        for vaddrs, step, size in (
            (image.relocations.abs32, 1, 4),
            (image.relocations.inverse32, -1, 4),
            (image.relocations.abs64, 1, 8),
        )
    )
    resolution = resolve(load_policy(), text_functions(kernel))
    try:
        proxy_task = find_proxy_task(machine, kernel, boot.layout)
        caches = sorted(slab_caches(machine, kernel, delta))
    except (UnmappedVirtual, LookupError) as error:
        raise BootError(f"{kernel.name}: the booted kernel is not laid out as expected: {error}") from None
    finally:
        machine.rest()
    return Prepared(
        rodata_end,
        sites,
        resolution.trampolines,
        resolution.unmatched,
        exception_sites(kernel, booted),
        warning_sites(kernel, booted),
        jump_labels(kernel, booted),
        read_feature_branches(flat, text, symbols.address("_etext") - text),
        per_cpu_text(kernel, booted, sites[0], delta),
        caches,
        proxy_task,
    )


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
    """Offsets of the instructions with a fix-up (`__ex_table`, arch/x86/include/asm/extable.h)."""
    text = kernel.text_link_vaddr
    start = kernel.symbols.address("__start___ex_table") - text
    stop = kernel.symbols.address("__stop___ex_table") - text
    found = array("I")
    for entry in range(start, stop - _EXCEPTION_ENTRY + 1, _EXCEPTION_ENTRY):
        target = entry + struct.unpack_from("<i", booted, entry)[0]
        if 0 <= target < len(booted):
            found.append(target)
    return array("I", sorted(found))


def jump_labels(kernel: StoredKernel, booted: memoryview) -> JumpLabels:
    """The kernel's static branches; none if it was built without."""
    text = kernel.text_link_vaddr
    start, stop = kernel.symbols.get("__start___jump_table"), kernel.symbols.get("__stop___jump_table")
    if start is None or stop is None:
        return read_jump_labels(booted, 0, 0, 0)
    return read_jump_labels(booted, start - text, stop - text, kernel.symbols.address("_etext") - text)


def per_cpu_text(kernel: StoredKernel, booted: memoryview, sites: Sites, delta: int) -> PerCpuText:
    """The text's references to static per-CPU variables; none if these are linked at 0."""
    symbols, text = kernel.symbols, kernel.text_link_vaddr
    start, end = symbols.get("__per_cpu_start"), symbols.get("__per_cpu_end")
    if start is None or end is None or start < text:
        return PerCpuText()
    code = bytes(booted[: symbols.address("_etext") - text])
    own = symbols.get("this_cpu_off")
    own = None if own is None else own - text
    return read_per_cpu_text(code, start - text, end - text, own, sites.offsets, text + delta)


def warning_sites(kernel: StoredKernel, booted: memoryview) -> array[int]:
    """Offsets of the `ud2` of every WARN (`__bug_table`, arch/x86/include/asm/bug.h).

    An entry begins with the distance to its instruction and ends with 16 bits of flags; how long it is
    depends on the configuration, so the length is taken under which the most entries lead to a `ud2`. Since
    6.19 some lead to other instructions: their WARN is a `ud1`, which is never anything else (see
    `undefined.py`).
    """
    text = kernel.text_link_vaddr
    start = kernel.symbols.address("__start___bug_table") - text
    stop = kernel.symbols.address("__stop___bug_table") - text
    best: list[int] = []
    for size in (8, 12, 16):
        sites = [
            site
            for entry in range(start, stop - size + 1, size)
            if 0 <= (site := entry + struct.unpack_from("<i", booted, entry)[0]) < len(booted) - 1
            and booted[site : site + 2] == _UD2
            and booted[entry + size - 2] & _BUGFLAG_WARNING
        ]
        best = max(best, sites, key=len)
    return array("I", sorted(set(best)))


def slab_caches(machine: Machine, kernel: StoredKernel, delta: int) -> set[int]:
    """The trusted kernel's slab caches: those on the list `slab_caches` (mm/slab_common.c).

    The list's place inside a cache is the distance that brings the most list nodes onto pointers of
    `kmalloc_caches`.
    """
    symbols = kernel.symbols
    head = symbols.address("slab_caches") + delta
    nodes: list[int] = []
    node = machine.read_u64(head)
    while node != head and len(nodes) < _MAX_CACHES:
        nodes.append(node)
        node = machine.read_u64(node)
    table = symbols.address("kmalloc_caches")
    known = {word for word in read_words(machine, table + delta, symbols.size("kmalloc_caches")) if word}
    candidates = ({node - distance for node in nodes} for distance in range(8, MAX_OBJECT, 8))
    best = max(candidates, key=lambda caches: len(caches & known))
    if len(best & known) < len(known) // 2:
        raise LookupError("the list of slab caches makes no sense")
    return best


def load_or_error(kernel: StoredKernel, boot: Boot) -> Prepared:
    """`prepare`, with the store's own errors named after the kernel."""
    try:
        return prepare(kernel, boot)
    except KeyError as error:
        raise StoreError(f"{kernel.name}: this kernel has no symbol {error}; it cannot be bridged") from None
