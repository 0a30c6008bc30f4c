"""Whether a function, or a table of functions, is what the trusted package has there.

A function is trusted if it begins in the trusted code of the kernel or of a module of the package, and that
code is in the image as it should be (`check`). A table in the constants of either is trusted with all that is
in it, for `check` compares these, too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property, partial
from typing import NamedTuple

from hybridbridge_vol.bridge.objects.module_structs import module_structs, parts
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.cached_method import cached_method
from hybridbridge_vol.check.integrity import Integrity
from hybridbridge_vol.check.modules.linked_module import RODATA, TEXT
from hybridbridge_vol.check.one_function import FunctionComparison
from hybridbridge_vol.check.symbol_names import bpf_code
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.machine.paging import NO_EXECUTE
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.values import Hook, Operations
from hybridbridge_vol.trust.linked_kernel import LinkedKernel, linked_kernel
from hybridbridge_vol.units import PAGE_SIZE, U64

TRUSTED, NOT_LISTED = "trusted", "module that is not listed"
INSIDE = "inside of a function"
NO_MODULE = "no module: in the area for modules"
TORN = "the image is of more than one moment here"
BEHIND_CODE = "behind the module's code"
_MADE = {
    "bpf_": "BPF program",
    "ftrace_trampoline": "trampoline of the tracer",
    "kprobe_": "copy of an instruction for a kprobe",
}
"""How names of code begin that the kernel made itself, and that it finds in no module (`bpf_ksym_add`,
kernel/bpf/core.c; `ftrace_mod_address_lookup`; KPROBE_INSN_PAGE_SYM)."""
_HEAD = 16
"""Bytes at the beginning of a function that are compared first; the full comparison takes a second."""
_READ = _HEAD + 4
"""With all of a jump that begins in them."""
_CALL_SIZE = 5
_CALL, _JUMP, _RETURN = b"\xe8", b"\xe9", b"\xc3"
_ENDBR, _NOP4 = bytes.fromhex("f30f1efa"), bytes.fromhex("0f1f4000")
_NOP5, _OTHER_NOP5 = bytes.fromhex("0f1f440000"), bytes.fromhex("6666666690")
"""The other one before 5.13, on some processors (`arch_init_ideal_nops`, arch/x86/kernel/alternative.c)."""


class Verdict(NamedTuple):
    """`module` is the one that the function is in, `kernel`, or empty where it is in none. `doubt`: why the
    verdict may be wrong, since it rests on what the image has not; empty if nothing speaks for that."""

    symbol: str
    module: str
    verdict: str
    doubt: str = ""


class Judge:
    """Of one snapshot."""

    def __init__(self, kernel: GuestKernel, memory: TypedMemory, names: KernelNames) -> None:
        self._kernel = kernel
        self._memory = memory
        self._names = names
        bridge = memory.bridge
        symbols, text = bridge.kernel.symbols, bridge.kernel.text_link_vaddr

        def offset(name: str) -> int:
            return (symbols.get(name) or text) - text

        self._code = [(0, offset("_etext")), (offset("_sinittext"), offset("_einittext"))]
        self._constants = [(offset("__start_rodata"), offset("__end_rodata"))]
        self._later = (offset("__start_ro_after_init"), offset("__end_ro_after_init"))

    # --- functions ----------------------------------------------------------------------------------------

    @cached_method
    def function(self, vaddr: int) -> Verdict:
        """Of the function at an address."""
        found = self._names.in_kernel(vaddr)
        if found is not None:
            return self._in_kernel(vaddr, *found)
        placed = self._names.modules.at(vaddr)
        behind = next((name for start, end, name in self.gaps if start <= vaddr < end), "")
        if behind:
            return Verdict("", behind, BEHIND_CODE)
        if placed is not None:
            name = self._names.modules.names(placed.name).describe(vaddr - placed.text_vaddr)
            symbol = name.partition(":")[2]
            if self._names.modules.function(vaddr) is None:
                return Verdict(symbol, placed.name, INSIDE)
            offset = vaddr - placed.text_vaddr
            expected = self._code_of(placed.name)[offset : offset + _READ]
            differs = self._differs(vaddr, bytes(expected), bytes(placed.text.data[offset : offset + _READ]))
            return Verdict(symbol, placed.name, *(self._changed(vaddr) if differs else (TRUSTED,)))
        return self._elsewhere(vaddr)

    @cached_property
    def gaps(self) -> list[tuple[int, int, str]]:
        """Start and end of what is executable behind the code of each module of the package, up to the end of
        the page, and the module: nothing of the module's is there, and what is there cannot be compared."""
        found = []
        for name, placed in self._names.modules.by_name.items():
            end = placed.text_vaddr + len(placed.linked.segments[TEXT])
            found.append((end, page_up(end), name))
        return found

    def _in_kernel(self, vaddr: int, name: str, distance: int) -> Verdict:
        offset = self._names.kernel_offset(vaddr) or 0
        symbol = name + (f"+{distance:#x}" if distance else "")
        if not any(start <= offset < end for start, end in self._code):
            return Verdict(symbol, "kernel", "not in the kernel's code")
        if distance:
            return Verdict(symbol, "kernel", INSIDE)
        differs = self._looks_changed(offset)
        return Verdict(symbol, "kernel", *(self._changed(vaddr) if differs else (TRUSTED,)))

    def _elsewhere(self, vaddr: int) -> Verdict:
        try:
            symbol = self._kernel.addresses.symbol(vaddr)
        except (*UNREADABLE, KeyError):
            symbol = ""
        symbol, _space, module = symbol.partition(" ")
        module = module.strip("[]")
        symbol = "" if symbol.startswith("0x") else symbol.partition("+0x0/")[0]
        made = next((what for name, what in _MADE.items() if symbol.startswith(name)), "")
        if made and (not module or module.startswith(("bpf", "__builtin__"))):
            return Verdict(symbol, "", made)
        if module:
            is_listed = module in {listed.name for listed in self._names.listed}
            if is_listed:
                return Verdict(symbol, module, "module without a trusted file")
            return Verdict(symbol, module, NOT_LISTED, self._names.lost)
        if vaddr not in self._memory.bridge.layout.modules:
            return Verdict(symbol, "", "no module: in no code")
        owner = next((name for start, end, name in self._unlisted if start <= vaddr < end), "")
        verdict = NOT_LISTED if owner else NO_MODULE
        return Verdict(symbol, owner, verdict, self._names.lost)

    def is_executable(self, vaddr: int) -> bool:
        """Whether the processor would execute what is at an address."""
        if self.function(vaddr).verdict == TRUSTED:
            return True
        place = self._memory.bridge.virtual_memory.translate(vaddr) if vaddr >> 63 else None
        return place is not None and not place.entry & NO_EXECUTE

    def is_of_several_moments(self, hook: Hook) -> bool:
        """Whether an object lies where a list's nodes contradict each other, and its function is none. What
        leads to code that could run is suspected all the same: who plants it may change the list, too."""
        if hook.object_vaddr & -PAGE_SIZE not in self._memory.torn:
            return False
        vaddr = hook.function_vaddr
        return self.function(vaddr).verdict == INSIDE or not self.is_executable(vaddr)

    @cached_property
    def _unlisted(self) -> list[tuple[int, int, str]]:
        """Start, end and name of each part of the modules that have a `struct module` in memory."""
        found: list[tuple[int, int, str]] = []
        for name, vaddr in module_structs(self._memory, self._kernel.addresses.module_pages()).items():
            try:
                found += ((start, end, name) for start, end in parts(self._memory, vaddr))
            except UnreadableVirtual:
                continue
        return found

    # --- tables -------------------------------------------------------------------------------------------

    def table(self, vaddr: int) -> Verdict | None:
        """Of a table in trusted constants; None elsewhere: what is in it is to be judged."""
        offset = self._names.kernel_offset(vaddr)
        if offset is not None:
            symbol = self._names.place(vaddr)
            is_constant = any(start <= offset < end for start, end in self._constants)
            is_later = self._later[0] <= offset < self._later[1]
            return Verdict(symbol, "kernel", TRUSTED) if is_constant and not is_later else None
        owner = self._names.modules.with_data(vaddr)
        if owner is None:
            return None
        start = owner.vaddr_of(RODATA, 0)
        if start is None or not start <= vaddr < start + len(owner.linked.segments[RODATA]):
            return None
        return Verdict(self._names.modules.names(owner.name).variable(vaddr), owner.name, TRUSTED)

    def holder(self, vaddr: int) -> Verdict:
        """Where a table lies that is not constant; what its functions are is another question."""
        found = self._names.in_kernel(vaddr)
        if found is not None:
            return Verdict(self._names.place(vaddr), "kernel", TRUSTED)
        owner = self._names.modules.with_data(vaddr)
        if owner is not None:
            symbol = self._names.modules.names(owner.name).variable(vaddr)
            return Verdict(symbol, owner.name, TRUSTED)
        return Verdict("", "", "")

    def functions_of(self, table: Operations) -> Iterator[tuple[str, Hook]]:
        """The functions that a table has. LookupError, UnreadableVirtual."""
        memory = self._memory
        for field, offset in memory.types.functions(table.struct_name).items():
            vaddr = memory.word(table.table_vaddr + offset)
            if vaddr:
                where = table.table_vaddr + offset & U64
                yield field, Hook(f"{table.what} ({field})", vaddr, where)

    # --- changed code -------------------------------------------------------------------------------------

    def _looks_changed(self, offset: int) -> bool:
        """Whether the beginning of a function of the kernel is not as in the package."""
        vaddr = self._memory.bridge.layout.text_vaddr + offset
        try:
            found = self._memory.read(vaddr, _READ)
        except UnreadableVirtual:
            return False  # `check` reports what is missing
        return self._differs(vaddr, bytes(self._expected[offset : offset + _READ]), found)

    def _differs(self, vaddr: int, expected: bytes, found: bytes) -> bool:
        """Whether the beginning of a function is another one, up to where it may return. The call of the
        tracer, which is the first instruction, is a nop while nobody traces the function; `endbr64` may be
        one, too; a jump to the return thunk may be a return."""
        at = 0
        if _OTHER_NOP5 in found:
            found = _with_usual_nops(expected, found)
        if expected.startswith(_ENDBR):
            at = len(_ENDBR)
            if not found.startswith((_ENDBR, _NOP4)):
                return True
        if expected[at : at + 1] == _CALL and found[at : at + _CALL_SIZE] in (_NOP5, _OTHER_NOP5):
            at += _CALL_SIZE
        end = next((end for end in range(at, _HEAD) if self._returns(vaddr, expected, end)), None)
        if end is not None and found[end : end + 1] == _RETURN:
            return expected[at:end] != found[at:end]
        return expected[at:_HEAD] != found[at:_HEAD]

    def _returns(self, vaddr: int, code: bytes, at: int) -> bool:
        """Whether a jump to the return thunk is at an offset of some code."""
        target = vaddr + at + 5 + int.from_bytes(code[at + 1 : at + 5], "little", signed=True) & U64
        return code[at : at + 1] == _JUMP and target in self._return_thunks

    @cached_property
    def _return_thunks(self) -> list[int]:
        return self._memory.bridge.sides.snapshot_all("__x86_return_thunk")

    @cached_method
    def _code_of(self, module: str) -> bytearray:
        """The code that a module should have."""
        placed = self._names.modules.by_name[module]
        return placed.expected(TEXT, placed.text)

    @cached_property
    def _linked(self) -> LinkedKernel:
        return linked_kernel(self._memory.bridge.kernel)

    @cached_property
    def _expected(self) -> bytearray:
        return self._linked.relocated(self._memory.bridge.layout.shift)

    @cached_property
    def _one_function(self) -> FunctionComparison:
        bridge, module_function = self._memory.bridge, self._names.modules.function
        return FunctionComparison(bridge, self._linked, self._expected, module_function)

    def _changed(self, vaddr: int) -> tuple[str, str]:
        """The verdict on a function whose first bytes differ, and a doubt."""
        end = self._end_of(vaddr)
        offset = self._names.kernel_offset(vaddr)
        if offset is not None and self._one_function.is_as_patched(offset, offset + end - vaddr):
            return TRUSTED, ""
        index = bisect_right(self._changes, (vaddr, "\U0010ffff", ""))
        inside = self._changes[index : index + 1]
        before = self._changes[index - 1 : index] if index else []
        for at, what, doubt in (*before, *inside):
            if vaddr <= at < end:
                return f"its code is changed ({what})", doubt
        return TRUSTED, ""

    def _end_of(self, vaddr: int) -> int:
        """Where the function at an address ends."""
        bridge = self._memory.bridge
        offset = self._names.kernel_offset(vaddr)
        if offset is not None:
            following = bridge.kernel.symbols.next_address(bridge.kernel.text_link_vaddr + offset)
            return vaddr + (following or 0) - bridge.kernel.text_link_vaddr - offset
        return vaddr + 1

    @cached_property
    def _changes(self) -> list[tuple[int, str, str]]:
        """Where `check` finds code that differs, and its doubts."""
        bpf_name = partial(bpf_code, self._kernel)
        found = Integrity(
            self._memory.bridge, self._names.listed, bpf_name, not self._names.lost
        ).differences()
        kinds = ("text", "traced", "kprobe", "livepatch", "bpf", "module")
        return sorted(
            (one.vaddr, one.what, one.doubt) for one in found if one.what in kinds and one.vaddr is not None
        )


def _with_usual_nops(expected: bytes, found: bytes) -> bytes:
    """Some code with the nops of 5 bytes, of keys that are off, that the package has in their places."""
    at = expected.find(_NOP5)
    while at >= 0:
        if found[at : at + len(_NOP5)] == _OTHER_NOP5:
            found = found[:at] + _NOP5 + found[at + len(_NOP5) :]
        at = expected.find(_NOP5, at + len(_NOP5))
    return found
