"""What a piece of x86-64 code does, without padding, so that two encodings of the same can be compared.

A kernel that patches its text writes the same thing in many ways: nops of any kind and length, short jumps
for long ones, `int3` behind an instruction that never falls through, a call of a thunk for an indirect call,
a jump to a return thunk for `ret`, no lock prefix on a single processor. `Reader.meaning` removes all of
these differences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.units import U64

Meaning = tuple[str, ...]
"""Instructions as text; the target of a branch inside the piece is `@` and an index into this tuple."""

NOPS = frozenset(bytes.fromhex(text) for text in (
    "90", "6690", "0f1f00", "0f1f4000", "0f1f440000", "660f1f440000", "0f1f8000000000", "0f1f840000000000",
    "66660f1f840000000000"[2:], "6666666690", "66666690", "666690",
))  # fmt: skip
"""Those of x86_nops, p6_nops and k8_nops, arch/x86/include/asm/nops.h."""
_ENDLESS = frozenset({"jmp", "ret", "ud2"})
_THUNK = re.compile(r"__x86_indirect_(?:its_|call_|jump_)?thunk_(r\w+)")
_RETURN_THUNKS = (
    "__x86_return_thunk",
    "retbleed_return_thunk",
    "srso_return_thunk",
    "srso_alias_return_thunk",
    "its_return_thunk",
    "call_depth_return_thunk",
    "zen_return_thunk",
)
"""arch/x86/lib/retpoline.S; what `x86_return_thunk` is set to, arch/x86/kernel/cpu/bugs.c."""
_RIP = re.compile(r"\[rip ([+-]) (0x[0-9a-f]+|\d+)\]")
_JUMPS = re.compile(r"(?:call|loop\w*|j\w+)$")


class Instruction(NamedTuple):
    """One decoded instruction. `target`: where a direct branch leads, None for any other."""

    vaddr: int
    size: int
    mnemonic: str
    operands: str
    target: int | None

    def __str__(self) -> str:
        return f"{self.mnemonic} {self.operands}".rstrip()


class Thunks(NamedTuple):
    """Kernel code that replaces one instruction: addresses of the thunks for indirect branches, with the name
    of the register, and of the return thunks."""

    registers: Mapping[int, str]
    returns: frozenset[int]

    @classmethod
    def of(cls, symbols: Symbols, shift: int) -> Thunks:
        """From a kernel's symbols, with `shift` added to each address."""
        registers = {
            address + shift & U64: found[1]
            for address, name in symbols.with_prefix("__x86_indirect_")
            if (found := _THUNK.fullmatch(name))
        }
        returns = [address for name in _RETURN_THUNKS for address in symbols.addresses(name)]
        return cls(registers, frozenset(address + shift & U64 for address in returns))


class Reader:
    """Decodes instructions; addresses are virtual, in whatever space the thunks are in."""

    def __init__(self, thunks: Thunks) -> None:
        self._thunks = thunks
        self._anywhere: dict[bytes, Meaning] = {}
        """The meanings of position-independent pieces."""

    @cached_property
    def _capstone(self) -> Any:
        import capstone

        return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)

    def register(self, vaddr: int) -> str | None:
        """The register that a thunk at that address branches to."""
        return self._thunks.registers.get(vaddr)

    @property
    def return_thunks(self) -> frozenset[int]:
        """Addresses of the thunks that a function may jump to instead of returning."""
        return self._thunks.returns

    def decode(self, code: bytes, vaddr: int) -> list[Instruction]:
        """All whole instructions; a byte that does not begin one becomes an instruction called `.byte`."""
        found: list[Instruction] = []
        at = 0
        while at < len(code):
            for address, size, mnemonic, operands in self._capstone.disasm_lite(code[at:], vaddr + at):
                target = (
                    int(operands, 16) & U64 if _JUMPS.match(mnemonic) and operands.startswith("0x") else None
                )
                found.append(
                    Instruction(address & U64, size, mnemonic, _absolute(operands, address + size), target)
                )
                at += size
            if at < len(code):
                found.append(Instruction(vaddr + at, 1, ".byte", f"{code[at]:#04x}", None))
                at += 1
        return found

    def meaning(self, code: bytes, vaddr: int, behind_vaddr: int | None = None) -> Meaning:
        """See the module's docstring. `behind_vaddr`: the address that will follow the piece where it is
        copied to."""
        known = self._anywhere.get(code)
        if known is not None:
            return known
        ends = (vaddr + len(code), behind_vaddr)
        instructions = self.decode(code, vaddr)
        kept = _without_padding(instructions, ends)
        words: list[str] = []
        for instruction in kept:
            target = instruction.target
            if target is None:
                words.append(str(instruction).removeprefix("lock "))
            elif target in ends:
                words.append(f"{instruction.mnemonic} @{len(kept)}")
            elif vaddr <= target < vaddr + len(code):
                words.append(f"{instruction.mnemonic} @{sum(other.vaddr < target for other in kept)}")
            elif instruction.mnemonic in ("call", "jmp") and target in self._thunks.registers:
                words.append(f"{instruction.mnemonic} {self._thunks.registers[target]}")
            elif instruction.mnemonic == "jmp" and target in self._thunks.returns:
                words.append("ret")
            else:
                words.append(str(instruction))
        meaning = tuple(words)
        if not any(instruction.target or "0x" in instruction.operands for instruction in instructions):
            self._anywhere[code] = meaning
        return meaning

    def is_same_anywhere(self, code: bytes) -> bool:
        """Whether a piece is position-independent."""
        self.meaning(code, 0)
        return code in self._anywhere


def _absolute(operands: str, following: int) -> str:
    """Operands with addresses instead of displacements from RIP, and without the `ds` prefix that replaces a
    lock prefix."""
    return _RIP.sub(lambda m: f"[{following + int(m[1] + m[2], 0) & U64:#x}]", operands.replace("ds:[", "["))


def _without_padding(instructions: list[Instruction], ends: tuple[int | None, ...]) -> list[Instruction]:
    """Without nops, `int3` that is never reached, jumps over such padding, and fences that belong to an
    indirect branch."""
    kept: list[Instruction] = []
    targets = {instruction.target for instruction in instructions}
    reached, resumes = True, 0
    for index, instruction in enumerate(instructions):
        unreached = instruction.mnemonic == "int3" and not reached and instruction.vaddr not in targets
        if instruction.vaddr < resumes or unreached:
            continue
        reached = True
        if _is_nop(instruction):
            continue
        if instruction.mnemonic == "jmp" and _skips_padding(instructions[index:], ends):
            resumes = _resumes_at(instruction, instructions[-1])
            continue
        if _is_indirect_branch(instruction) and kept and kept[-1].mnemonic == "lfence":
            kept.pop()
        reached = instruction.mnemonic not in _ENDLESS
        kept.append(instruction)
    return kept


def _is_indirect_branch(instruction: Instruction) -> bool:
    return instruction.mnemonic in ("jmp", "call") and instruction.target is None


def _resumes_at(jump: Instruction, last: Instruction) -> int:
    """Where execution goes on after a jump over padding: behind the piece if it leads elsewhere."""
    assert jump.target is not None
    return jump.target if jump.target > jump.vaddr else last.vaddr + 1


def _is_nop(instruction: Instruction) -> bool:
    return instruction.mnemonic in ("nop", "endbr64")


def _skips_padding(instructions: list[Instruction], ends: tuple[int | None, ...]) -> bool:
    """Whether the jump that comes first leads forward over nothing but padding and equal jumps."""
    target = instructions[0].target
    if target is None:
        return False
    for later in instructions[1:]:
        if later.vaddr == target:
            return True
        if not (
            _is_nop(later) or later.mnemonic == "int3" or (later.mnemonic == "jmp" and later.target == target)
        ):
            return False
    return target in ends
