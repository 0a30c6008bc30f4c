"""Modules that one of the kernel's lists names and another does not.

Each list, what the kernel's code walks for it, and how a module is taken out of it:

* /proc/modules: the list `modules`. Unlinking the module, as nearly every rootkit does.
* /sys/module: the kobjects of modules; only loaded modules have a `coresize`. `kobject_del`.
* addresses: the tree that finds the module of an address (`mod_tree`), asked about each page of the area for
  modules. Rare: a rootkit's own backtraces need it.
* memory of modules: every `struct module` in the area for modules. It stays there as long as the module's
  code does. A module that is not found here is not reported as missing.
* memory: the areas that `load_module` allocated (/proc/vmallocinfo), against the sizes in /proc/modules.
  Unlinking the area.

Sources: kernel/module/ (procfs.c, sysfs.c, tree_lookup.c), kernel/kallsyms.c, mm/vmalloc.c (Linux 5.10 to
6.12).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from errno import ENOENT, ENOTDIR

from hybridbridge_vol.errors import HybridBridgeError, ParseError
from hybridbridge_vol.guest.kernel import Addresses, Files, GuestKernel
from hybridbridge_vol.procfs.sources import Source, lines, split_lines
from hybridbridge_vol.procfs.system import parse_module
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, read_lines, why
from hybridbridge_vol.tools.cross_view.comparison import Comparison, Finding
from hybridbridge_vol.units import PAGE_SIZE

LISTING, SYSFS, ADDRESSES, MEMORY = "/proc/modules", "/sys/module", "addresses", "/proc/vmallocinfo"
STRUCTS = "memory of modules"
_NOT_MODULES = ("bpf", "__builtin__ftrace", "__builtin__kprobes")
"""What the kernel puts in brackets behind symbols that belong to no module (kernel/kallsyms.c)."""
LOADERS = ("load_module", "move_module", "module_memory_alloc", "layout_and_allocate")
_AREA = re.compile(rb"0x\w+-0x\w+ +(\d+) (?:" + "|".join(LOADERS).encode() + rb")\+.*")


def hidden_modules(kernel: GuestKernel) -> Iterator[Finding | Unavailable]:
    """What the lists disagree about, and what could not be read. Nothing of a kernel that cannot have any."""
    if not kernel.addresses.has_modules:
        return
    lists: Comparison[str] = Comparison()
    data, read_error = read_lines(kernel.files, LISTING)
    sizes, sources = dict[str, int](), dict[str, Source]()
    for line, source in lines(LISTING, data):
        try:
            module = parse_module(line)
            sizes[module.name], sources[module.name] = module.size, source
        except ParseError as error:
            read_error = Unavailable(f"{LISTING}: {error}")
    lists.add(LISTING, sizes, read_error)
    lists.add(SYSFS, *_in_sysfs(kernel.files))
    lists.add(ADDRESSES, *_by_address(kernel.addresses))
    lists.add(STRUCTS, *_in_memory(kernel.addresses))
    # the tree of addresses has its nodes where the list has: in each `struct module`
    lost = read_error.reason if read_error else ""
    for name, seen, missing in lists.differences(lambda source, _name: source == STRUCTS):
        doubt = lost if missing == ADDRESSES else ""
        yield Finding("module", name, name, seen, missing, (sources[name],) if name in sources else (), doubt)
    yield from lists.read_errors.values()
    if LISTING not in lists.read_errors:
        yield from _memory(kernel.files, kernel.addresses, sum(sizes.values()))


def _in_sysfs(files: Files) -> tuple[list[str], Unavailable | None]:
    try:
        folders = files.listdir(SYSFS)
    except UNREADABLE as error:
        return [], why(SYSFS, error)
    return [name for name in folders if _is_loaded(files, name)], None


def _is_loaded(files: Files, name: str) -> bool:
    """Whether a folder of /sys/module is that of a loaded module, not of code built into the kernel."""
    try:
        files.stat(f"{SYSFS}/{name}/coresize")
    except OSError as error:
        return error.errno not in (ENOENT, ENOTDIR)
    except UNREADABLE:
        pass  # it exists, whatever is wrong with it
    return True


def _by_address(addresses: Addresses) -> tuple[set[str], Unavailable | None]:
    found: set[str] = set()
    pages = list(addresses.module_pages())
    addresses.expect(pages)
    for vaddr in pages:
        # of a module without code, all that begins before the page's first symbol is nobody's
        for place in (vaddr, vaddr + PAGE_SIZE - 1):
            try:
                name = addresses.symbol(place)
            except (*UNREADABLE, KeyError) as error:
                return found, Unavailable(f"symbol at {place:#x}: {error}")
            if name.endswith("]"):
                found.add(name[name.rindex("[") + 1 : -1])
                break
    unmapped = None if pages else Unavailable("addresses: no page of a module is mapped")
    return found - set(_NOT_MODULES), unmapped


def _elsewhere(addresses: Addresses) -> int:
    """Bytes of the loader's areas that are not in the area for modules; 0 if that cannot be said."""
    try:
        areas = addresses.vmalloc_areas()
    except (LookupError, HybridBridgeError):
        return 0
    return sum(
        size for vaddr, size, caller in areas if caller in LOADERS and vaddr not in addresses.modules_area
    )


def _in_memory(addresses: Addresses) -> tuple[Iterable[str], Unavailable | None]:
    try:
        return addresses.modules_in_memory(), None
    except (LookupError, HybridBridgeError) as error:
        return (), Unavailable(f"{STRUCTS}: {error}")


def _memory(files: Files, addresses: Addresses, listed: int) -> Iterator[Finding | Unavailable]:
    """Memory that was allocated for modules and belongs to none of the list, whose modules have `listed`
    bytes. An area has a guard page behind it. The loader has also areas that are not in the area for modules
    (large tables of its own)."""
    data, read_error = read_lines(files, MEMORY)
    if read_error:
        yield read_error
        return
    areas = [int(found[1]) - PAGE_SIZE for line in split_lines(data) if (found := _AREA.fullmatch(line))]
    if areas and sum(areas) > listed:
        listed += _elsewhere(addresses)
    if areas and sum(areas) > listed:
        what = f"{(sum(areas) - listed) // 1024} KiB of code and data"
        yield Finding("module", what, "", MEMORY, LISTING, (Source(MEMORY),))
