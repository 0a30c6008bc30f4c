"""The kernel's own ways to hook its code, recognised: the function tracer, kprobes, livepatches, BPF.

Each of them is a difference, because whoever enabled it watches or changes what the kernel does. It is
reported by its name and with its target: a piece of code that the kernel copies from a template of its own
(arch/x86/kernel/ftrace.c, `create_trampoline`; arch/x86/kernel/kprobes/opt.c,
`arch_prepare_optimized_kprobe`) and that calls the handler. What is called of BPF is code that the kernel
has in its list of such code: how it was made cannot be shown, so the row says no more than the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from hybridbridge_vol.check.instructions import Instruction
from hybridbridge_vol.check.kernel_context import KernelAround
from hybridbridge_vol.check.symbol_names import Places
from hybridbridge_vol.units import U64

_CALLERS = ("ftrace_caller", "ftrace_regs_caller", "ftrace_graph_caller")
_IN_BETWEEN = "ftrace_ops_assist_func"
"""Calls the registered function if that needs protection against recursion."""
_SPECIAL = {"kprobe_ftrace_handler": "kprobe", "klp_ftrace_handler": "livepatch"}
_PATCHED = re.compile(r"ftrace_(regs_)?call|ftrace_graph_call|ftrace_epilogue")
"""Instructions of arch/x86/kernel/ftrace_64.S that are rewritten while functions are traced."""
_VARIABLES = re.compile(
    r"__SCK__(?:tp_func|fgraph)_\w+|(?:global|graph|kprobe|klp|fgraph)_?\w*_ops|(?:__)?ftrace_\w+"
    r"|function_trace_op|direct_functions"
)
"""Static calls of tracepoints, and the variables in which kernel/trace/ftrace.c, fgraph.c and
trace_functions.c keep the called functions."""
_DISPATCHER = re.compile(r"(?:^|_)bpf_dispatcher_\w+")
"""What leads to the programs of a kind (kernel/bpf/dispatcher.c): a function, a static call and its key."""
_OF_POINTER = (3, 7)
"""Displacement of `mov rdx, [rip + X]` at `ftrace_caller_op_ptr`: each copy has a pointer of its own."""
_CALL, _CALL_SIZE, _CLAC_SIZE = 0xE8, 5, 3

Hook = tuple[str, str]
"""Its kind (traced, kprobe, livepatch, bpf), and where it leads, as text."""


class Tracers:
    """See the module's docstring. `read(vaddr, size)` returns the snapshot's bytes."""

    def __init__(self, around: KernelAround, places: Places, read: Callable[[int, int], bytes]) -> None:
        self._around = around
        self._places = places
        self._read = read

    def at_function(self, found: Instruction) -> Hook | None:
        """What an instruction is that was found where a function calls the tracer; None if it is not the
        tracer's."""
        if found.target is None:
            return None
        made = self._places.bpf_code(found.target)  # a jump on 7.x, and to 5.10's dispatcher
        if made and found.mnemonic in ("call", "jmp"):
            return "bpf", made
        if found.mnemonic != "call":
            return None
        name = self._places.symbol(found.target)
        return ("traced", str(name)) if name in _CALLERS else self._trampoline(found.target)

    def inside(self, vaddr: int, found: Instruction) -> Hook | None:
        """What an instruction is that was found elsewhere in the code: one that the tracer patches in its own
        code, or a kprobe's jump; None for others."""
        if found.target is None:
            return None
        name = self._places.symbol(vaddr)
        if name is not None and _PATCHED.fullmatch(name):
            return "traced", self._places.describe(found.target)
        if found.mnemonic == "jmp" and self._is_detour(found.target):
            return "kprobe", "detour of an optimised kprobe"
        made = self._places.bpf_code(found.target)
        if made and name is not None and _DISPATCHER.search(name):
            return "bpf", made
        return None

    def owner(self, symbol: str, value: int) -> str | None:
        """Whose a variable with this value is: "traced", "bpf", or None."""
        if _DISPATCHER.search(symbol) and self._places.bpf_code(value):
            return "bpf"
        return "traced" if _VARIABLES.fullmatch(symbol) else None

    def _trampoline(self, vaddr: int) -> Hook | None:
        for start, pointer, call in self._templates():
            size = call - start
            there = self._read(vaddr, size + _CALL_SIZE)
            usual = self._around.body(start, size)
            if there[size] == _CALL and _blanked(there[:size], pointer - start) == _blanked(
                usual, pointer - start
            ):
                handler = self._places.describe(_target(there, size + 1, vaddr))
                if handler == _IN_BETWEEN:
                    handler = self._registered(_target(there, pointer - start + _OF_POINTER[0], vaddr))
                return _SPECIAL.get(handler, "traced"), f"trampoline of the tracer, which calls {handler}"
        return None

    def _registered(self, pointer_vaddr: int) -> str:
        """The function of the `struct ftrace_ops` that a trampoline points to: its first word."""
        ops = self._around.word(pointer_vaddr)
        function = None if ops is None else self._around.word(ops)
        return _IN_BETWEEN if function is None else self._places.describe(function)

    def _templates(self) -> Iterator[tuple[int, int, int]]:
        """The start of a template, the instruction that loads the pointer, and the call in it: addresses in
        the snapshot."""
        for name, call in (("ftrace_caller", "ftrace_call"), ("ftrace_regs_caller", "ftrace_regs_call")):
            found = [self._around.address(symbol) for symbol in (name, f"{name}_op_ptr", call)]
            known = [vaddr for vaddr in found if vaddr is not None]
            if len(known) == 3 and known == sorted(known):
                yield known[0], known[1], known[2]

    def _is_detour(self, vaddr: int) -> bool:
        start, access, end = (
            self._around.address(f"optprobe_template_{part}") for part in ("entry", "clac", "val")
        )
        if start is None or access is None or end is None or not start < access < end:
            return False
        there, usual = self._read(vaddr, end - start), self._around.body(start, end - start)
        # `clac`, or nops if the processor does not have it
        first, behind = access - start, access - start + _CLAC_SIZE
        return there[:first] == usual[:first] and there[behind:] == usual[behind:]


def _target(code: bytes, field: int, vaddr: int) -> int:
    """The target of a 32-bit displacement that ends its instruction, in code at `vaddr`."""
    return vaddr + field + 4 + int.from_bytes(code[field : field + 4], "little", signed=True) & U64


def _blanked(code: bytes, pointer: int) -> bytes:
    """Code without the displacement of the instruction at `pointer`."""
    start, end = (pointer + part for part in _OF_POINTER)
    return code[:start] + code[end:]
