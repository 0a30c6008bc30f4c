"""Names for kernel addresses of the snapshot: a symbol, a module, a region."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.snapshot_space import UPPER_HALF
from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import split_lines
from hybridbridge_vol.procfs.system import Module, parse_module
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why

_NOT_KNOWN = "modules are not known"
_DIRECT_MAP = 64 << 40
_VMALLOC = 32 << 40
"""Lengths of the direct map and of the vmalloc area with four levels,
Documentation/arch/x86/x86_64/mm.rst."""


class Places:
    """Names addresses. `modules` are those that the snapshot's kernel lists; `part_of` gives the module of
    the trusted package whose code or data lies at an address, and the offset in it: since 6.4 a module's
    parts lie apart, and the list has the address of one and the size of all. So the list is asked only about
    modules that are not `placed`. `bpf_code` names the code that the kernel has compiled of BPF. `modules` is
    None if they cannot be listed; there may be others unless these `are_all`."""

    def __init__(
        self,
        bridge: Bridge,
        modules: Iterable[Module] | None,
        part_of: Callable[[int], tuple[str, int] | None],
        placed: Container[str] = (),
        bpf_code: Callable[[int], str] = lambda _vaddr: "",
        are_all: bool = True,
    ) -> None:
        self._bridge = bridge
        self._part_of = part_of
        self._bpf_code = bpf_code
        self._modules = sorted(
            (module.address_vaddr, module.size, module.name)
            for module in modules or ()
            if module.name not in placed
        )
        self._is_known = modules is not None and are_all

    def doubt(self, leads: str | None) -> str:
        """Why nothing can be said against a place that `leads` describes; empty if something can."""
        return _NOT_KNOWN if leads is not None and _NOT_KNOWN in leads else ""

    def symbol(self, vaddr: int) -> str | None:
        """`name+offset` in the kernel image; None outside of it. Of several names that of a system call, else
        the first global one."""
        if not self._bridge.in_twin(vaddr):
            return None
        kernel = self._bridge.kernel
        link_vaddr = kernel.text_link_vaddr + vaddr - self._bridge.layout.text_vaddr
        found = kernel.symbols.lookup(link_vaddr)
        if found is None:
            return None
        name, offset = found
        known = [other for kind, other in kernel.symbols.names_at(link_vaddr - offset) if kind.isupper()]
        if known:
            name = next((other for other in known if other.startswith("__x64_sys_")), known[0])
        return name + (f"+{offset:#x}" if offset else "")

    def describe(self, vaddr: int) -> str:
        """Where an address leads."""
        symbol = self.symbol(vaddr)
        if symbol is not None:
            return symbol
        part = self._part_of(vaddr)
        if part is not None:
            return f"module {part[0]}+{part[1]:#x}"
        for start, size, name in self._modules:
            if start <= vaddr < start + size:
                return f"module {name}+{vaddr - start:#x}"
        made = self.bpf_code(vaddr)
        if made:
            return made
        mapped = self._bridge.layout.translate(self._bridge.image, vaddr) is not None
        return self._region(vaddr) + ("" if mapped else ", not mapped")

    def bpf_code(self, vaddr: int) -> str:
        """The kernel's name for code in the modules' area that it compiled of BPF, or wrote to call some:
        `bpf_prog_…`, `bpf_trampoline_…`; empty for all else."""
        return self._bpf_code(vaddr) if vaddr in self._bridge.layout.modules else ""

    def _region(self, vaddr: int) -> str:
        layout = self._bridge.layout
        if vaddr < UPPER_HALF:
            return "user space"
        if vaddr in layout.modules:
            return f"module area, {'no module listed there' if self._is_known else _NOT_KNOWN}"
        if layout.page_offset_base <= vaddr < min(layout.page_offset_base + _DIRECT_MAP, layout.vmalloc_base):
            return "direct map"
        if layout.vmalloc_base <= vaddr < layout.vmalloc_base + _VMALLOC:
            return "vmalloc area"
        return "nowhere"

    def leads(self, vaddrs: Iterable[int]) -> str | None:
        """Where addresses lead, each once; None without any."""
        return ", ".join(dict.fromkeys(map(self.describe, vaddrs))) or None


def bpf_code(kernel: GuestKernel, vaddr: int) -> str:
    """The name of code that the kernel has in its list of compiled BPF (`bpf_ksym_add`, kernel/bpf/core.c),
    as it prints it; empty for all else."""
    try:
        name, _, module = kernel.addresses.symbol(vaddr).partition(" ")
    except (*UNREADABLE, KeyError):
        return ""
    is_bpf = name.startswith("bpf_") and module.strip("[]") in ("", "bpf")
    return name.partition("+0x0/")[0] if is_bpf else ""


def known_modules(kernel: GuestKernel) -> tuple[list[Module], Unavailable | None]:
    """The modules that the guest's kernel lists, and why these are not all: where it cannot list them, those
    of its list whose code was found."""
    try:
        return listed_modules(kernel), None
    except UNREADABLE as error:
        reason = why("/proc/modules", error)
    modules = kernel.bridge.space.modules
    places = ((name, modules.locate(name)) for name in modules.listed.structs)
    found = [
        Module(name, place.text_size, None, (), False, "Live", place.text_vaddr, "")
        for name, place in places
        if place is not None
    ]
    are_all = modules.listed.is_whole and len(found) == len(modules.listed.structs)
    return found, None if are_all else reason


def listed_modules(kernel: GuestKernel) -> list[Module]:
    """The modules that the guest's kernel lists: none if it cannot have any. One of UNREADABLE if the list
    cannot be read; a line that a forged name has broken is left out (`hidden` and `lsmod` report it)."""
    if not kernel.addresses.has_modules:
        return []
    found: list[Module] = []
    for line in split_lines(kernel.files.read("/proc/modules")):
        with contextlib.suppress(ParseError):
            found.append(parse_module(line))
    return found
