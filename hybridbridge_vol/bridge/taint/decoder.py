"""Transfer rules: what one instruction does to labels, as the native engine understands it.

An instruction is decoded once. Its rule names where the result goes, what it is made of, and the registers of
its memory operand's address; the engine (native/taint.c) applies it at every execution. An instruction that
is not known here gets the most careful rule, all outputs from all inputs, and is counted by name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import capstone
from capstone import x86_const as x86

from hybridbridge_vol.bridge.taint.rules import (
    _NO_BITS,
    _RAX,
    _RBP,
    _RDI,
    _RDX,
    _RSI,
    _RSP,
    NO_REGISTER,
    Bits,
    Kind,
    Operand,
    Place,
    Rule,
)
from hybridbridge_vol.bridge.text.ud1 import ud1_size
from hybridbridge_vol.units import U64

GENERAL_BYTES = 128
VECTOR_SIZE = 16
MAX_INSTRUCTION = 15
"""Bytes of the longest instruction (SDM volume 2A, 2.3.11)."""
MAX_BLOCK = 128
"""Instructions decoded for one block: one is rarely longer."""
_AT_ONCE = 8
"""Instructions that capstone is asked for at a time: most blocks end within as many."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A decoded instruction: its address and size, its rule, and whether it ends a basic block."""

    vaddr: int
    size: int
    rule: Rule
    ends: bool
    static_field: int = 0
    """Offset of the 32-bit displacement in its bytes, if it names a static address; else 0."""
    relative_field: int = 0
    """Offset of a displacement from RIP in its bytes; else 0. Without one the same bytes mean the same
    everywhere."""

    def at(self, vaddr: int) -> Instruction:
        """The same elsewhere."""
        return Instruction(vaddr, self.size, self.rule, self.ends, self.static_field, self.relative_field)


_GENERAL_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)))


def _register_slots() -> dict[int, tuple[int, int]]:
    """Capstone's register number to (byte slot, size)."""
    slots: dict[int, tuple[int, int]] = {}

    def add(name: str, slot: int, size: int) -> None:
        slots[getattr(x86, "X86_REG_" + name.upper())] = (slot, size)

    legacy = {"rax": "a", "rcx": "c", "rdx": "d", "rbx": "b"}
    for number, name in enumerate(_GENERAL_NAMES):
        slot = number * 8
        add(name, slot, 8)
        if number >= 8:
            for suffix, size in (("d", 4), ("w", 2), ("b", 1)):
                add(name + suffix, slot, size)
            continue
        add("e" + name[1:], slot, 4)
        add(name[1:], slot, 2)
        if name in legacy:
            add(legacy[name] + "l", slot, 1)
            add(legacy[name] + "h", slot + 1, 1)
        else:
            add(name[1:] + "l", slot, 1)
    for number in range(16):
        add(f"xmm{number}", GENERAL_BYTES + number * VECTOR_SIZE, VECTOR_SIZE)
        add(f"ymm{number}", GENERAL_BYTES + number * VECTOR_SIZE, VECTOR_SIZE)
    return slots


_SLOTS = _register_slots()

_NOTHING = frozenset(
    [
        "nop",
        "endbr64",
        "lfence",
        "mfence",
        "sfence",
        "pause",
        "cli",
        "sti",
        "cld",
        "std",
        "clac",
        "stac",
        "swapgs",
        "hlt",
        "ud1",
        "ud2",
        "int3",
        "int",
        "wbinvd",
        "invlpg",
        "prefetchw",
        "prefetcht0",
        "prefetcht1",
        "prefetcht2",
        "prefetchnta",
        "clflush",
        "clflushopt",
        "wrmsr",
        "out",
        "outsb",
        "outsw",
        "outsd",
        "not",
        "ret",
        "retf",
        "iretq",
        "iret",
        "sysret",
        "sysretq",
        "lgdt",
        "lidt",
        "ltr",
        "lldt",
        "clts",
        "fwait",
        "wait",
        "serialize",
        "verw",
        "data16",
        "xsetbv",
        "clc",
        "stc",
        "cmc",
    ]
)
_MOVES = frozenset(
    [
        "mov",
        "movabs",
        "movzx",
        "movsx",
        "movsxd",
        "movnti",
        "movaps",
        "movups",
        "movdqa",
        "movdqu",
        "movq",
        "movd",
        "movapd",
        "movupd",
        "movntdq",
    ]
)
_TO_TARGET_AND_FLAGS = frozenset(
    [
        "add",
        "sub",
        "adc",
        "sbb",
        "inc",
        "dec",
        "neg",
        "shl",
        "shr",
        "sar",
        "sal",
        "rol",
        "ror",
        "rcl",
        "rcr",
        "shld",
        "shrd",
        "bts",
        "btr",
        "btc",
        "imul",
    ]
)
_TO_TARGET = frozenset(
    ["bsf", "bsr", "tzcnt", "lzcnt", "popcnt", "bswap", "crc32", "rorx", "sarx", "shlx", "shrx"]
)
_TO_FLAGS = frozenset(["cmp", "bt"])
_BITWISE = frozenset(["and", "or", "xor", "test"])
_READS_FLAGS = frozenset(["adc", "sbb", "rcl", "rcr"])
_GENERIC = frozenset(
    [
        "mul",
        "imul",
        "div",
        "idiv",
        "cmpxchg8b",
        "cmpxchg16b",
        "pushfq",
        "popfq",
        "lahf",
        "sahf",
        "rdtsc",
        "rdtscp",
        "cpuid",
        "rdmsr",
        "in",
        "xgetbv",
        "sgdt",
        "sidt",
        "str",
        "rdpmc",
    ]
)
_MADE_OF_NOTHING = frozenset(["rdtsc", "rdtscp", "cpuid", "rdmsr", "in", "xgetbv", "rdpmc"])
_CLEARING_VECTORS = frozenset(["pxor", "xorps", "xorpd", "vpxor"])
_SIGN_EXTENSIONS = {"cbw": (1, 2), "cwde": (2, 4), "cdqe": (4, 8)}
_SIGN_COPIES = {"cwd": 2, "cdq": 4, "cqo": 8}
_STRING_SIZES = {"b": 1, "w": 2, "d": 4, "q": 8}
_TWO_BYTE_OPCODE = 0x0F
"""First byte of vector instructions; string instructions of the same name ("movsd") have one byte."""
_ELSEWHERE = frozenset(
    [
        capstone.CS_GRP_JUMP,
        capstone.CS_GRP_CALL,
        capstone.CS_GRP_RET,
        capstone.CS_GRP_IRET,
        capstone.CS_GRP_BRANCH_RELATIVE,
    ]
)
"""Capstone's groups of instructions after which code may go on elsewhere; `loop` is in the last one alone."""


class Decoder:
    """Decodes blocks of one side. `statics` are the virtual addresses at which the twin's static references
    reach the snapshot; none for home. `per_cpu` are what `%gs:` references that do name."""

    def __init__(self, statics: tuple[range, ...], unknown: Counter[str], per_cpu: range = range(0)) -> None:
        self._capstone = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._capstone.detail = True
        self._sizes = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._statics = statics
        self._per_cpu = per_cpu
        self._unknown = unknown
        self._met: dict[bytes, Instruction] = {}
        """By their bytes: most are met many times, and taking one apart takes long."""

    def block(self, code: bytes, vaddr: int) -> list[Instruction]:
        """The instructions from `vaddr` to the first one that may go elsewhere; empty if there is none."""
        found: list[Instruction] = []
        at = 0
        while len(found) < MAX_BLOCK:
            sizes = [
                size
                for _vaddr, size, _name, _operands in self._sizes.disasm_lite(code[at:], vaddr + at, _AT_ONCE)
            ]
            if not sizes:
                break
            for size in sizes:
                instruction = self._at(code, at, size, vaddr)
                found.append(instruction)
                if instruction.ends:
                    return found
                at += size
        return found

    def _at(self, code: bytes, offset: int, size: int, vaddr: int) -> Instruction:
        """The instruction of `size` bytes at an offset of the code that lies at `vaddr`."""
        raw, here = code[offset : offset + size], vaddr + offset
        met = self._met.get(raw)
        if met is not None and (not met.relative_field or self._is_like(met, raw, here)):
            return met.at(here)
        unknown = self._unknown.total()
        (insn,) = self._capstone.disasm(raw, here, 1)
        instruction = self._instruction(insn)
        if insn.mnemonic == "ud1":  # capstone leaves its operands out
            return replace(instruction, size=ud1_size(code[offset:]) or size)
        of_place = bool(self._per_cpu and instruction.relative_field and insn.prefix[1] == x86.X86_PREFIX_GS)
        if self._unknown.total() == unknown and not of_place:  # what is not known is counted each time
            self._met[raw] = instruction
        return instruction

    def _is_like(self, met: Instruction, raw: bytes, vaddr: int) -> bool:
        """Whether the same bytes at another address reach the snapshot, or not, as they did where they were
        met."""
        field = met.relative_field
        reached = vaddr + met.size + int.from_bytes(raw[field : field + 4], "little", signed=True)
        return self._reaches(reached) == bool(met.static_field)

    # --- one instruction ----------------------------------------------------------------------------------

    def _instruction(self, insn: capstone.CsInsn) -> Instruction:
        name = insn.mnemonic.split()[-1]
        base = index = NO_REGISTER
        bits, field, relative = _NO_BITS, 0, 0
        for operand in insn.operands:
            if operand.type == x86.X86_OP_MEM:
                base, index = _general(operand.mem.base), _general(operand.mem.index)
                bits |= Bits.MEMORY
                if operand.mem.base == x86.X86_REG_RIP:
                    relative = insn.disp_offset
                if operand.mem.segment in (x86.X86_REG_GS, x86.X86_REG_FS):
                    bits |= Bits.STATIC if self._named(insn, operand.mem) in self._per_cpu else _NO_BITS
                elif self._is_static(insn, operand.mem):
                    bits |= Bits.STATIC
                    field = insn.disp_offset
        rule = self._rule(insn, name)
        if rule.bits & Bits.MEMORY or bits & Bits.MEMORY and name != "lea":
            rule = replace(
                rule,
                bits=rule.bits | bits,
                base=rule.base if rule.base != NO_REGISTER else base,
                index=rule.index if rule.index != NO_REGISTER else index,
            )
        ends = bool(_ELSEWHERE & set(insn.groups)) or name in ("ud1", "ud2", "hlt", "int3")
        return Instruction(insn.address, insn.size, rule, ends, field, relative)

    def _is_static(self, insn: capstone.CsInsn, memory: capstone.x86.X86OpMem) -> bool:
        return self._reaches(self._named(insn, memory))

    @staticmethod
    def _named(insn: capstone.CsInsn, memory: capstone.x86.X86OpMem) -> int:
        """The address that an operand names, without its registers."""
        own = insn.address + insn.size if memory.base == x86.X86_REG_RIP else 0
        return (own + int(memory.disp)) & U64

    def _reaches(self, value: int) -> bool:
        address = value & U64
        return any(address in statics for statics in self._statics)

    def _operand(self, operand: capstone.x86.X86Op) -> Operand:
        if operand.type == x86.X86_OP_REG:
            slot = _SLOTS.get(operand.reg)
            return Operand(Place.REGISTER, *slot) if slot else Operand(Place.CONSTANT, 0, operand.size)
        if operand.type == x86.X86_OP_MEM:
            return Operand(Place.MEMORY, 0, min(operand.size, 64))
        return Operand(
            Place.SNAPSHOT_ADDRESS if self._reaches(operand.imm) else Place.CONSTANT, 0, operand.size
        )

    def _rule(self, insn: capstone.CsInsn, name: str) -> Rule:
        operands = [self._operand(operand) for operand in insn.operands]
        if name in _NOTHING or name.startswith("j") and insn.operands[0].type == x86.X86_OP_IMM:
            return Rule(Kind.NONE)
        if name in ("jmp", "call"):
            source = operands[0] if insn.operands[0].type != x86.X86_OP_IMM else Operand()
            return Rule(Kind.JUMP, Bits.PUSHES if name == "call" else _NO_BITS, source=source)
        if name in _MOVES and len(operands) == 2:
            return self._move(insn, name, operands)
        if name == "lea":
            return self._lea(insn, operands[0])
        if name in ("push", "pop"):
            return _stack(name, operands[0])
        if name == "leave":
            return Rule(
                Kind.COPY, Bits.MEMORY, _general_operand(_RBP, 8), Operand(Place.MEMORY, 0, 8), base=_RBP
            )
        if name in _BITWISE:
            return self._bitwise(insn, name, operands)
        if name in ("sub", "sbb") and len(operands) == 2 and operands[0] == operands[1]:
            if name == "sub":
                return Rule(Kind.CLEAR, Bits.WRITES_FLAGS, operands[0])
            return Rule(
                Kind.ALU, Bits.READS_FLAGS | Bits.WRITES_FLAGS, operands[0], Operand(Place.CONSTANT, 0, 1)
            )
        if name in _CLEARING_VECTORS and operands[-1] == operands[-2]:
            return Rule(Kind.CLEAR, _NO_BITS, operands[0])
        if name in _TO_FLAGS:
            return Rule(Kind.ALU, Bits.WRITES_FLAGS, Operand(), operands[0], operands[1])
        if name in _TO_TARGET or name in _TO_TARGET_AND_FLAGS and (name != "imul" or len(operands) > 1):
            return self._arithmetic(name, operands)
        if name.startswith("set") and operands:
            return Rule(Kind.ALU, Bits.READS_FLAGS, operands[0], Operand(Place.CONSTANT, 0, 1))
        if name.startswith("cmov"):
            return Rule(Kind.COPY, Bits.KEEPS_TARGET, operands[0], operands[1])
        if name in ("xchg", "xadd", "cmpxchg"):
            return _swap(name, operands)
        if name in _SIGN_EXTENSIONS:
            small, large = _SIGN_EXTENSIONS[name]
            return Rule(
                Kind.COPY, Bits.SIGN_EXTENDS, _general_operand(_RAX, large), _general_operand(_RAX, small)
            )
        if name in _SIGN_COPIES:
            size = _SIGN_COPIES[name]
            return Rule(Kind.ALU, _NO_BITS, _general_operand(_RDX, size), _general_operand(_RAX, size))
        if name[-1] in _STRING_SIZES and insn.opcode[0] != _TWO_BYTE_OPCODE:
            if name[:-1] in ("movs", "stos", "lods"):
                return _string(name)
            if name[:-1] == "cmps":
                return Rule(
                    Kind.GENERIC, Bits.MEMORY | Bits.WRITES_FLAGS | Bits.TWO_STRINGS, base=_RSI, index=_RDI
                )
            if name[:-1] == "scas":
                return Rule(Kind.GENERIC, Bits.MEMORY | Bits.WRITES_FLAGS, base=_RDI, reads=1 << _RAX)
        if name not in _GENERIC:
            self._unknown[name] += 1
        return self._generic(insn, name)

    def _move(self, insn: capstone.CsInsn, name: str, operands: list[Operand]) -> Rule:
        target, source = operands
        if source.place == Place.REGISTER and source.size > target.size:
            source = _sized(source, target.size)
        if source.place in (Place.CONSTANT, Place.SNAPSHOT_ADDRESS):
            if source.place == Place.CONSTANT:
                return Rule(Kind.CLEAR, _NO_BITS, target)
            source = _sized(source, target.size)
        if source.place == Place.MEMORY and source.size > target.size:
            source = _sized(source, target.size)
        bits = Bits.SIGN_EXTENDS if name in ("movsx", "movsxd") else _NO_BITS
        return Rule(Kind.COPY, bits, target, source)

    def _lea(self, insn: capstone.CsInsn, target: Operand) -> Rule:
        memory = insn.operands[1].mem
        parts = [
            _general_operand(number, 8)
            for number in (_general(memory.base), _general(memory.index))
            if number != NO_REGISTER
        ]
        bits = Bits.STATIC if self._is_static(insn, memory) else _NO_BITS
        if not parts and not bits:
            return Rule(Kind.CLEAR, _NO_BITS, target)
        source, second, *_ = [*parts, Operand(), Operand()]
        return Rule(Kind.ALU, bits, target, source, second)

    def _bitwise(self, insn: capstone.CsInsn, name: str, operands: list[Operand]) -> Rule:
        target, second = operands
        if name == "xor" and target == second:
            return Rule(Kind.CLEAR, Bits.WRITES_FLAGS, target)
        mask = U64
        if name in ("and", "test") and insn.operands[1].type == x86.X86_OP_IMM:
            value = insn.operands[1].imm & mask
            mask = int.from_bytes(
                bytes(0xFF if byte else 0 for byte in value.to_bytes(8, "little")), "little"
            )
        result = Operand() if name == "test" else target
        return Rule(Kind.BITS, Bits.WRITES_FLAGS, result, target, _sized(second, target.size), mask=mask)

    def _arithmetic(self, name: str, operands: list[Operand]) -> Rule:
        bits = Bits.WRITES_FLAGS if name in _TO_TARGET_AND_FLAGS else _NO_BITS
        if name in _READS_FLAGS:
            bits |= Bits.READS_FLAGS
        if name == "sub":
            bits |= Bits.SUBTRACTS
        target, *sources = operands
        replaced = name in _TO_TARGET and name != "crc32" or name == "imul" and len(sources) > 1
        if replaced and sources:
            sources = [*sources, Operand()]
        else:
            sources = [target, *sources, Operand()]
        return Rule(Kind.ALU, bits, target, sources[0], sources[1])

    def _generic(self, insn: capstone.CsInsn, name: str) -> Rule:
        addressing = {
            register
            for operand in insn.operands
            if operand.type == x86.X86_OP_MEM
            for register in (operand.mem.base, operand.mem.index)
        }
        explicit = {operand.reg for operand in insn.operands if operand.type == x86.X86_OP_REG}
        read, written = insn.regs_access()
        reads = _mask(register for register in read if register not in addressing or register in explicit)
        writes = _mask(written)
        stack = 1 << _RSP
        if name in _MADE_OF_NOTHING:
            reads = 0
        reads |= _mask(
            register for register in written if register in _SLOTS and _SLOTS[register][1] < 4
        )  # kept beside
        bits = Bits.MEMORY if any(operand.type == x86.X86_OP_MEM for operand in insn.operands) else _NO_BITS
        if x86.X86_REG_EFLAGS in read:
            bits |= Bits.READS_FLAGS
        if x86.X86_REG_EFLAGS in written:
            bits |= Bits.WRITES_FLAGS
        return Rule(Kind.GENERIC, bits, reads=reads & ~stack, writes=writes & ~stack)


def _general(register: int) -> int:
    slot = _SLOTS.get(register)
    return slot[0] // 8 if slot and slot[0] < GENERAL_BYTES else NO_REGISTER


def _general_operand(number: int, size: int) -> Operand:
    return Operand(Place.REGISTER, number * 8, size)


def _sized(operand: Operand, size: int) -> Operand:
    return Operand(operand.place, operand.slot, size)


def _mask(registers: object) -> int:
    """Bits 0-15 for general registers, 16-31 for vector registers."""
    mask = 0
    for register in registers:  # type: ignore[attr-defined]
        slot = _SLOTS.get(register)
        if slot:
            mask |= 1 << (
                slot[0] // 8 if slot[0] < GENERAL_BYTES else 16 + (slot[0] - GENERAL_BYTES) // VECTOR_SIZE
            )
    return mask


def _stack(name: str, operand: Operand) -> Rule:
    """push and pop; where the operand is memory too, its address is the operand's and the stack's is not
    checked."""
    stack = Operand(Place.MEMORY, 0, 8)
    base = NO_REGISTER if operand.place == Place.MEMORY else _RSP
    if name == "push":
        return Rule(Kind.COPY, Bits.MEMORY | Bits.PUSHES, stack, _sized(operand, 8), base=base)
    return Rule(Kind.COPY, Bits.MEMORY | Bits.POPS, operand, stack, base=base)


def _swap(name: str, operands: list[Operand]) -> Rule:
    target, source = operands
    if source.place == Place.MEMORY:
        target, source = source, target
    kind = {"xchg": Kind.SWAP, "xadd": Kind.ADDSWAP, "cmpxchg": Kind.COMPARESWAP}[name]
    bits = Bits.MEMORY if target.place == Place.MEMORY else _NO_BITS
    return Rule(kind, bits | Bits.KEEPS_TARGET if name == "cmpxchg" else bits, target, source)


def _string(name: str) -> Rule:
    size = _STRING_SIZES[name[-1]]
    memory, accumulator = Operand(Place.MEMORY, 0, size), _general_operand(_RAX, size)
    if name.startswith("movs"):
        return Rule(Kind.STRING, Bits.MEMORY, memory, memory, base=_RSI, index=_RDI)
    if name.startswith("stos"):
        return Rule(Kind.STRING, Bits.MEMORY, memory, accumulator, base=_RDI)
    return Rule(Kind.STRING, Bits.MEMORY, accumulator, memory, base=_RSI)
