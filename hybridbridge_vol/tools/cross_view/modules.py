"""Modules that one of the kernel's views shows and another does not.

| view | what the kernel's code walks | made to disagree by | |---|---|---| | /proc/modules | the list
`modules` | unlinking the module from it: what nearly every rootkit does | | /sys/module | the module's
kobject; only loaded modules have a `coresize` | `kobject_del` | | addresses | the tree by which an address's
module is found (`mod_tree`), asked for each page where modules lie | seldom: a rootkit's own backtraces need
it | | memory | the areas that `load_module` allocated (/proc/vmallocinfo), against the sizes in /proc/modules
| unlinking the area too |

Sources: kernel/module/ (procfs.c, sysfs.c, tree_lookup.c), kernel/kallsyms.c, mm/vmalloc.c (Linux 5.10 to
6.12).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from errno import ENOENT, ENOTDIR

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.system import parse_module
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.cross_view.views import Finding, Views
from hybridbridge_vol.tools.process.listing import read_text
from hybridbridge_vol.units import PAGE_SIZE

LISTING, SYSFS, ADDRESSES, MEMORY = "/proc/modules", "/sys/module", "addresses", "/proc/vmallocinfo"
_NO_MODULES = ("bpf", "__builtin__ftrace", "__builtin__kprobes")
"""What the kernel puts in brackets behind symbols that are no module's (kernel/kallsyms.c)."""
_AREA = re.compile(
    rb"0x\w+-0x\w+ +(\d+) (?:load_module|move_module|module_memory_alloc|layout_and_allocate)\+.*"
)


def hidden_modules(kernel: GuestKernel) -> Iterator[Finding | Unavailable]:
    """What disagrees."""
    views: Views[str] = Views()
    data, gap = read_text(kernel, LISTING)
    sizes, sources = {}, {}
    place = 0
    for line in data.splitlines(keepends=True):
        try:
            module = parse_module(line)
            sizes[module.name], sources[module.name] = module.size, Source(LISTING, place, place + len(line))
        except ParseError as error:
            gap = Unavailable(f"{LISTING}: {error}")
        place += len(line)
    views.add(LISTING, sizes, gap)
    views.add(SYSFS, *_in_sysfs(kernel))
    views.add(ADDRESSES, *_by_address(kernel))
    for name, seen, missing in views.differences():
        yield Finding("module", name, name, seen, missing, (sources[name],) if name in sources else ())
    yield from views.gaps.values()
    if LISTING not in views.gaps:
        yield from _memory(kernel, sum(sizes.values()))


def _in_sysfs(kernel: GuestKernel) -> tuple[list[str], Unavailable | None]:
    try:
        folders = kernel.files.listdir(SYSFS)
    except UNREADABLE as error:
        return [], why(SYSFS, error)
    found = []
    for name in folders:
        path = f"{SYSFS}/{name}/coresize"
        try:
            kernel.files.stat(path)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                continue  # built in
        except UNREADABLE:
            pass
        found.append(name)
    return found, None


def _by_address(kernel: GuestKernel) -> tuple[set[str], Unavailable | None]:
    found: set[str] = set()
    pages = 0
    for vaddr in kernel.addresses.module_pages():
        pages += 1
        try:
            name = kernel.addresses.symbol(vaddr)
        except (*UNREADABLE, KeyError) as error:
            return found, Unavailable(f"symbol at {vaddr:#x}: {error}")
        if name.endswith("]"):
            found.add(name[name.rindex("[") + 1 : -1])
    return found - set(_NO_MODULES), None if pages else Unavailable(
        "addresses: no page of a module is mapped"
    )


def _memory(kernel: GuestKernel, listed: int) -> Iterator[Finding | Unavailable]:
    """Memory that was allocated for modules and belongs to none of the list; an area has a guard page behind
    it."""
    data, gap = read_text(kernel, MEMORY)
    if gap:
        yield gap
        return
    areas = [int(found[1]) - PAGE_SIZE for line in data.splitlines() if (found := _AREA.fullmatch(line))]
    if areas and sum(areas) > listed:
        yield Finding(
            "module",
            f"{(sum(areas) - listed) // 1024} KiB of code and data",
            "",
            MEMORY,
            LISTING,
            (Source(MEMORY),),
        )
